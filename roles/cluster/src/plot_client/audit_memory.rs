//! `--audit-memory exact|lean|auto`: what is kept in memory of each sector, by what memory there is: settled for the farms of the start
//! together, and for each that comes later when it is opened.

use super::spec::FarmSpec;
use engine::farm::{AuditMemory, FarmSize, Layout, MAX_SECTORS};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use topology::checks::memory_available_bytes;

/// Share of the memory that is available which sectors may take for the exact way, in percent: others live here too, and farms grow.
const SHARE_PERCENT: u64 = 50;
const MIB: u64 = 1 << 20;

/// What the operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryChoice {
    /// As memory allows.
    #[default]
    Auto,
    /// This one.
    Of(AuditMemory),
}

/// A word that names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of: exact, lean, auto")]
pub struct UnknownMemory(String);

impl FromStr for MemoryChoice {
    type Err = UnknownMemory;

    fn from_str(text: &str) -> Result<Self, UnknownMemory> {
        match text {
            "auto" => Ok(Self::Auto),
            "exact" => Ok(Self::Of(AuditMemory::Exact)),
            "lean" => Ok(Self::Of(AuditMemory::Lean)),
            _ => Err(UnknownMemory(text.to_owned())),
        }
    }
}

/// Why it is one way or the other, with the figures.
#[derive(Debug, PartialEq, Eq)]
struct Settled {
    memory: AuditMemory,
    sectors: u64,
    /// Bytes that are available, as far as that is known.
    available: Option<u64>,
    was_asked_for: bool,
}

impl MemoryChoice {
    /// Settles it for so many sectors, where farms that are being opened are about to take `opening_bytes`, and says so.
    fn settle(self, sectors: u64, opening_bytes: u64) -> AuditMemory {
        let available = memory_available_bytes().map(|bytes| bytes.saturating_sub(opening_bytes));
        let settled = self.choose(sectors, available);
        tracing::info!("{settled}");
        settled.memory
    }

    fn choose(self, sectors: u64, available: Option<u64>) -> Settled {
        let fits = |available: u64| bytes(AuditMemory::Exact, sectors) <= available / 100 * SHARE_PERCENT;
        let (memory, was_asked_for) = match self {
            Self::Of(memory) => (memory, true),
            // Where nobody tells, as little as can be.
            Self::Auto if available.is_some_and(fits) => (AuditMemory::Exact, false),
            Self::Auto => (AuditMemory::Lean, false),
        };
        Settled { memory, sectors, available, was_asked_for }
    }
}

/// What is kept in memory of the farms of one plot-client.
pub struct Settling {
    choice: MemoryChoice,
    max_pieces: u16,
    first: Vec<FarmSpec>,
    of_first: AuditMemory,
    opening_bytes: Arc<Mutex<u64>>,
}

/// Memory that a farm is about to take; counted until this is dropped.
pub struct Promised {
    bytes: u64,
    opening_bytes: Arc<Mutex<u64>>,
}

impl Settling {
    /// Settles it for the farms of the start on this machine. Farms that are there may have smaller and so more sectors than
    /// `max_pieces`, the chain's, make: few do.
    pub fn new(choice: MemoryChoice, first: Vec<FarmSpec>, max_pieces: u16) -> Self {
        let of_first = choice.settle(first.iter().map(|farm| sectors(farm.size, max_pieces)).sum(), 0);
        Self { choice, max_pieces, first, of_first, opening_bytes: Arc::default() }
    }

    /// For a farm that is opened now, and stays open.
    pub fn of(&self, farm: &FarmSpec) -> (AuditMemory, Promised) {
        let sectors = sectors(farm.size, self.max_pieces);
        let mut opening_bytes = self.opening_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match self.first.contains(farm) {
            true => self.of_first,
            false => self.choice.settle(sectors, *opening_bytes),
        };
        let bytes = bytes(memory, sectors);
        *opening_bytes += bytes;
        (memory, Promised { bytes, opening_bytes: self.opening_bytes.clone() })
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        *self.opening_bytes.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
    }
}

/// Sectors of a farm of this size, were it made now; as many as can be for a size that none has.
fn sectors(size: FarmSize, pieces: u16) -> u64 {
    let layout = Layout::new(pieces, size);
    layout.map_or(MAX_SECTORS, |layout| layout.sectors()).into()
}

