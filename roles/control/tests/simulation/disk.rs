//! What outlives a process.

use consensus::piece_set::PieceSet;
use control::messages::SectorId;
use control::solutions::Handover;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A disk that keeps what was written when a process is killed.
#[derive(Debug, Default, Clone)]
pub struct Disk {
    /// Signatures by hash.
    pub signatures: BTreeMap<[u8; 32], [u8; 64]>,
    /// What a plot-client hands over, written before it leaves, and when by the host's clock.
    pub handovers: Vec<(Handover, Duration)>,
    /// The host's clock when the disk was last touched.
    pub clock: Duration,
    /// Segments in a controller's spool.
    pub spool: BTreeSet<u64>,
    /// Pieces in a cache, by segment.
    pub pieces: BTreeMap<u64, PieceSet>,
    /// History as the cluster had agreed on it.
    pub remembered: Option<u64>,
    /// History size of each plotted sector.
    pub sectors: BTreeMap<u16, u64>,
    /// Sectors staged on a plot-server.
    pub staged: BTreeSet<SectorId>,
}

/// A change that lasts.
#[derive(Debug, Clone)]
pub enum Change {
    Signature { hash: [u8; 32], signature: [u8; 64] },
    Handover(Handover),
    Remember(u64),
    Spool(u64),
    Unspool(u64),
    Sector { sector: u16, history_size: u64 },
    Stage(SectorId),
    Unstage(SectorId),
}

impl Disk {
    pub fn apply(&mut self, change: &Change, now: Duration) {
        self.clock = now;
        match *change {
            Change::Signature { hash, signature } => drop(self.signatures.insert(hash, signature)),
            Change::Handover(handover) => self.handovers.push((handover, now)),
            Change::Remember(history) => self.remembered = Some(history),
            Change::Spool(segment) => drop(self.spool.insert(segment)),
            Change::Unspool(segment) => drop(self.spool.remove(&segment)),
            Change::Sector { sector, history_size } => drop(self.sectors.insert(sector, history_size)),
            Change::Stage(sector) => drop(self.staged.insert(sector)),
            Change::Unstage(sector) => drop(self.staged.remove(&sector)),
        }
    }
}
