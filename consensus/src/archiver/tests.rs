//! The cutting rule against the words of PROTOCOL 4.2, and against putting blocks together again.

use proptest::prelude::*;

use super::*;
use crate::reconstruct::BlockReconstructor;
use crate::segment::{
    ArchivedProgress, LastArchivedBlock, SegmentHeader, SegmentItem, SegmentItems, compact_size,
};

/// Smallest size here: room for a parent header and a few bytes.
const SMALL_SEGMENT: usize = 128;

fn block(number: usize, size: usize) -> Vec<u8> {
    // Tag-like bytes on purpose: payload must never be read as items.
    (0..size).map(|at| ((at * 7 + number) % 5) as u8).collect()
}

/// A header with the hash of the segment for a commitment: cutting does not look at it.
fn header_of(recorded: &RecordedSegment) -> SegmentHeader {
    let mut commitment = [0; 48];
    commitment[..32].copy_from_slice(blake3::hash(&recorded.bytes).as_bytes());
    recorded.header(commitment)
}

fn archive(archiver: &mut Archiver, sizes: &[usize]) -> Vec<RecordedSegment> {
    let mut segments = Vec::new();
    for (number, &size) in sizes.iter().enumerate() {
        archiver.add_block(block(number, size)).unwrap();
        while let Some(recorded) = archiver.cut() {
            archiver.seal(&header_of(&recorded)).unwrap();
            segments.push(recorded);
        }
    }
    segments
}

fn reconstruct(segments: &[RecordedSegment]) -> Vec<(u32, Vec<u8>)> {
    let mut blocks = Vec::new();
    let mut reconstructor = BlockReconstructor::new();
    for recorded in segments {
        reconstructor.add_segment(&recorded.bytes, |number, bytes| blocks.push((number, bytes))).unwrap();
    }
    blocks
}

/// The rule in its other form: add items until the limit is passed, then take the spill back.
/// Gives `(items as (tag, payload size), last block)` for each segment.
fn cut_by_spill(limit: usize, sizes: &[usize]) -> Vec<(Vec<(u8, usize)>, LastArchivedBlock)> {
    let mut queue: std::collections::VecDeque<_> =
        sizes.iter().enumerate().map(|(number, &size)| (1_u8, number as u32, size, 0_usize)).collect();
    let mut segments: Vec<(Vec<(u8, usize)>, LastArchivedBlock)> = Vec::new();
    loop {
        let parent = segments.last().map_or(0, |(_, last)| match last.archived_progress {
            ArchivedProgress::Complete => 1 + 94,
            ArchivedProgress::Partial(_) => 1 + 98,
        });
        let (mut used, mut items, mut last) = (1 + parent, Vec::new(), None);
        while used + 2 < limit {
            let Some((tag, number, size, done)) = queue.pop_front() else { return segments };
            used += 1 + compact_size(size) + size;
            let spill = used.saturating_sub(limit);
            if spill > size {
                queue.push_front((tag, number, size, done));
                break;
            }
            let done = done + size - spill;
            let archived_progress = if spill > 0 {
                queue.push_front((3, number, spill, done));
                ArchivedProgress::Partial(done as u32)
            } else {
                ArchivedProgress::Complete
            };
            last = Some(LastArchivedBlock { number, archived_progress });
            items.push((if spill > 0 && tag == 1 { 2 } else { tag }, size - spill));
        }
        segments.push((items, last.unwrap()));
    }
}

fn items_of(recorded: &RecordedSegment) -> (Vec<(u8, usize)>, usize) {
    let (mut items, mut padding) = (Vec::new(), 0);
    for item in SegmentItems::new(&recorded.bytes).unwrap() {
        match item.unwrap() {
            SegmentItem::Padding(size) => padding += size,
            SegmentItem::Block(bytes) => items.push((1, bytes.len())),
            SegmentItem::BlockStart(bytes) => items.push((2, bytes.len())),
            SegmentItem::BlockContinuation(bytes) => items.push((3, bytes.len())),
            SegmentItem::ParentSegmentHeader(_) => {}
        }
    }
    (items, padding)
}

