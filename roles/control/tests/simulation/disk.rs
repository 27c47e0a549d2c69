//! What outlives a process.

use std::collections::{BTreeMap, BTreeSet};

/// A disk that keeps what was synced.
#[derive(Debug, Default, Clone)]
pub struct Disk {
    /// Signatures by hash.
    pub signatures: BTreeMap<[u8; 32], [u8; 64]>,
    /// Segments in a controller's spool.
    pub spool: BTreeSet<u64>,
    /// Segments whose share of pieces a cache has.
    pub pieces: BTreeSet<u64>,
    /// History size of each plotted sector.
    pub sectors: BTreeMap<u16, u64>,
    /// Sectors staged on a plot-server: farm, sector, history size.
    pub staged: BTreeSet<([u8; 16], u16, u64)>,
}

/// A durable change.
#[derive(Debug, Clone)]
pub enum Change {
    Signature { hash: [u8; 32], signature: [u8; 64] },
    Spool(u64),
    Unspool(u64),
    Pieces(u64),
    Sector { sector: u16, history_size: u64 },
    Stage([u8; 16], u16, u64),
    Unstage([u8; 16], u16, u64),
}

impl Disk {
    pub fn apply(&mut self, change: &Change) {
        match *change {
            Change::Signature { hash, signature } => drop(self.signatures.insert(hash, signature)),
            Change::Spool(segment) => drop(self.spool.insert(segment)),
            Change::Unspool(segment) => drop(self.spool.remove(&segment)),
            Change::Pieces(segment) => drop(self.pieces.insert(segment)),
            Change::Sector { sector, history_size } => drop(self.sectors.insert(sector, history_size)),
            Change::Stage(farm, sector, size) => drop(self.staged.insert((farm, sector, size))),
            Change::Unstage(farm, sector, size) => drop(self.staged.remove(&(farm, sector, size))),
        }
    }
}
