//! Archiving, reconstruction and piece validity against the network's own results.
//!
//! Every check takes its case of the vectors and what it needs, nothing else. Three segments are archived once and
//! shared: 0.8 GB.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
mod threads;

use std::sync::LazyLock;

use common::{assert_digest, bytes, hex_array, list, mainnet_parameters, number, text, vectors};
use consensus::Workers;
use consensus::archiver::{Archiver, NewArchivedSegment, archive_segment};
use consensus::constants::SEGMENT_PIECES;
use consensus::kzg::{Kzg, hash_to_scalar};
use consensus::piece::{Piece, PieceIndex, PieceRef};
use consensus::piece_verify::{Candidate, InvalidPiece, verify_piece, verify_pieces};
use consensus::reconstruct::{BlockReconstructor, reconstruct_pieces, reconstruct_segment};
use consensus::segment::{ArchivedProgress, LastArchivedBlock, SegmentHeader, SegmentItem, SegmentItems};
use serde_json::Value;
use threads::Threads;

const WORKERS: Threads = Threads(2);

/// The vectors, the setup, and the segments archived from the vectors' blocks.
struct History {
    vectors: Value,
    kzg: Kzg,
    segments: Vec<NewArchivedSegment>,
}

static HISTORY: LazyLock<Option<History>> = LazyLock::new(|| {
    let (vectors, parameters) = (vectors("archiving.json")?, mainnet_parameters()?);
    let kzg = Kzg::from_parameters(&parameters).unwrap();
    let segments = archive_blocks(&vectors, &kzg, &WORKERS);
    Some(History { vectors, kzg, segments })
});

impl History {
    /// Each segment with its case.
    fn cases(&self) -> impl Iterator<Item = (&Value, &NewArchivedSegment)> {
        list(&self.vectors["segments"]).iter().zip(&self.segments)
    }
}

/// Archives all blocks and checks recorded segments on the way.
fn archive_blocks(vectors: &Value, kzg: &Kzg, workers: &dyn Workers) -> Vec<NewArchivedSegment> {
    let mut archiver = Archiver::new();
    let mut segments = Vec::new();
    for case in list(&vectors["blocks"]) {
        let block = bytes(text(&case["label"]), number(&case["len"]));
        assert_digest(&block, case, "block");
        assert_eq!(archiver.next_block_number(), Some(number(&case["number"]) as u32));
        archiver.add_block(block).unwrap();
        while let Some(recorded) = archiver.cut() {
            check_recorded(recorded.bytes(), &vectors["segments"][segments.len()]);
            let archived = archive_segment(kzg, workers, recorded);
            archiver.seal(&archived.header).unwrap();
            segments.push(archived);
        }
        assert_eq!(segments.len(), number(&case["segments_completed_after"]));
    }
    segments
}

fn check_recorded(segment: &[u8], case: &Value) {
    assert_digest(segment, &case["segment_bytes"], "segment");
    let mut expected = list(&case["segment_items"]).iter();
    let mut padding = 0;
    for item in SegmentItems::new(segment).unwrap() {
        let (name, length) = match item.unwrap() {
            SegmentItem::Padding(length) => {
                padding += length;
                continue;
            }
            SegmentItem::Block(bytes) => ("Block", bytes.len()),
            SegmentItem::BlockStart(bytes) => ("BlockStart", bytes.len()),
            SegmentItem::BlockContinuation(bytes) => ("BlockContinuation", bytes.len()),
            SegmentItem::ParentSegmentHeader(header) => {
                let item = expected.next().unwrap();
                assert_eq!(text(&item["item"]), "ParentSegmentHeader");
                assert_eq!(hex::encode(header.encode()), text(&item["scale"]));
                continue;
            }
        };
        let item = expected.next().unwrap();
        assert_eq!((name, length), (text(&item["item"]), number(&item["len"])));
    }
    assert!(expected.next().is_none());
    assert_eq!(padding, number(&case["trailing_padding_bytes"]));
}

fn check_header(header: &SegmentHeader, case: &Value) {
    assert_eq!(header.segment_index, number(&case["segment_index"]) as u64);
    assert_eq!(header.segment_commitment, hex_array(&case["segment_commitment"]));
    assert_eq!(header.prev_segment_header_hash, hex_array(&case["prev_segment_header_hash"]));
    let last = &case["last_archived_block"];
    let archived_progress = match last["partial"].as_u64() {
        Some(archived) => ArchivedProgress::Partial(archived as u32),
        None => ArchivedProgress::Complete,
    };
    let number = number(&last["number"]) as u32;
    assert_eq!(header.last_archived_block, LastArchivedBlock { number, archived_progress });
    let encoded = header.encode();
    assert_eq!(hex::encode(&encoded), text(&case["segment_header_scale"]));
    assert!(hex::encode(&encoded).ends_with(text(&last["scale"])));
    assert_eq!(SegmentHeader::decode(&encoded).unwrap(), *header);
    assert_eq!(header.hash(), hex_array(&case["segment_header_hash"]));
}

