//! Which cards this process can use.

use std::fmt;

use cudarc::driver::{DriverError, result, sys};

use super::driver::{advice, cuda_version, describe, driver_present, driver_version};
use super::pci::PciId;
use super::visible::Visible;

/// Oldest driver whose CUDA version takes the kernels' PTX, and the release that first had it.
const OLDEST_CUDA: (u32, u32) = (12, 0);
const OLDEST_DRIVER: &str = "525.60.13";
/// The kernels' PTX is made for this compute capability and newer ones.
const OLDEST_CAPABILITY: (u32, u32) = (7, 0);

/// A card that the driver shows to this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its address, which names it.
    pub pci: PciId,
    /// Its number in the driver's order, after `CUDA_VISIBLE_DEVICES`; good for this process alone.
    pub ordinal: i32,
    /// `GPU-…`, which `CUDA_VISIBLE_DEVICES` understands.
    pub uuid: String,
    /// Model.
    pub name: String,
    /// Compute capability: (7, 5) is Turing.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Highest clock of its multiprocessors.
    pub clock_mhz: u32,
    /// Its memory in all.
    pub memory_bytes: u64,
    /// CUDA version of the driver.
    pub cuda_version: (u32, u32),
    /// Version of the driver, where the kernel tells it.
    pub driver_version: Option<String>,
}

/// Why no card can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCards {
    /// There is no libcuda.
    #[error(
        "no GPU: libcuda.so.1 is not found; install NVIDIA driver {OLDEST_DRIVER} or newer (a container needs `--gpus all`)"
    )]
    NoDriver,
    /// The driver is too old.
    #[error("no GPU: the NVIDIA driver is one of CUDA {found}; install {OLDEST_DRIVER} (CUDA 12.0) or newer")]
    OldDriver {
        /// What it is.
        found: String,
    },
    /// The driver gives an error.
    #[error("no GPU: the NVIDIA driver fails with {reason}; {advice}")]
    BrokenDriver {
        /// What it says.
        reason: String,
        /// What helps.
        advice: &'static str,
    },
    /// There is none.
    #[error(
        "no GPU: the NVIDIA driver knows none; see `nvidia-smi -L` and whether /dev/nvidia0 may be opened"
    )]
    NoDevice,
    /// There may be some, but not for this process.
    #[error("no GPU: CUDA_VISIBLE_DEVICES hides them all: {why}; see `nvidia-smi -L`")]
    Hidden {
        /// How.
        why: String,
    },
    /// The card is too old.
    #[error("{card}: compute capability {}.{}, and 7.0 (Volta, 2017) or newer is needed", found.0, found.1)]
    OldCard {
        /// Which.
        card: String,
        /// Its compute capability.
        found: (u32, u32),
    },
}

impl Card {
    /// Whether the kernels run on it.
    pub fn check(&self) -> Result<(), NoCards> {
        if self.capability >= OLDEST_CAPABILITY {
            return Ok(());
        }
        Err(NoCards::OldCard { card: self.to_string(), found: self.capability })
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.pci)
    }
}

/// Cards that the driver shows to this process, by PCI address; at least one. [`Card::check`] tells which of them can be used.
pub fn cards() -> Result<Vec<Card>, NoCards> {
    if !driver_present() {
        return Err(NoCards::NoDriver);
    }
    let cuda_version = cuda_version().map_err(broken)?;
    if cuda_version < OLDEST_CUDA {
        return Err(NoCards::OldDriver { found: format!("{}.{}", cuda_version.0, cuda_version.1) });
    }
    match result::init() {
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => return Err(none()),
        other => other.map_err(broken)?,
    }
    let count = result::device::get_count().map_err(broken)?;
    let cards: Result<Vec<_>, _> = (0..count).map(|ordinal| read(ordinal, cuda_version)).collect();
    let mut cards = cards.map_err(broken)?;
    cards.sort_by_key(|card| card.pci);
    if cards.is_empty() { Err(none()) } else { Ok(cards) }
}

