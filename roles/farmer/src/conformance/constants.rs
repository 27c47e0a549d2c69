//! constants.json: sizes, distances and solution ranges.

use super::context::Context;
use super::json::{Check, array, equal, labelled_array, number, number_of, optional, ratio, small, text};
use super::report::Report;
use consensus::audit;
use consensus::challenge::{SectorSlotChallenge, bidirectional_distance, chunk_distance};
use consensus::constants::*;
use consensus::sector::{SectorId, public_key_hash};
use consensus::solution::SOLUTION_SIZE;
use consensus::solution_range::{next_solution_range, pieces_to_solution_range, solution_range_to_pieces};
use serde_json::Value;

pub(super) fn run(vectors: &Value, context: &Context, report: &mut Report) {
    report.case("constants values", || check_constants(super::json::member(vectors, "constants")?));
    report.each("constants", vectors, "sizes_by_pieces_in_sector", check_sizes);
    let prefix = text(vectors, "label_prefix").unwrap_or_default().to_owned();
    report.each("constants", vectors, "solution_distance", |case| check_distance(case, &prefix, context));
    report.each("constants", vectors, "bidirectional_distance[a,b,d]", check_bidirectional);
    report.each("constants", vectors, "pieces_to_solution_range", check_pieces);
    report.each("constants", vectors, "derive_next_solution_range", check_next);
}

/// The numbers that this build has for the network's names.
fn ours(name: &str) -> Option<u64> {
    let value = match name {
        "ScalarBytes::SAFE_BYTES" => SCALAR_SAFE_BYTES,
        "ScalarBytes::FULL_BYTES" => SCALAR_BYTES,
        "RawRecord::SIZE" => RAW_RECORD_SIZE,
        "RawRecord::NUM_CHUNKS" | "Record::NUM_CHUNKS" => RECORD_CHUNKS,
        "Record::SIZE" => RECORD_SIZE,
        "Record::NUM_S_BUCKETS" => S_BUCKETS,
        "RecordCommitment::SIZE"
        | "RecordWitness::SIZE"
        | "ChunkWitness::SIZE"
        | "SegmentCommitment::SIZE" => POINT_SIZE,
        "Piece::SIZE" => PIECE_SIZE,
        "RecordedHistorySegment::NUM_RAW_RECORDS" => SEGMENT_RAW_RECORDS,
        "RecordedHistorySegment::SIZE" => SEGMENT_SIZE,
        "ArchivedHistorySegment::NUM_PIECES" => SEGMENT_PIECES,
        "ArchivedHistorySegment::SIZE" => SEGMENT_PIECES * PIECE_SIZE,
        "PosProof::K" => POS_K as usize,
        "PosProof::SIZE" => POS_PROOF_SIZE,
        "PosSeed::SIZE" => size_of::<consensus::pos::Seed>(),
        "SBucket::MAX" => S_BUCKETS - 1,
        "PotOutput::SIZE" => size_of::<consensus::challenge::PotOutput>(),
        "SectorMetadataChecksummed::encoded_size" => SECTOR_METADATA_SIZE,
        "record_metadata_size" => RECORD_METADATA_SIZE,
        "MAX_PIECES_IN_SECTOR(runtime)" => usize::from(MAX_PIECES_IN_SECTOR),
        "Solution<PublicKey> scale size" => SOLUTION_SIZE,
        _ => return None,
    };
    Some(value as u64)
}

/// Everything that this build has a constant for; the rest comes from the node at run time.
fn check_constants(constants: &Value) -> Check {
    let mut compared = 0;
    for (name, expected) in constants.as_object().into_iter().flatten() {
        if let Some(found) = ours(name) {
            equal(name, found, number_of(expected)?)?;
            compared += 1;
        }
    }
    if compared < 20 { Err(format!("only {compared} constants were comparable")) } else { Ok(()) }
}

fn check_sizes(case: &Value) -> Check {
    let pieces = small(case, "pieces")?;
    equal("sector size", sector_size(pieces) as u64, number(case, "sector_size")?)?;
    equal("contents map", contents_map_size(pieces) as u64, number(case, "contents_map")?)?;
    equal("record chunks", u64::from(pieces) * RECORD_SIZE as u64, number(case, "record_chunks")?)?;
    equal(
        "record metadata",
        u64::from(pieces) * RECORD_METADATA_SIZE as u64,
        number(case, "record_metadata")?,
    )
}

fn check_distance(case: &Value, prefix: &str, context: &Context) -> Check {
    let i = small(case, "i")?;
    let global: [u8; 32] = labelled_array(&format!("{prefix}/range/global/{i}"));
    let chunk: [u8; 32] = labelled_array(&format!("{prefix}/range/chunk/{i}"));
    let public_key = labelled_array(&format!("{prefix}/range/pk/{i}"));
    let sector_id = SectorId::new(&public_key_hash(&public_key), i, 1);
    equal("global challenge", global, array(case, "global_challenge")?)?;
    equal("chunk", chunk, array(case, "chunk")?)?;
    equal("sector id", sector_id.0, array(case, "sector_id")?)?;
    let challenge = SectorSlotChallenge::new(&sector_id, &global);
    equal("sector slot challenge", challenge.0, array(case, "sector_slot_challenge")?)?;
    let hash: [u8; 32] = blake3::keyed_hash(&challenge.0, &chunk).into();
    equal("audit chunk", hash, array(case, "audit_chunk")?)?;
    let distance = number(case, "distance")?;
    equal("distance", chunk_distance(&global, &challenge, &chunk), distance)?;
    let doubled = distance.saturating_mul(2);
    for (key, range) in [
        ("within_MAX", u64::MAX),
        ("within_2d", doubled),
        ("within_2d_minus_1", doubled.wrapping_sub(1)),
        ("within_2d_plus_1", doubled.saturating_add(1)),
    ] {
        let expected = optional(case, key).map(number_of).transpose()?;
        let found =
            audit::audit(context.level, &global, &challenge, range, &[chunk]).first().map(|c| c.distance);
        equal(key, found, expected)?;
    }
    Ok(())
}

fn check_bidirectional(case: &Value) -> Check {
    let numbers = case.as_array().into_iter().flatten().map(number_of).collect::<Check<Vec<u64>>>()?;
    let [a, b, distance] = numbers[..] else { return Err("not three numbers".into()) };
    equal("distance", bidirectional_distance(a, b), distance)
}

fn check_pieces(case: &Value) -> Check {
    let (pieces, probability) = (number(case, "pieces")?, ratio(case, "slot_probability")?);
    let range = number(case, "solution_range")?;
    equal("solution range", pieces_to_solution_range(pieces, probability), Some(range))?;
    equal("pieces", solution_range_to_pieces(range, probability), Some(number(case, "back_to_pieces")?))
}

fn check_next(case: &Value) -> Check {
    let era = u32::try_from(number(case, "era_duration")?).map_err(|_| "era_duration is too large")?;
    let found = next_solution_range(
        number(case, "start_slot")?,
        number(case, "current_slot")?,
        ratio(case, "slot_probability")?,
        number(case, "current_solution_range")?,
        era,
    );
    equal("next solution range", found, Some(number(case, "next")?))
}
