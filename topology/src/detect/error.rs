//! Why a machine cannot be found out.

use std::io;
use std::path::PathBuf;

use crate::cpus::CpusError;

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
    /// A file is not what it should be.
    #[error("{} is not a topology as hwloc writes it ({reason}): write one by `lstopo FILE.xml`", path.display())]
    NotXml {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
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
        "this program was built without hwloc, so it cannot make machines of descriptions; build it with the feature `hwloc`"
    )]
    WithoutHwloc,
}