/// The driver shows no card: why.
fn none() -> NoCards {
    let value = std::env::var_os("CUDA_VISIBLE_DEVICES").map(|value| value.to_string_lossy().into_owned());
    Visible::parse(value.as_deref()).hides_all().map_or(NoCards::NoDevice, |why| NoCards::Hidden { why })
}

fn broken(error: DriverError) -> NoCards {
    NoCards::BrokenDriver { reason: describe(error), advice: advice(error) }
}

/// What the driver says of one card.
fn read(ordinal: i32, cuda_version: (u32, u32)) -> Result<Card, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let device = result::device::get(ordinal)?;
    let attribute = |attribute| {
        // SAFETY: `device` is of the driver; attributes have no other demands.
        let value = unsafe { result::device::get_attribute(device, attribute) };
        value.map(|value| u32::try_from(value).unwrap_or(0))
    };
    Ok(Card {
        pci: pci(device)?,
        ordinal,
        uuid: uuid_text(result::device::get_uuid(device)?.bytes.map(|byte| byte.to_ne_bytes()[0])),
        name: result::device::get_name(device)?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        clock_mhz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? / 1000,
        // SAFETY: `device` is of the driver.
        memory_bytes: unsafe { result::device::total_mem(device) }? as u64,
        cuda_version,
        driver_version: driver_version(),
    })
}

/// Its PCI address.
fn pci(device: sys::CUdevice) -> Result<PciId, DriverError> {
    let mut text = [0_u8; 32];
    // SAFETY: the buffer is as long as said, and the driver ends its text with a zero.
    unsafe { sys::cuDeviceGetPCIBusId(text.as_mut_ptr().cast(), text.len() as i32, device) }.result()?;
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let parsed = String::from_utf8_lossy(&text[..end]).parse();
    parsed.map_err(|_| DriverError(sys::CUresult::CUDA_ERROR_UNKNOWN))
}

/// As `nvidia-smi -L` shows it.
fn uuid_text(bytes: [u8; 16]) -> String {
    let hex = |range: std::ops::Range<usize>| {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    format!("GPU-{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A card of no machine.
    pub fn card(capability: (u32, u32)) -> Card {
        Card {
            pci: "3b:00.0".parse().unwrap(),
            ordinal: 0,
            uuid: uuid_text([7; 16]),
            name: "Test card".to_owned(),
            capability,
            multiprocessors: 14,
            clock_mhz: 1000,
            memory_bytes: 6 << 30,
            cuda_version: (12, 0),
            driver_version: None,
        }
    }

    #[test]
    fn old_cards_are_refused() {
        assert_eq!(card((7, 0)).check(), Ok(()));
        assert_eq!(card((12, 0)).check(), Ok(()));
        let error = card((6, 1)).check().unwrap_err().to_string();
        assert!(error.contains("Test card at 0000:3b:00.0") && error.contains("6.1"), "{error}");
    }

    #[test]
    fn uuids_read_as_in_nvidia_smi() {
        let bytes = std::array::from_fn(|at| at as u8 * 17);
        assert_eq!(uuid_text(bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn every_reason_is_one_line() {
        let reasons = [
            NoCards::NoDriver,
            NoCards::OldDriver { found: "11.8".to_owned() },
            NoCards::BrokenDriver { reason: "CUDA error 999".to_owned(), advice: "see" },
            NoCards::NoDevice,
            NoCards::Hidden { why: "it is empty".to_owned() },
            card((5, 2)).check().unwrap_err(),
        ];
        for reason in reasons {
            assert_eq!(reason.to_string().lines().count(), 1, "{reason}");
        }
    }

    #[test]
    fn without_a_driver_the_reason_is_given() {
        if driver_present() {
            println!("skipped: there is a driver here");
            return;
        }
        assert_eq!(cards(), Err(NoCards::NoDriver));
    }
}
