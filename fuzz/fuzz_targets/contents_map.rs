//! Contents maps from any bytes: what is accepted places every chunk of its sector once.
#![no_main]

use consensus::constants::{RECORD_CHUNKS, contents_map_size};
use consensus::sector::ContentsMap;
use fuzz::{filled, mend_checksum};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ContentsMap::decode(bytes, 1);
    let Some((&pieces, bytes)) = bytes.split_first() else { return };
    let pieces = u16::from(pieces % 4);
    let mut map = filled(bytes, contents_map_size(pieces));
    mend_checksum(&mut map);
    let Ok(decoded) = ContentsMap::decode(&map, pieces) else { return };
    assert_eq!(decoded.encode(), map);
    let sizes = decoded.s_bucket_sizes();
    let mut locations: Vec<_> =
        (0..pieces).flat_map(|offset| decoded.chunk_locations(offset, &sizes).expect("a record")).collect();
    locations.sort_unstable();
    assert!(locations.into_iter().eq(0..u32::from(pieces) * RECORD_CHUNKS as u32));
});