fn check(limit: usize, sizes: &[usize]) {
    let segments = archive(&mut Archiver::with_segment_size(limit), sizes);
    let expected = cut_by_spill(limit, sizes);
    assert_eq!(segments.len(), expected.len());
    let mut previous: Option<SegmentHeader> = None;
    for (index, (recorded, (items, last))) in segments.iter().zip(&expected).enumerate() {
        assert_eq!(recorded.bytes.len(), limit);
        assert_eq!(recorded.segment_index, index as u64);
        assert_eq!(recorded.prev_segment_header_hash, previous.map_or([0; 32], |header| header.hash()));
        assert_eq!((&items_of(recorded).0, &recorded.last_archived_block), (items, last));
        previous = Some(header_of(recorded));
    }
    let blocks = reconstruct(&segments);
    for (at, (number, bytes)) in blocks.iter().enumerate() {
        assert_eq!((*number as usize, bytes), (at, &block(at, sizes[at])));
    }
    // All that is archived whole comes back, save a block that ends the last segment as a continuation.
    let last = segments.last().map(|recorded| recorded.last_archived_block);
    let whole = last.map_or(0, |last| {
        last.number as usize + usize::from(last.archived_progress == ArchivedProgress::Complete)
    });
    assert!(blocks.len() == whole || blocks.len() + 1 == whole, "{} of {whole}", blocks.len());
}

#[test]
fn boundaries_of_a_byte() {
    // Segment 0 holds the version, then one block that leaves `room` bytes, then a block of each compact length.
    for room in 0..=6 {
        for size in [0, 1, 2, 5, 63, 64, 65, 16_383, 16_384, 20_000] {
            check(400, &[400 - 1 - 3 - room, size, 3, 400, 1]);
        }
    }
}

#[test]
fn figures_of_the_rule() {
    let first = |sizes: &[usize]| {
        let recorded = archive(&mut Archiver::with_segment_size(SMALL_SEGMENT), sizes).remove(0);
        let (items, padding) = items_of(&recorded);
        (items, padding, recorded.last_archived_block.archived_progress)
    };
    use ArchivedProgress::{Complete, Partial};
    // Room left by the first block: 128 - 1 - 3 - n, with a two-byte length.
    assert_eq!(first(&[124]), (vec![(1, 124)], 0, Complete), "exactly full");
    assert_eq!(first(&[123]), (vec![(1, 123)], 1, Complete), "one byte of room");
    assert_eq!(first(&[122]), (vec![(1, 122)], 2, Complete), "two bytes of room, no second block asked for");
    assert_eq!(first(&[121, 1]), (vec![(1, 121), (1, 1)], 0, Complete));
    assert_eq!(first(&[121, 2]), (vec![(1, 121), (2, 1)], 0, Partial(1)));
    assert_eq!(
        first(&[121, 64]),
        (vec![(1, 121), (2, 0)], 1, Partial(0)),
        "length shrinks from two bytes to one"
    );
    assert_eq!(first(&[121, 16_384]), (vec![(1, 121)], 3, Complete), "put back: its head needs five bytes");
    assert_eq!(first(&[119, 16_384]), (vec![(1, 119), (2, 0)], 3, Partial(0)));
    assert_eq!(first(&[115, 16_384]), (vec![(1, 115), (2, 4)], 3, Partial(4)));
}

