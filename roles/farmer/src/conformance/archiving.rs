//! archiving.json: blocks into segments into pieces, piece validity, and back.

use super::context::Context;
use super::json::{
    Check, array, array_of, digest, equal, flag, hash_equal, labelled, list, member, number, optional, size,
    text,
};
use super::report::Report;
use consensus::archiver::{Archiver, NewArchivedSegment, archive_segment};
use consensus::constants::SEGMENT_PIECES;
use consensus::kzg::hash_to_scalar;
use consensus::piece::{Piece, PieceIndex, PieceRef};
use consensus::piece_verify::{Candidate, InvalidPiece, verify_piece, verify_pieces};
use consensus::reconstruct::{BlockReconstructor, reconstruct_pieces, reconstruct_segment};
use consensus::segment::{ArchivedProgress, LastArchivedBlock, SegmentHeader, SegmentItem, SegmentItems};
use serde_json::Value;

pub(super) fn run(vectors: &Value, context: &Context, report: &mut Report) {
    report.case("archiving blocks", || history(context).map(|_| ()));
    let (Ok(history), Ok(cases)) = (history(context), list(vectors, "segments")) else { return };
    let mut blocks = BlockReconstructor::new();
    for (i, (case, segment)) in cases.iter().zip(history).enumerate() {
        report.case(format_args!("archiving segment {i} header"), || check_header(&segment.header, case));
        report.case(format_args!("archiving segment {i} pieces"), || check_pieces(&segment.pieces, case));
        report
            .case(format_args!("archiving segment {i} validity"), || check_validity(context, segment, case));
        report.case(format_args!("archiving segment {i} blocks back"), || {
            check_blocks(context, &mut blocks, segment, case)
        });
        if let Some(case) = optional(case, "piece_reconstruct") {
            report.case(format_args!("archiving segment {i} pieces back"), || {
                check_reconstruction(context, segment, case)
            });
        }
    }
}

/// The archived segments of archiving.json.
pub(super) fn history(context: &Context) -> Check<&[NewArchivedSegment]> {
    let history = context.history.get_or_init(|| archive_history(context));
    history.as_deref().map_err(Clone::clone)
}

/// Archives the blocks of archiving.json, checking every recorded segment on the way.
fn archive_history(context: &Context) -> Check<Vec<NewArchivedSegment>> {
    let vectors = context.vectors("archiving.json")?;
    let cases = list(&vectors, "segments")?;
    let (mut archiver, mut segments) = (Archiver::new(), Vec::new());
    for block in list(&vectors, "blocks")? {
        let bytes = labelled(text(block, "label")?, size(block, "len")?);
        hash_equal("block", &bytes, block, "blake3")?;
        equal("block number", archiver.next_block_number().map(u64::from), Some(number(block, "number")?))?;
        archiver.add_block(bytes).map_err(|error| error.to_string())?;
        while let Some(recorded) = archiver.cut() {
            let case = cases.get(segments.len()).ok_or("more segments than expected")?;
            check_recorded(recorded.bytes(), case)?;
            let archived = archive_segment(context.kzg()?, &context.workers, recorded);
            archiver.seal(&archived.header).map_err(|error| error.to_string())?;
            segments.push(archived);
        }
        equal("segments so far", segments.len(), size(block, "segments_completed_after")?)?;
    }
    equal("segments", segments.len(), cases.len())?;
    Ok(segments)
}

