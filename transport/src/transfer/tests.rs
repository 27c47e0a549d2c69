use super::*;
use proptest::prelude::*;

fn place(file_offset: u64, sector_bytes: u64) -> SectorPlace {
    SectorPlace { file_offset, sector_bytes, content: [7; 32] }
}

fn take(transfer: &mut SectorTransfer, range: Range) {
    let bytes = vec![range.index as u8; range.length as usize];
    assert_eq!(transfer.received(range.index, &bytes, &bytes.blake3()), Received::Write);
    transfer.written(range.index);
}

proptest! {
    #[test]
    fn ranges_tile_the_sector_and_meet_at_blocks(
        offset in 0..u64::from(u32::MAX),
        bytes in 1..40 * RANGE_BYTES,
    ) {
        let place = place(offset, bytes);
        let ranges: Vec<_> = (0..place.ranges()).map(|index| place.range(index)).collect();
        let mut at = 0;
        for range in &ranges {
            prop_assert_eq!(range.offset, at);
            prop_assert_eq!(u64::from(range.phase), (offset + at) % 4096);
            prop_assert!(range.index == 0 || range.phase == 0);
            prop_assert!(range.length > 0 && u64::from(range.phase) + u64::from(range.length) <= RANGE_BYTES);
            at += u64::from(range.length);
            prop_assert!(range.index + 1 == ranges.len() || (offset + at) % 4096 == 0);
        }
        prop_assert_eq!(at, bytes);
    }

    #[test]
    fn saved_bits_come_back(offset in 0u64..1 << 40, held in proptest::collection::vec(any::<bool>(), 1..30)) {
        let place = place(offset, (held.len() as u64 * RANGE_BYTES).saturating_sub(offset % 4096));
        let mut transfer = SectorTransfer::new(place, held.len());
        while let Some(range) = transfer.next_range() {
            if held[range.index] {
                take(&mut transfer, range);
            }
        }
        let saved = transfer.save();
        let restored = SectorTransfer::restore(place, 1, &saved).unwrap();
        prop_assert_eq!(restored.save(), saved);
        prop_assert_eq!(restored.progress(), (held.iter().filter(|held| **held).count(), held.len()));
    }
}

#[test]
fn window_bounds_what_is_asked_for() {
    let mut transfer = SectorTransfer::new(place(100, 10 * RANGE_BYTES), 3);
    let asked: Vec<_> = std::iter::from_fn(|| transfer.next_range()).collect();
    assert_eq!(asked.len(), 3);
    take(&mut transfer, asked[1]);
    assert_eq!(transfer.next_range().unwrap().index, 3);
    assert_eq!(transfer.next_range(), None);
    transfer.connection_lost();
    let again: Vec<_> = std::iter::from_fn(|| transfer.next_range()).map(|range| range.index).collect();
    assert_eq!(again, [0, 2, 3]);
    assert_eq!(transfer.stats().received_twice_bytes, 0);
}

#[test]
fn damaged_bytes_are_asked_for_again_and_counted() {
    let mut transfer = SectorTransfer::new(place(0, 5000), 1);
    let range = transfer.next_range().unwrap();
    let good = vec![1u8; 5000];
    let hash = good.blake3();
    let mut bad = good.clone();
    bad[4999] ^= 1;
    assert_eq!(transfer.received(range.index, &bad, &hash), Received::Damaged);
    let range = transfer.next_range().unwrap();
    assert_eq!(transfer.received(range.index, &good, &hash), Received::Write);
    assert!(!transfer.is_complete());
    transfer.written(range.index);
    assert!(transfer.is_complete());
    let expected = TransferStats { received_bytes: 10_000, received_twice_bytes: 5000, damaged_ranges: 1 };
    assert_eq!(transfer.stats(), expected);
}

#[test]
fn what_is_lost_is_asked_for_again_and_known_by_its_hash() {
    let place = place(100, 4 * RANGE_BYTES);
    let mut transfer = SectorTransfer::new(place, 8);
    let first = transfer.next_range().unwrap();
    take(&mut transfer, first);
    let mut transfer = SectorTransfer::restore(place, 8, &transfer.save()).unwrap();
    while let Some(range) = transfer.next_range() {
        let (bytes, hash) = (range.length as usize, [range.index as u8; 32]);
        assert_eq!(transfer.arrived(range.index, bytes - 1, &hash), Received::Surplus);
        assert_eq!(transfer.arrived(range.index, bytes, &hash), Received::Write);
        assert_eq!(transfer.arrived(range.index, bytes, &hash), Received::Surplus);
        transfer.written(range.index);
    }
    assert!(transfer.is_complete());
    let held: Vec<_> = transfer.held_ranges().map(|(range, hash)| (range.index, hash)).collect();
    let expected = (1..5).map(|index: usize| (index, Some([index as u8; 32])));
    assert_eq!(held, [(0, None)].into_iter().chain(expected).collect::<Vec<_>>());
    transfer.lost(3);
    transfer.lost(0);
    assert_eq!(transfer.progress(), (3, 5));
    let again: Vec<_> = std::iter::from_fn(|| transfer.next_range()).map(|range| range.index).collect();
    assert_eq!(again, [0, 3]);
    assert_eq!((transfer.held_ranges().count(), transfer.stats().damaged_ranges), (3, 2));
}

#[test]
fn saved_form_of_another_sector_or_damaged_is_refused() {
    let mut transfer = SectorTransfer::new(place(100, 10 * RANGE_BYTES), 3);
    let range = transfer.next_range().unwrap();
    take(&mut transfer, range);
    let saved = transfer.save();
    let other = SectorPlace { content: [8; 32], ..place(100, 10 * RANGE_BYTES) };
    assert_eq!(SectorTransfer::restore(other, 1, &saved).err(), Some(RestoreError::OtherSector));
    for at in 0..saved.len() {
        let mut damaged = saved.clone();
        damaged[at] ^= 0x10;
        let restored = SectorTransfer::restore(place(100, 10 * RANGE_BYTES), 1, &damaged);
        assert_eq!(restored.err(), Some(RestoreError::Damaged), "byte {at}");
        let cut = SectorTransfer::restore(place(100, 10 * RANGE_BYTES), 1, &saved[..at]);
        assert_eq!(cut.err(), Some(RestoreError::Damaged), "cut at {at}");
    }
}
