//! reading_*.json: pieces read back from plotted sectors, and what damage looks like.

use super::archiving::history;
use super::context::Context;
use super::json::{Check, equal, flag, hash_equal, list, member, number, small, text};
use super::report::Report;
use super::sector::{Plotted, piece_of};
use consensus::constants::contents_map_size;
use consensus::piece::Piece;
use consensus::sector::{ContentsMap, ContentsMapError, DecodeError, RecordDecoder};
use serde_json::Value;

pub(super) fn run(vectors: &Value, context: &Context, report: &mut Report) {
    let name = text(vectors, "sector").unwrap_or("without name").to_owned();
    let mut plotted = None;
    report.case(format_args!("reading {name} sector"), || {
        plotted = Some(Plotted::by_name(&name, context)?);
        Ok(())
    });
    let (Some(plotted), Ok(reads)) = (plotted, list(vectors, "reads")) else { return };
    let mut decoder = RecordDecoder::new(context.level);
    for (i, case) in reads.iter().enumerate() {
        report.case(format_args!("reading {name} {i}"), || {
            if case.get("mutation").is_some() {
                check_damage(case, &plotted, &mut decoder)
            } else {
                check_read(case, &plotted, context, &mut decoder)
            }
        });
    }
}

/// Both modes of the network (chunk by chunk, whole sector) are one here: they differ in how bytes are fetched.
fn check_read(case: &Value, plotted: &Plotted, context: &Context, decoder: &mut RecordDecoder) -> Check {
    let offset = small(case, "piece_offset")?;
    let index = plotted.piece_indexes.get(usize::from(offset)).ok_or("no such piece")?;
    equal("piece index", *index, number(case, "piece_index")?)?;
    let piece = read(&plotted.sector, offset, plotted, decoder)?;
    hash_equal("piece", piece.as_bytes(), case, "piece_blake3")?;
    equal(
        "equals the original",
        &piece == piece_of(history(context)?, *index)?,
        flag(case, "equals_original")?,
    )
}

fn read(sector: &[u8], offset: u16, plotted: &Plotted, decoder: &mut RecordDecoder) -> Check<Piece> {
    let pieces = plotted.metadata.pieces_in_sector;
    let map =
        ContentsMap::decode(&sector[..contents_map_size(pieces)], pieces).map_err(|error| match error {
            ContentsMapError::Checksum => "Failed to decode sector contents map: Checksum mismatch".into(),
            other => other.to_string(),
        })?;
    let stored = plotted.stored_record(sector, offset)?;
    let bitfield = map.records().get(usize::from(offset)).ok_or("no such record")?;
    let seed = plotted.id.evaluation_seed(offset);
    let metadata = plotted.record_metadata(offset)?;
    decoder.read_piece(&seed, &stored, bitfield, &metadata).map_err(|error| match error {
        DecodeError::Checksum => "Checksum mismatch".into(),
        DecodeError::InvalidScalar(_) => "Invalid scalar".into(),
        other => other.to_string(),
    })
}

fn check_damage(case: &Value, plotted: &Plotted, decoder: &mut RecordDecoder) -> Check {
    let mut sector = plotted.sector.clone();
    let mutation = text(case, "mutation")?;
    let (place, mask) =
        mutation.rsplit_once(" ^0x").ok_or_else(|| format!("unknown mutation '{mutation}'"))?;
    let mask = u8::from_str_radix(mask, 16).map_err(|_| format!("unknown mutation '{mutation}'"))?;
    sector[damaged_byte(place, plotted)?] ^= mask;
    let found = read(&sector, small(case, "piece_offset")?, plotted, decoder);
    let found = found.err().map(|error| format!("Some({error:?})"));
    equal(mutation, found.as_deref(), member(case, "error")?.as_str())
}

/// `sector byte N`, or `byte N of first chunk of s-bucket M`.
fn damaged_byte(place: &str, plotted: &Plotted) -> Check<usize> {
    let number = |word: &str| word.parse::<usize>().map_err(|_| format!("unknown place '{place}'"));
    let byte = match place.split(' ').collect::<Vec<_>>()[..] {
        ["sector", "byte", byte] => number(byte)?,
        ["byte", byte, "of", "first", "chunk", "of", "s-bucket", s_bucket] => {
            let s_bucket = u16::try_from(number(s_bucket)?).map_err(|_| "s-bucket is too large")?;
            let chunk = plotted.metadata.chunks_before(s_bucket) as usize;
            contents_map_size(plotted.metadata.pieces_in_sector) + 32 * chunk + number(byte)?
        }
        _ => return Err(format!("unknown place '{place}'")),
    };
    if byte < plotted.sector.len() { Ok(byte) } else { Err("outside of the sector".into()) }
}