fn check_recorded(segment: &[u8], case: &Value) -> Check {
    digest("segment", segment, member(case, "segment_bytes")?)?;
    let (mut items, mut padding) = (Vec::new(), 0);
    for item in SegmentItems::new(segment).map_err(|error| error.to_string())? {
        let length = |name: &str, bytes: &[u8]| format!("{name} {}", bytes.len());
        match item.map_err(|error| error.to_string())? {
            SegmentItem::Padding(length) => padding += length,
            SegmentItem::Block(bytes) => items.push(length("Block", bytes)),
            SegmentItem::BlockStart(bytes) => items.push(length("BlockStart", bytes)),
            SegmentItem::BlockContinuation(bytes) => items.push(length("BlockContinuation", bytes)),
            SegmentItem::ParentSegmentHeader(header) => {
                items.push(format!("ParentSegmentHeader {}", hex::encode(header.encode())));
            }
        }
    }
    let mut expected = Vec::new();
    for item in list(case, "segment_items")? {
        let body = match optional(item, "scale") {
            Some(_) => text(item, "scale")?.to_owned(),
            None => size(item, "len")?.to_string(),
        };
        expected.push(format!("{} {body}", text(item, "item")?));
    }
    equal("items", items, expected)?;
    equal("padding", padding, size(case, "trailing_padding_bytes")?)
}

fn check_header(header: &SegmentHeader, case: &Value) -> Check {
    equal("segment index", header.segment_index, number(case, "segment_index")?)?;
    equal("commitment", header.segment_commitment, array(case, "segment_commitment")?)?;
    equal("previous header", header.prev_segment_header_hash, array(case, "prev_segment_header_hash")?)?;
    let last = member(case, "last_archived_block")?;
    let archived_progress = match optional(last, "partial") {
        Some(_) => ArchivedProgress::Partial(number(last, "partial")? as u32),
        None => ArchivedProgress::Complete,
    };
    let number = number(last, "number")? as u32;
    equal(
        "last archived block",
        header.last_archived_block,
        LastArchivedBlock { number, archived_progress },
    )?;
    let encoded = header.encode();
    equal("SCALE", hex::encode(&encoded).as_str(), text(case, "segment_header_scale")?)?;
    equal("decoded", SegmentHeader::decode(&encoded).as_ref(), Ok(header))?;
    equal("hash", header.hash(), array(case, "segment_header_hash")?)
}

fn check_pieces(pieces: &[Piece], case: &Value) -> Check {
    let expected = list(case, "pieces_blake3")?.iter().map(array_of).collect::<Check<Vec<[u8; 32]>>>()?;
    equal("number of pieces", (pieces.len(), expected.len()), (SEGMENT_PIECES, SEGMENT_PIECES))?;
    let mut all = blake3::Hasher::new();
    for (position, (piece, expected)) in pieces.iter().zip(expected).enumerate() {
        equal(&format!("piece {position}"), piece.view().hash(), expected)?;
        all.update(piece.as_bytes());
    }
    equal("all pieces", all.finalize().to_string().as_str(), text(case, "pieces_concat_blake3")?)?;
    list(case, "pieces")?
        .iter()
        .try_for_each(|sample| check_piece(pieces, sample, number(case, "segment_index")?))
}

fn position_of(case: &Value) -> Check<u8> {
    u8::try_from(number(case, "position")?).map_err(|_| "position is not below 256".into())
}

fn check_piece(pieces: &[Piece], case: &Value, segment_index: u64) -> Check {
    let position = position_of(case)?;
    let piece = pieces[usize::from(position)].view();
    let record = piece.record.as_flattened();
    hash_equal("record", record, case, "record_blake3")?;
    equal("start of record", hex::encode(&record[..64]).as_str(), text(case, "record_first64")?)?;
    equal("commitment", *piece.commitment, array(case, "record_commitment")?)?;
    equal("witness", *piece.witness, array(case, "record_witness")?)?;
    let scalar = hash_to_scalar(piece.commitment).to_bytes();
    equal("commitment hash", scalar, array(case, "commitment_hash_scalar")?)?;
    let index = PieceIndex::new(segment_index, position).ok_or("segment index is too large")?;
    equal("piece index", index.0, number(case, "piece_index")?)?;
    equal("is source", index.is_source(), flag(case, "is_source")?)
}

fn candidate<'a>(header: &'a SegmentHeader, position: u8, piece: &'a Piece) -> Candidate<'a> {
    Candidate { segment_commitment: &header.segment_commitment, position, piece: piece.view() }
}

