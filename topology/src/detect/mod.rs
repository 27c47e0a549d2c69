//! Finds out what a machine looks like: the one at hand, or one that a file or a text describes.

mod addresses;
#[cfg(feature = "hwloc")]
mod description;
#[cfg(feature = "hwloc")]
mod hwloc;
mod live;
#[cfg(any(test, not(feature = "hwloc")))]
mod sysfs;

use std::io;
use std::path::{Path, PathBuf};

use crate::cpus::{CPU_LIMIT, CpusError};
use crate::cuda::{self, CudaEnvironment};
use crate::machine::Machine;

/// Largest XML file that is read: the machines with the most cores give some MiB.
pub const XML_LIMIT_BYTES: u64 = 64 << 20;

/// Why there is no [`Machine`].
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is larger than any machine's.
    #[error("{} is larger than {limit} MiB, which no machine's topology is", path.display(), limit = XML_LIMIT_BYTES >> 20)]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// hwloc does not take a file.
    #[error("{} is not a topology that hwloc understands ({reason}): write one by `lstopo FILE.xml`", path.display())]
    NotXml {
        /// Which.
        path: PathBuf,
        /// What hwloc said.
        reason: String,
    },
    /// A description is not one.
    #[error("{text:?} does not describe a machine: {reason}")]
    Description {
        /// What was written, shortened.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This machine cannot be looked at.
    #[error("cannot find out what this machine looks like: {0}")]
    Live(String),
    /// What was found does not hang together.
    #[error("{from}: {reason}")]
    Impossible {
        /// The machine.
        from: String,
        /// What.
        reason: String,
    },
    /// A list of CPUs in a description or of the kernel.
    #[error(transparent)]
    Cpus(#[from] CpusError),
    /// The program cannot do that.
    #[error(
        "this program was built without hwloc, so it can look at this machine alone; build it with the feature `hwloc`"
    )]
    WithoutHwloc,
}

/// The machine at hand: with the CPUs that this process was given, the ordinals that CUDA has for it, addresses and mount paths.
pub fn this_machine() -> Result<Machine, MachineError> {
    #[cfg(feature = "hwloc")]
    let mut machine = hwloc::this_machine()?;
    #[cfg(not(feature = "hwloc"))]
    let mut machine = sysfs::read(Path::new("/sys"))?;
    live::complete(&mut machine)?;
    finish(machine, &CudaEnvironment::of_process())
}

/// The machine of an XML file by hwloc (`lstopo FILE.xml`). All its CPUs that were allowed there are allowed; no GPU is hidden.
#[cfg(feature = "hwloc")]
pub fn from_xml(path: &Path) -> Result<Machine, MachineError> {
    finish(hwloc::from_xml(path)?, &CudaEnvironment::default())
}

/// Refused: only hwloc reads its files.
#[cfg(not(feature = "hwloc"))]
pub fn from_xml(_path: &Path) -> Result<Machine, MachineError> {
    Err(MachineError::WithoutHwloc)
}

/// The machine of a description, `pack:2 [numa] l3:2 core:4 pu:2 | gpu@0 nic@1 nvme@1 cpus=0-7`: before the bar as hwloc takes it
/// (`man hwloc`, synthetic topologies), after it devices with the number of their node (`?` where it is not known), and the CPUs that
/// the process was given.
#[cfg(feature = "hwloc")]
pub fn from_description(text: &str) -> Result<Machine, MachineError> {
    let description = description::Description::parse(text)?;
    let mut machine = hwloc::from_synthetic(text, description.hardware)?;
    description.add_to(&mut machine, text)?;
    finish(machine, &CudaEnvironment::default())
}

/// Refused: only hwloc reads its descriptions.
#[cfg(not(feature = "hwloc"))]
pub fn from_description(_text: &str) -> Result<Machine, MachineError> {
    Err(MachineError::WithoutHwloc)
}

/// Sorts, numbers the GPUs, and makes sure of what [`Machine`] promises.
fn finish(mut machine: Machine, environment: &CudaEnvironment) -> Result<Machine, MachineError> {
    machine.sort();
    let doubt = cuda::set_ordinals(&mut machine.gpus, environment);
    machine.doubts.extend(doubt);
    let impossible =
        |reason: &str| Err(MachineError::Impossible { from: machine.source.clone(), reason: reason.into() });
    if machine.cores.is_empty() || machine.nodes.is_empty() {
        return impossible("there is no core");
    }
    let online = machine.online();
    if online.len() != machine.cores.iter().map(|core| core.cpus.len()).sum::<usize>() {
        return impossible("a CPU is in two cores");
    }
    if online.iter().next_back() >= Some(CPU_LIMIT) {
        return impossible("a CPU has a number that no system gives");
    }
    machine.allowed = machine.allowed.and(&online);
    if machine.allowed.is_empty() {
        return impossible("none of its CPUs may be used");
    }
    Ok(machine)
}
