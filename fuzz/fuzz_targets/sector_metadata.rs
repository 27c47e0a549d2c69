//! Metadata of sectors from any bytes: what is accepted becomes the same bytes again.
#![no_main]

use consensus::constants::SECTOR_METADATA_SIZE;
use consensus::sector::SectorMetadata;
use fuzz::{filled, mend_checksum};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = SectorMetadata::decode(bytes);
    let mut record = filled(bytes, SECTOR_METADATA_SIZE);
    mend_checksum(&mut record);
    if let Ok(metadata) = SectorMetadata::decode(&record) {
        assert_eq!(metadata.encode(), record);
        let _ = metadata.chunks_before(u16::MAX);
    }
});
