//! Where everything lies in a farm directory, and how many sectors fit into the space given to it (PROTOCOL 7).

use super::FarmError;
use super::format::{FarmSize, MAX_SECTORS};
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

/// Largest share of the space, in percent, that the network's farmer lets its operators give to `piece_cache.bin`.
const MAX_CACHE_PERCENT: u64 = 99;

impl FarmSize {
    /// Bytes to note as `allocatedSpace` for a farm of `pieces_in_sector` pieces a sector.
    pub fn allocated_bytes(self, pieces_in_sector: u16) -> u64 {
        match self {
            Self::Allocated(bytes) => bytes,
            Self::Sectors(sectors) => size_for_network(pieces_in_sector, sectors, 0),
        }
    }
}

/// The least `size=`, in bytes, at which the network's farmer gives a farm `sectors` sectors when `cache_percent` (0 to 99) of it is for its
/// piece cache: with less it cuts `plot.bin`. It has 1 by default as a farmer of its own, and 0 in a cluster.
pub fn size_for_network(pieces_in_sector: u16, sectors: u16, cache_percent: u8) -> u64 {
    let bytes = BLOCK_BYTES as u64 + u64::from(sectors) * bytes_per_sector(pieces_in_sector);
    let percent = 100 - u64::from(cache_percent).min(MAX_CACHE_PERCENT);
    FIXED_BYTES + 100 * bytes.div_ceil(percent)
}

/// Sectors that fit into `allocated_bytes` beside a piece cache of `cache_percent`, by the network's arithmetic.
fn sectors_within(pieces_in_sector: u16, allocated_bytes: u64, cache_percent: u64) -> u64 {
    let for_sectors = allocated_bytes.saturating_sub(FIXED_BYTES) / 100 * (100 - cache_percent);
    for_sectors.saturating_sub(BLOCK_BYTES as u64) / bytes_per_sector(pieces_in_sector)
}

