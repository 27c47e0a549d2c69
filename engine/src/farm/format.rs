//! Names and limits of a farm's files (PROTOCOL 7).

/// Who the farm is.
pub const INFO_FILE: &str = "single_disk_farm.json";
/// Its key.
pub const IDENTITY_FILE: &str = "identity.bin";
/// What is known of each sector.
pub const METADATA_FILE: &str = "metadata.bin";
/// The sectors.
pub const PLOT_FILE: &str = "plot.bin";

/// Most sectors of a farm.
pub const MAX_SECTORS: u16 = 65_534;