fn check_validity(context: &Context, segment: &NewArchivedSegment, case: &Value) -> Check {
    let (kzg, header) = (context.kzg()?, &segment.header);
    let positions = 0..=u8::MAX;
    let all: Vec<_> =
        positions.zip(&segment.pieces).map(|(position, piece)| candidate(header, position, piece)).collect();
    let verdicts = verify_pieces(kzg, &context.workers, &all);
    for (verdict, expected) in verdicts.iter().zip(list(case, "pieces_blake3")?) {
        equal("verdict", verdict, &Ok(array_of(expected)?))?;
    }
    for sample in list(case, "pieces")? {
        let position = position_of(sample)?;
        let piece = &segment.pieces[usize::from(position)];
        equal("valid", verdicts[usize::from(position)].is_ok(), flag(sample, "is_piece_valid")?)?;
        let key = "is_piece_valid_wrong_position(pos xor 1)";
        let elsewhere = verify_piece(kzg, &candidate(header, position ^ 1, piece));
        equal(key, elsewhere.is_ok(), flag(sample, key)?)?;
    }
    let corrupted = member(case, "corrupted_piece")?;
    let position = position_of(corrupted)?;
    equal("mutation", text(corrupted, "mutation")?, "piece byte 40 ^0x01")?;
    let mut bytes = segment.pieces[usize::from(position)].as_bytes().to_vec();
    bytes[40] ^= 1;
    let piece = Piece::from_bytes(bytes.into()).map_err(|error| error.to_string())?;
    let verdict = verify_piece(kzg, &candidate(header, position, &piece));
    equal("corrupted piece", verdict.is_ok(), flag(corrupted, "is_piece_valid")?)?;
    equal("reason", verdict, Err(InvalidPiece::Commitment))
}

/// The pieces that an `input` of the vectors names, by position.
fn given<'a>(input: &str, pieces: &'a [Piece]) -> Check<Vec<Option<PieceRef<'a>>>> {
    let is_given: fn(usize) -> bool = match input {
        "all pieces" => |_| true,
        "odd (parity) pieces only" => |position| position % 2 == 1,
        "even (source) pieces only" => |position| position % 2 == 0,
        "pieces 0..127 only" => |position| position < 128,
        "pieces 128..255 only" => |position| position >= 128,
        _ => return Err(format!("unknown input '{input}'")),
    };
    Ok(pieces.iter().enumerate().map(|(at, piece)| is_given(at).then(|| piece.view())).collect())
}

fn check_blocks(
    context: &Context,
    blocks: &mut BlockReconstructor,
    segment: &NewArchivedSegment,
    case: &Value,
) -> Check {
    let case = member(case, "reconstruct")?;
    let input = given(text(case, "input")?, &segment.pieces)?;
    let recorded = reconstruct_segment(&context.workers, &input).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    let emit = |number: u32, block: Vec<u8>| {
        found.push((u64::from(number), block.len(), blake3::hash(&block).to_string()));
    };
    blocks.add_segment(&recorded, emit).map_err(|error| error.to_string())?;
    let mut expected = Vec::new();
    // The network's reconstructor makes up empty blocks, which are no part of history.
    for block in list(case, "blocks")?
        .iter()
        .filter(|block| optional(block, "equals_input") != Some(&Value::Bool(false)))
    {
        expected.push((number(block, "number")?, size(block, "len")?, text(block, "blake3")?.to_owned()));
    }
    equal("blocks", found, expected)
}

fn check_reconstruction(context: &Context, segment: &NewArchivedSegment, case: &Value) -> Check {
    let input = given(text(case, "input")?, &segment.pieces)?;
    let positions: Vec<u8> = (0..=u8::MAX).collect();
    let found = reconstruct_pieces(context.kzg()?, &context.workers, &input, &positions)
        .map_err(|error| error.to_string())?;
    equal("segment commitment", found.segment_commitment, segment.header.segment_commitment)?;
    equal("all pieces equal", found.pieces == segment.pieces, flag(case, "all_256_pieces_equal")?)
}