fn check_pieces(pieces_in_sector: u16) -> Result<(), FarmError> {
    let is_possible = (1..=MAX_PIECES_IN_SECTOR).contains(&pieces_in_sector);
    if is_possible { Ok(()) } else { Err(FarmError::PiecesInSector { pieces_in_sector }) }
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
    /// Of a new farm, or one whose size changes: all of the space is for sectors. Errs when not even one fits, or too many do.
    pub fn new(pieces_in_sector: u16, size: FarmSize) -> Result<Self, FarmError> {
        check_pieces(pieces_in_sector)?;
        let sectors = match size {
            FarmSize::Allocated(bytes) => sectors_within(pieces_in_sector, bytes, 0),
            FarmSize::Sectors(sectors) => sectors.into(),
        };
        let bytes_of = |sectors| size_for_network(pieces_in_sector, sectors, 0);
        match u16::try_from(sectors) {
            Ok(0) => Err(FarmError::TooSmall { size, pieces_in_sector, least_bytes: bytes_of(1) }),
            Ok(sectors @ 1..=MAX_SECTORS) => Ok(Self { pieces_in_sector, sectors }),
            _ => Err(FarmError::TooLarge { size, sectors, most_bytes: bytes_of(MAX_SECTORS) }),
        }
    }

    /// Of a farm that is there, whoever made it: `allocated_bytes` are noted, but not how many percent of them its farmer has set aside for a
    /// piece cache. So the sizes of its files tell how many sectors it has: each is that of a number of sectors, and if they differ the
    /// larger one counts, since the other was cut off or not yet made. Where neither is, all of the space is for sectors. Never more than
    /// the space holds.
    pub fn found(
        pieces_in_sector: u16,
        allocated_bytes: u64,
        metadata_bytes: u64,
        plot_bytes: u64,
    ) -> Result<Self, FarmError> {
        check_pieces(pieces_in_sector)?;
        let most = sectors_within(pieces_in_sector, allocated_bytes, 0).min(MAX_SECTORS.into());
        if most == 0 {
            return Self::new(pieces_in_sector, FarmSize::Allocated(allocated_bytes));
        }
        let with = |sectors: u64| Self { pieces_in_sector, sectors: sectors as u16 };
        let records_bytes = metadata_bytes.saturating_sub(METADATA_RESERVED_BYTES);
        let fits = |sectors: &u64| (1..=most).contains(sectors);
        let of_plot = Some(plot_bytes / with(1).sector_bytes()).filter(fits).map(with);
        let of_metadata = Some(records_bytes / SECTOR_METADATA_SIZE as u64).filter(fits).map(with);
        let told = [
            of_plot.filter(|layout| layout.plot_bytes() == plot_bytes),
            of_metadata.filter(|layout| layout.metadata_bytes() == metadata_bytes),
        ];
        Ok(told.into_iter().flatten().max_by_key(|layout| layout.sectors).unwrap_or(with(most)))
    }

    /// Whether a farm may have noted such a size: some share of it for a piece cache leaves between one and the most sectors.
    pub(super) fn check_noted(pieces_in_sector: u16, allocated_bytes: u64) -> Result<(), FarmError> {
        check_pieces(pieces_in_sector)?;
        let fewest = sectors_within(pieces_in_sector, allocated_bytes, MAX_CACHE_PERCENT);
        if sectors_within(pieces_in_sector, allocated_bytes, 0) == 0 || fewest > MAX_SECTORS.into() {
            Self::new(pieces_in_sector, FarmSize::Allocated(allocated_bytes))?;
        }
        Ok(())
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

    fn allocated(pieces: u16, bytes: u64) -> Result<Layout, FarmError> {
        Layout::new(pieces, FarmSize::Allocated(bytes))
    }

    #[test]
    fn figures_of_the_network() {
        assert_eq!(FarmSize::Sectors(1).allocated_bytes(1000), 3_058_469 + 1_057_031_300);
        let layout = allocated(1000, FarmSize::Sectors(8000).allocated_bytes(1000)).unwrap();
        assert_eq!(layout.sectors(), 8000);
        assert_eq!(layout.sector_offset(3), 3 * 1_056_896_064);
        assert_eq!(layout.record_offset(2), 1_048_576 + 2 * 131_116);
        assert_eq!(layout.plot_bytes() % 4096, 0);
        // 8 TB, and what the network's farmer makes of them, and of what is noted for 8000 sectors.
        assert_eq!(allocated(1000, 8_000_000_000_000).unwrap().sectors(), 7568);
        assert_eq!(sectors_within(1000, 8_000_000_000_000, 1), 7492);
        assert_eq!(sectors_within(1000, FarmSize::Sectors(8000).allocated_bytes(1000), 1), 7919);
    }

    #[test]
    fn no_sector_or_too_many_are_errors_that_say_what_to_give() {
        for (pieces, bytes) in [(1, 0), (1, 4_000_000), (1000, 1_000_000_000)] {
            let error = allocated(pieces, bytes).unwrap_err();
            let FarmError::TooSmall { least_bytes, .. } = error else { panic!("{error}") };
            assert!(error.to_string().contains(&format!("size={bytes}")), "{error}");
            assert_eq!(allocated(pieces, least_bytes).unwrap().sectors(), 1);
            assert!(allocated(pieces, least_bytes - 1).is_err());
        }
        let error = allocated(1, u64::MAX).unwrap_err();
        let FarmError::TooLarge { most_bytes, .. } = error else { panic!("{error}") };
        assert_eq!(allocated(1, most_bytes).unwrap().sectors(), MAX_SECTORS);
        assert!(matches!(allocated(0, 1 << 40), Err(FarmError::PiecesInSector { .. })));
        assert!(matches!(allocated(1001, 1 << 40), Err(FarmError::PiecesInSector { .. })));
        for sectors in [0, u16::MAX] {
            let error = Layout::new(1, FarmSize::Sectors(sectors)).unwrap_err();
            assert!(error.to_string().contains(&format!("sectors={sectors}")), "{error}");
        }
    }

    /// Files of a farm of so many sectors.
    fn files(pieces: u16, sectors: u16) -> (u64, u64) {
        let layout = Layout { pieces_in_sector: pieces, sectors };
        (layout.metadata_bytes(), layout.plot_bytes())
    }

    #[test]
    fn files_tell_how_many_sectors_a_farm_has() {
        let (noted, with_cache) = (8_000_000_000_000, 7492);
        let found = |metadata, plot| Layout::found(1000, noted, metadata, plot).unwrap().sectors();
        let (metadata, plot) = files(1000, with_cache);
        assert_eq!(found(metadata, plot), with_cache);
        // One of them cut off, in the middle of being made, or missing.
        for bytes in [0, 4096, 1 << 20, 1 << 30, 7 << 30, plot - 4096, plot - 4097] {
            assert_eq!(found(metadata, bytes), with_cache, "plot.bin of {bytes}");
            assert_eq!(found(bytes.min(metadata - 1), plot), with_cache, "metadata.bin of {bytes}");
        }
        // Both: the formula. And a growth that was broken off never gives more than the space that is noted.
        assert_eq!(found(metadata - 1, plot - 1), 7568);
        assert_eq!(found(0, 0), 7568);
        let (larger_metadata, larger_plot) = files(1000, 9000);
        assert_eq!(found(larger_metadata, larger_plot), 7568);
        assert_eq!(found(larger_metadata, plot), with_cache);
    }

    #[test]
    fn sizes_that_are_noted_with_a_cache_are_no_error() {
        let noted = size_for_network(1, MAX_SECTORS, 1);
        assert!(allocated(1, noted).is_err(), "too many without a cache");
        Layout::check_noted(1, noted).unwrap();
        assert!(Layout::check_noted(1, u64::MAX).is_err());
        assert!(Layout::check_noted(1, 10).is_err());
        let (metadata, plot) = files(1, MAX_SECTORS);
        assert_eq!(Layout::found(1, noted, metadata, plot).unwrap().sectors(), MAX_SECTORS);
    }

    proptest! {
        #[test]
        fn sectors_asked_for_are_sectors_there(pieces in 1u16..=1000, sectors in 1u16..=MAX_SECTORS) {
            let bytes = FarmSize::Sectors(sectors).allocated_bytes(pieces);
            prop_assert_eq!(allocated(pieces, bytes).unwrap().sectors(), sectors);
            if sectors > 1 {
                prop_assert_eq!(allocated(pieces, bytes - 100).unwrap().sectors(), sectors - 1);
            }
        }

        #[test]
        fn the_network_gives_as_many_sectors_at_any_share_of_cache(
            pieces in 1u16..=1000, sectors in 1u16..=MAX_SECTORS, percent in 0u8..=99
        ) {
            let bytes = size_for_network(pieces, sectors, percent);
            prop_assert_eq!(sectors_within(pieces, bytes, percent.into()), u64::from(sectors));
            prop_assert!(sectors_within(pieces, bytes - 100, percent.into()) < u64::from(sectors));
            let (metadata, plot) = files(pieces, sectors);
            prop_assert_eq!(Layout::found(pieces, bytes, metadata, plot).unwrap().sectors(), sectors);
        }
    }
}