fn check_pieces(pieces: &[Piece], case: &Value) {
    let expected = list(&case["pieces_blake3"]);
    assert_eq!((pieces.len(), expected.len()), (SEGMENT_PIECES, SEGMENT_PIECES));
    let mut all = blake3::Hasher::new();
    for (piece, expected) in pieces.iter().zip(expected) {
        assert_eq!(piece.view().hash(), hex_array(expected));
        all.update(piece.as_bytes());
    }
    assert_eq!(all.finalize().as_bytes(), &hex_array(&case["pieces_concat_blake3"]));
    for sample in list(&case["pieces"]) {
        let position = number(&sample["position"]) as u8;
        let piece = pieces[usize::from(position)].view();
        let record = piece.record.as_flattened();
        assert_eq!(blake3::hash(record).as_bytes(), &hex_array(&sample["record_blake3"]));
        assert_eq!(hex::encode(&record[..64]), text(&sample["record_first64"]));
        assert_eq!(*piece.commitment, hex_array(&sample["record_commitment"]));
        assert_eq!(*piece.witness, hex_array(&sample["record_witness"]));
        assert_eq!(hash_to_scalar(piece.commitment).to_bytes(), hex_array(&sample["commitment_hash_scalar"]));
        let index = PieceIndex::new(number(&case["segment_index"]) as u64, position).unwrap();
        assert_eq!(index, PieceIndex(number(&sample["piece_index"]) as u64));
        assert_eq!(index.is_source(), sample["is_source"].as_bool().unwrap());
    }
}

fn candidate<'a>(header: &'a SegmentHeader, position: usize, piece: &'a Piece) -> Candidate<'a> {
    Candidate {
        segment_commitment: &header.segment_commitment,
        position: position as u8,
        piece: piece.view(),
    }
}

fn all_candidates(segment: &NewArchivedSegment) -> Vec<Candidate<'_>> {
    let numbered = segment.pieces.iter().enumerate();
    numbered.map(|(position, piece)| candidate(&segment.header, position, piece)).collect()
}

fn check_validity(kzg: &Kzg, segment: &NewArchivedSegment, case: &Value) {
    let verdicts = verify_pieces(kzg, &WORKERS, &all_candidates(segment));
    let mut elsewhere = Vec::new();
    for sample in list(&case["pieces"]) {
        let position = number(&sample["position"]);
        assert_eq!(verdicts[position].is_ok(), sample["is_piece_valid"].as_bool().unwrap());
        assert_eq!(sample["is_piece_valid_wrong_position(pos xor 1)"], false);
        elsewhere.push(candidate(&segment.header, position ^ 1, &segment.pieces[position]));
    }
    for (verdict, expected) in verdicts.iter().zip(list(&case["pieces_blake3"])) {
        assert_eq!(*verdict, Ok(hex_array(expected)));
    }
    let elsewhere = verify_pieces(kzg, &WORKERS, &elsewhere);
    assert!(elsewhere.iter().all(|verdict| *verdict == Err(InvalidPiece::Witness)));

    let corrupted = &case["corrupted_piece"];
    let position = number(&corrupted["position"]);
    assert_eq!(
        (text(&corrupted["mutation"]), &corrupted["is_piece_valid"]),
        ("piece byte 40 ^0x01", &false.into())
    );
    let bad = changed(&segment.pieces[position], 40, 1);
    let alone = verify_piece(kzg, &candidate(&segment.header, position, &bad));
    assert_eq!(alone, Err(InvalidPiece::Commitment));
}

fn changed(piece: &Piece, at: usize, mask: u8) -> Piece {
    let mut bytes = piece.as_bytes().to_vec();
    bytes[at] ^= mask;
    Piece::from_bytes(bytes.into()).unwrap()
}

/// The pieces that an `input` of the vectors names, by position.
fn given<'a>(input: &str, pieces: &'a [Piece]) -> Vec<Option<PieceRef<'a>>> {
    let is_given = |position: usize| match input {
        "all pieces" => true,
        "odd (parity) pieces only" => position % 2 == 1,
        "pieces 128..255 only" => position >= 128,
        other => panic!("unknown input {other}"),
    };
    pieces.iter().enumerate().map(|(at, piece)| is_given(at).then(|| piece.view())).collect()
}

fn check_blocks(reconstructor: &mut BlockReconstructor, segment: &NewArchivedSegment, case: &Value) {
    let case = &case["reconstruct"];
    let recorded = reconstruct_segment(&WORKERS, &given(text(&case["input"]), &segment.pieces)).unwrap();
    let mut found = Vec::new();
    let emit =
        |number: u32, block: Vec<u8>| found.push((number, block.len(), blake3::hash(&block).to_string()));
    reconstructor.add_segment(&recorded, emit).unwrap();
    // The network's reconstructor makes up empty blocks, which are no part of history.
    let expected: Vec<_> = list(&case["blocks"])
        .iter()
        .filter(|block| block["equals_input"] == true)
        .map(|block| {
            (number(&block["number"]) as u32, number(&block["len"]), text(&block["blake3"]).to_owned())
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn segments_and_headers() {
    let Some(history) = &*HISTORY else { return };
    assert_eq!(history.segments.len(), 3);
    for (case, segment) in history.cases() {
        check_header(&segment.header, case);
        check_pieces(&segment.pieces, case);
    }
}

#[test]
fn validity() {
    let Some(history) = &*HISTORY else { return };
    for (case, segment) in history.cases() {
        check_validity(&history.kzg, segment, case);
    }
}

#[test]
fn blocks_come_back() {
    let Some(history) = &*HISTORY else { return };
    let mut reconstructor = BlockReconstructor::new();
    for (case, segment) in history.cases() {
        check_blocks(&mut reconstructor, segment, case);
    }
}

#[test]
fn pieces_come_back() {
    let Some(history) = &*HISTORY else { return };
    for (case, segment) in history.cases().filter(|(case, _)| !case["piece_reconstruct"].is_null()) {
        let case = &case["piece_reconstruct"];
        assert_eq!(case["all_256_pieces_equal"], true);
        let input = given(text(&case["input"]), &segment.pieces);
        let positions: Vec<_> = (0..=u8::MAX).collect();
        let found = reconstruct_pieces(&history.kzg, &WORKERS, &input, &positions).unwrap();
        assert_eq!(found.segment_commitment, segment.header.segment_commitment);
        assert!(found.pieces == segment.pieces);
    }
}