fn bytes(memory: AuditMemory, sectors: u64) -> u64 {
    sectors * memory.sector_bytes() as u64
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, sectors, available, was_asked_for } = *self;
        let mib = |memory| bytes(memory, sectors).div_ceil(MIB);
        let (exact, lean) = (mib(AuditMemory::Exact), mib(AuditMemory::Lean));
        match memory {
            AuditMemory::Exact => write!(
                f,
                "audit memory: exact, {exact} MiB for {sectors} sectors, one read each an audit (lean: {lean} MiB)"
            )?,
            AuditMemory::Lean => write!(
                f,
                "audit memory: lean, {lean} MiB for {sectors} sectors, two reads each an audit, one after the other (exact: {exact} MiB)"
            )?,
        }
        match (was_asked_for, available) {
            (true, _) => write!(f, "; as --audit-memory says"),
            (false, Some(bytes)) => {
                write!(
                    f,
                    "; {} MiB of memory are available, of which exact may take {SHARE_PERCENT} %",
                    bytes / MIB
                )
            }
            (false, None) => write!(f, "; nobody tells how much memory is available"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_no_others() {
        assert_eq!("auto".parse(), Ok(MemoryChoice::Auto));
        assert_eq!("exact".parse(), Ok(MemoryChoice::Of(AuditMemory::Exact)));
        assert_eq!("lean".parse(), Ok(MemoryChoice::Of(AuditMemory::Lean)));
        for nonsense in ["", "Exact", "1GiB"] {
            assert_eq!(nonsense.parse::<MemoryChoice>(), Err(UnknownMemory(nonsense.to_owned())));
        }
    }

    #[test]
    fn exact_where_all_sectors_fit_half_of_the_memory() {
        let memory = |choice: MemoryChoice, sectors, available| choice.choose(sectors, available).memory;
        // 8000 sectors: 520 MiB.
        let needed = 8000 * (65_536 + 1024);
        assert_eq!(memory(MemoryChoice::Auto, 8000, Some(2 * needed + 100)), AuditMemory::Exact);
        assert_eq!(memory(MemoryChoice::Auto, 8000, Some(2 * needed - 100)), AuditMemory::Lean);
        assert_eq!(memory(MemoryChoice::Auto, 8000, None), AuditMemory::Lean);
        assert_eq!(memory(MemoryChoice::Auto, 8000, Some(u64::MAX)), AuditMemory::Exact);
        assert_eq!(memory("exact".parse().unwrap(), 8000, Some(0)), AuditMemory::Exact);
        assert_eq!(memory("lean".parse().unwrap(), 1, Some(u64::MAX)), AuditMemory::Lean);
        assert_eq!(bytes(AuditMemory::Lean, 32_000), 32_000 << 10);
    }

    #[test]
    fn a_farm_that_comes_later_is_settled_by_what_is_left_then() {
        let farm = |text: &str| text.parse::<FarmSpec>().unwrap();
        let (first, small) = (farm("path=/a,sectors=1"), farm("path=/b,sectors=1"));
        let settling = Settling::new(MemoryChoice::Auto, vec![first.clone()], 1000);
        let (memory, promised) = settling.of(&first);
        assert_eq!(memory, AuditMemory::Exact);
        // Others that are being opened have promises on all that is available.
        *settling.opening_bytes.lock().unwrap() += u64::MAX / 2;
        assert_eq!(settling.of(&small).0, AuditMemory::Lean);
        assert_eq!(settling.of(&first).0, AuditMemory::Exact, "settled at the start");
        *settling.opening_bytes.lock().unwrap() -= u64::MAX / 2;
        assert_eq!(settling.of(&small).0, AuditMemory::Exact);
        drop(promised);
        assert_eq!(*settling.opening_bytes.lock().unwrap(), 0);
    }

    #[test]
    fn what_was_settled_is_said_with_its_figures() {
        let said = |choice: MemoryChoice, available| choice.choose(32_000, available).to_string();
        let lean = said(MemoryChoice::Auto, Some(2 << 30));
        for words in ["lean, 32 MiB", "32000 sectors", "exact: 2032 MiB", "2048 MiB of memory", "50 %"] {
            assert!(lean.contains(words), "{lean}");
        }
        let exact = said(MemoryChoice::Of(AuditMemory::Exact), None);
        assert!(exact.contains("exact, 2032 MiB") && exact.ends_with("as --audit-memory says"), "{exact}");
        assert!(said(MemoryChoice::Auto, None).ends_with("nobody tells how much memory is available"));
    }

    #[test]
    fn sectors_follow_from_sizes() {
        assert_eq!(sectors(FarmSize::Sectors(8000), 1000), 8000);
        assert_eq!(sectors(FarmSize::Allocated(8_000_000_000_000), 1000), 7568);
        assert_eq!(sectors(FarmSize::Allocated(u64::MAX), 1000), u64::from(MAX_SECTORS));
    }
}
