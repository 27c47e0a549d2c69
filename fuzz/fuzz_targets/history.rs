//! What history is made of, from any bytes: segment headers, items of segments, solutions.
#![no_main]

use consensus::segment::{SegmentHeader, SegmentItems};
use consensus::solution::Solution;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(SegmentHeader::decode(&header.encode()).expect("made here"), header);
    }
    if let Ok(solution) = Solution::from_bytes(bytes) {
        assert_eq!(solution.to_bytes(), bytes);
    }
    let mut segment = bytes.to_vec();
    // Padding ends a segment.
    segment.resize(bytes.len() + 100, 0);
    for segment in [bytes, &segment] {
        if let Ok(items) = SegmentItems::new(segment) {
            // An item that cannot be read is the last one.
            assert!(items.count() <= segment.len());
        }
    }
});