#[test]
fn needs_blocks_then_a_seal() {
    let mut archiver = Archiver::with_segment_size(SMALL_SEGMENT);
    assert_eq!(archiver.cut(), None);
    archiver.add_block(block(0, 1000)).unwrap();
    let recorded = archiver.cut().unwrap();
    assert_eq!(archiver.cut(), None, "the header of the segment before comes first");
    let header = header_of(&recorded);
    let foreign = SegmentHeader { segment_index: 1, ..header };
    assert_eq!(archiver.seal(&foreign), Err(ArchiverError::ForeignHeader { expected: 0, given: 1 }));
    archiver.seal(&header).unwrap();
    assert_eq!(archiver.seal(&header), Err(ArchiverError::NothingToSeal));
    assert!(archiver.cut().is_some());
}

#[test]
fn resuming_checks_the_block() {
    let mut archiver = Archiver::with_segment_size(SMALL_SEGMENT);
    archiver.add_block(block(0, 1000)).unwrap();
    let header = header_of(&archiver.cut().unwrap());
    let short = Archiver::resume(&header, block(0, 124)).unwrap_err();
    assert_eq!(short, ArchiverError::ResumeBlockTooShort { number: 0, size: 124, archived: 124 });
    let last = SegmentHeader { segment_index: u64::MAX, ..header };
    assert_eq!(Archiver::resume(&last, block(0, 1000)).unwrap_err(), ArchiverError::TooManySegments);
}

#[test]
fn block_numbers_end() {
    let last_archived_block =
        LastArchivedBlock { number: u32::MAX, archived_progress: ArchivedProgress::Complete };
    let header = SegmentHeader {
        segment_index: 7,
        segment_commitment: [0; 48],
        prev_segment_header_hash: [0; 32],
        last_archived_block,
    };
    let mut archiver = Archiver::resume(&header, Vec::new()).unwrap();
    assert_eq!(archiver.add_block(vec![1]), Err(ArchiverError::TooManyBlocks));
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0..70_usize, 0..600_usize, 16_380..16_390_usize], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_blocks_come_back(limit in SMALL_SEGMENT..1500, sizes in sizes()) {
        check(limit, &sizes);
    }

    #[test]
    fn resuming_changes_nothing(limit in SMALL_SEGMENT..700, sizes in sizes(), stop in 0..20_usize) {
        let segments = archive(&mut Archiver::with_segment_size(limit), &sizes);
        prop_assume!(!segments.is_empty());
        let stop = stop % segments.len();
        let header = header_of(&segments[stop]);
        let number = header.last_archived_block.number as usize;
        let last_block = block(number, sizes[number]);
        let mut archiver = Archiver::resume_with_segment_size(limit, &header, last_block).unwrap();
        prop_assert_eq!(archiver.next_block_number(), Some(number as u32 + 1));
        let mut resumed = Vec::new();
        for (at, &size) in sizes.iter().enumerate().skip(number + 1) {
            archiver.add_block(block(at, size)).unwrap();
        }
        while let Some(recorded) = archiver.cut() {
            archiver.seal(&header_of(&recorded)).unwrap();
            resumed.push(recorded);
        }
        prop_assert_eq!(&segments[stop + 1..], &resumed[..]);
    }

    #[test]
    fn starting_in_the_middle_leaves_out_a_cut_block(limit in SMALL_SEGMENT..700, sizes in sizes(), start in 0..20_usize) {
        let segments = archive(&mut Archiver::with_segment_size(limit), &sizes);
        prop_assume!(!segments.is_empty());
        for (number, bytes) in reconstruct(&segments[start % segments.len()..]) {
            prop_assert_eq!(&bytes, &block(number as usize, sizes[number as usize]));
        }
    }

    #[test]
    fn damaged_segments_never_panic(limit in SMALL_SEGMENT..400, sizes in sizes(), damage in prop::collection::vec((0..400_usize, 0..6_u8), 1..4)) {
        let mut segments = archive(&mut Archiver::with_segment_size(limit), &sizes);
        let mut reconstructor = BlockReconstructor::new();
        for recorded in &mut segments {
            for &(at, byte) in &damage {
                recorded.bytes[at % limit] = byte;
            }
            let _ = reconstructor.add_segment(&recorded.bytes, |_, _| ());
        }
    }
}
