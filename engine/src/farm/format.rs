//! Names and limits of a farm's files (PROTOCOL 7), and sizes as operators say them.

use std::fmt;

/// Who the farm is.
pub const INFO_FILE: &str = "single_disk_farm.json";
/// Its key.
pub const IDENTITY_FILE: &str = "identity.bin";
/// What is known of each sector.
pub const METADATA_FILE: &str = "metadata.bin";
/// The sectors.
pub const PLOT_FILE: &str = "plot.bin";
/// Pieces that the network's farmer keeps beside its sectors. Not used here, and never touched unasked.
pub const PIECE_CACHE_FILE: &str = "piece_cache.bin";
/// Peers that the network's farmer knows. Not used here.
pub const KNOWN_PEERS_FILE: &str = "known_addresses.bin";

/// How many reads at once its disk is worth. Only ours; whatever is in it, the farm is whole.
pub const DEPTH_FILE: &str = "disk_depth.bin";

/// Most sectors of a farm.
pub const MAX_SECTORS: u16 = 65_534;

/// How much space a farm gets: `size=` or `sectors=` of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarmSize {
    /// Bytes for everything in the directory.
    Allocated(u64),
    /// Exactly so many sectors.
    Sectors(u16),
}

/// As the operator writes it.
impl fmt::Display for FarmSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocated(bytes) => write!(f, "size={bytes}"),
            Self::Sectors(sectors) => write!(f, "sectors={sectors}"),
        }
    }
}
