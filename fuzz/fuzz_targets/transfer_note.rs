//! Notes of half-fetched sectors from any bytes: a transfer that goes on from one still fetches every range that it lacks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use transport::transfer::{Received, SectorPlace, SectorTransfer};

fuzz_target!(|bytes: &[u8]| {
    let place = SectorPlace { file_offset: 5 << 20, sector_bytes: 9_000_000, content: [7; 32] };
    let Ok(mut transfer) = SectorTransfer::restore(place, 4, bytes) else { return };
    let held = transfer.progress().0;
    while let Some(range) = transfer.next_range() {
        assert!(range.offset + u64::from(range.length) <= place.sector_bytes);
        let payload = vec![1; range.length as usize];
        let hash = *blake3::hash(&payload).as_bytes();
        assert_eq!(transfer.received(range.index, &payload, &hash), Received::Write);
        transfer.written(range.index);
    }
    assert!(transfer.is_complete() && transfer.progress().0 >= held);
});
