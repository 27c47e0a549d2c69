//! Where everything lies in a farm directory, and how many sectors fit into the space given to it (PROTOCOL 7).

use super::FarmError;
use super::format::MAX_SECTORS;
use crate::BLOCK_BYTES;
use consensus::constants::{MAX_PIECES_IN_SECTOR, SECTOR_METADATA_SIZE, sector_size};

/// Start of `metadata.bin` kept for the header; the sectors' records follow.
pub const METADATA_RESERVED_BYTES: u64 = 1 << 20;
/// What is set aside for `single_disk_farm.json`.
const INFO_RESERVED_BYTES: u64 = 1 << 20;
/// `known_addresses.bin` of the network's farmer: not needed here, but part of its arithmetic.
const KNOWN_PEERS_BYTES: u64 = 961_284;
/// Space of a farm that is not for sectors.
pub const FIXED_BYTES: u64 = METADATA_RESERVED_BYTES
    + INFO_RESERVED_BYTES
    + consensus::identity::IDENTITY_FILE_SIZE as u64
    + KNOWN_PEERS_BYTES;
const _: () = assert!(FIXED_BYTES == 3_058_469);

/// How much space a farm gets: `size=` or `sectors=` of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarmSize {
    /// Bytes for everything in the directory.
    Allocated(u64),
    /// Exactly so many sectors.
    Sectors(u16),
}

impl FarmSize {
    /// Bytes to note as `allocatedSpace` for a farm of `pieces_in_sector` pieces a sector.
    pub fn allocated_bytes(self, pieces_in_sector: u16) -> u64 {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Sectors(sectors) => {
                let bytes = BLOCK_BYTES as u64 + u64::from(sectors) * bytes_per_sector(pieces_in_sector);
                FIXED_BYTES + bytes.next_multiple_of(100)
            }
        }
    }
}

/// Bytes that each sector takes in both files.
fn bytes_per_sector(pieces_in_sector: u16) -> u64 {
    (sector_size(pieces_in_sector) + SECTOR_METADATA_SIZE) as u64
}

/// The places in `plot.bin` and `metadata.bin`. All are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pieces_in_sector: u16,
    sectors: u16,
}

impl Layout {
    /// Of a farm of `allocated_bytes`, all of it for sectors; errs when not even one fits, or too many do.
    pub fn new(pieces_in_sector: u16, allocated_bytes: u64) -> Result<Self, FarmError> {
        if !(1..=MAX_PIECES_IN_SECTOR).contains(&pieces_in_sector) {
            return Err(FarmError::PiecesInSector { pieces_in_sector });
        }
        let for_sectors =
            (allocated_bytes.saturating_sub(FIXED_BYTES) / 100 * 100).saturating_sub(BLOCK_BYTES as u64);
        let sectors = for_sectors / bytes_per_sector(pieces_in_sector);
        match u16::try_from(sectors) {
            Ok(sectors @ 1..=MAX_SECTORS) => Ok(Self { pieces_in_sector, sectors }),
            _ => Err(FarmError::Size {
                allocated_bytes,
                sectors,
                least_bytes: FarmSize::Sectors(1).allocated_bytes(pieces_in_sector),
            }),
        }
    }

    /// Pieces of each sector.
    pub fn pieces_in_sector(&self) -> u16 {
        self.pieces_in_sector
    }

    /// Sectors there is room for.
    pub fn sectors(&self) -> u16 {
        self.sectors
    }

    /// Bytes of a sector.
    pub fn sector_bytes(&self) -> u64 {
        sector_size(self.pieces_in_sector) as u64
    }

    /// Where a sector begins in `plot.bin`; not aligned to anything.
    pub fn sector_offset(&self, sector: u16) -> u64 {
        u64::from(sector) * self.sector_bytes()
    }

    /// Size of `plot.bin`.
    pub fn plot_bytes(&self) -> u64 {
        self.sector_offset(self.sectors).next_multiple_of(BLOCK_BYTES as u64)
    }

    /// Where a sector's record begins in `metadata.bin`; not aligned to anything.
    pub fn record_offset(&self, sector: u16) -> u64 {
        METADATA_RESERVED_BYTES + u64::from(sector) * SECTOR_METADATA_SIZE as u64
    }

    /// Size of `metadata.bin`.
    pub fn metadata_bytes(&self) -> u64 {
        self.record_offset(self.sectors).next_multiple_of(BLOCK_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_of_the_network() {
        assert_eq!(FarmSize::Sectors(1).allocated_bytes(1000), 3_058_469 + 1_057_031_300);
        let layout = Layout::new(1000, FarmSize::Sectors(8000).allocated_bytes(1000)).unwrap();
        assert_eq!(layout.sectors(), 8000);
        assert_eq!(layout.sector_offset(3), 3 * 1_056_896_064);
        assert_eq!(layout.record_offset(2), 1_048_576 + 2 * 131_116);
        assert_eq!(layout.plot_bytes() % 4096, 0);
    }

    #[test]
    fn no_sector_or_too_many_are_errors() {
        for (pieces, bytes) in [(1, 0), (1, 4_000_000), (1000, 1_000_000_000), (1, u64::MAX)] {
            assert!(matches!(Layout::new(pieces, bytes), Err(FarmError::Size { .. })), "{pieces} {bytes}");
        }
        assert!(matches!(Layout::new(0, 1 << 40), Err(FarmError::PiecesInSector { .. })));
        assert!(matches!(Layout::new(1001, 1 << 40), Err(FarmError::PiecesInSector { .. })));
        assert!(Layout::new(1, FarmSize::Sectors(0).allocated_bytes(1)).is_err());
    }

    proptest! {
        #[test]
        fn sectors_asked_for_are_sectors_there(pieces in 1u16..=1000, sectors in 1u16..=MAX_SECTORS) {
            let bytes = FarmSize::Sectors(sectors).allocated_bytes(pieces);
            prop_assert_eq!(Layout::new(pieces, bytes).unwrap().sectors(), sectors);
            if sectors > 1 {
                prop_assert_eq!(Layout::new(pieces, bytes - 100).unwrap().sectors(), sectors - 1);
            }
        }
    }
}
