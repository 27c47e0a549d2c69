//! sector.json: derivations, and whole sectors plotted from the history of archiving.json.

use super::archiving::history;
use super::context::Context;
use super::json::{
    Check, array, array_of, digest, equal, hash_equal, hex_of, labelled_array, list, member, number,
    number_of, optional, ratio, size, small, text,
};
use super::report::Report;
use consensus::archiver::NewArchivedSegment;
use consensus::challenge::SectorSlotChallenge;
use consensus::constants::{RECORD_CHUNKS, SEGMENT_PIECES, contents_map_size, sector_size};
use consensus::piece::Piece;
use consensus::sector::{
    ContentsMap, ProtocolInfo, RecordEncoder, RecordMetadata, SectorAssembler, SectorId, SectorMetadata,
    expiration_check_history_size, public_key_hash,
};
use gpu::SectorPlan;
use serde_json::Value;

pub(super) fn run(vectors: &Value, context: &Context, report: &mut Report) {
    report.each("sector", vectors, "sector_ids", check_id);
    report.each("sector", vectors, "piece_index_derivation", check_piece_indexes);
    let prefix = text(vectors, "label_prefix").unwrap_or_default().to_owned();
    report.each("sector", vectors, "expiration", |case| check_expiration(case, &prefix));
    let Ok(plotted) = list(vectors, "plotted") else {
        return report.case("sector plotted", || Err("the vector has no list 'plotted'".into()));
    };
    for case in plotted {
        let name = text(case, "name").unwrap_or("without name").to_owned();
        let mut sector = None;
        report.case(format_args!("sector {name} plot"), || {
            sector = Some(Plotted::plot(case, context)?);
            Ok(())
        });
        let Some(sector) = sector else { continue };
        report.case(format_args!("sector {name} bytes"), || check_bytes(case, &sector));
        report.case(format_args!("sector {name} metadata"), || check_metadata(case, &sector));
        report.case(format_args!("sector {name} records"), || check_records(case, &sector));
        report.case(format_args!("sector {name} s-buckets"), || check_s_buckets(case, &sector));
    }
}

/// A sector plotted as a case of `plotted` says.
pub(super) struct Plotted {
    pub public_key: [u8; 32],
    pub id: SectorId,
    pub info: ProtocolInfo,
    pub sector: Vec<u8>,
    pub map: ContentsMap,
    pub metadata: SectorMetadata,
    pub piece_indexes: Vec<u64>,
}

impl Plotted {
    /// Plots the sector of the case named `name` of sector.json.
    pub fn by_name(name: &str, context: &Context) -> Check<Self> {
        let vectors = context.vectors("sector.json")?;
        let case = list(&vectors, "plotted")?.iter().find(|case| text(case, "name") == Ok(name));
        Self::plot(case.ok_or_else(|| format!("sector.json has no sector '{name}'"))?, context)
    }

    fn plot(case: &Value, context: &Context) -> Check<Self> {
        let (public_key, info) =
            (array(case, "public_key")?, protocol_info(case, number(case, "history_size")?)?);
        equal("public key", public_key, labelled_array(text(case, "public_key_label")?))?;
        let (sector_index, pieces_in_sector) =
            (small(case, "sector_index")?, small(case, "pieces_in_sector")?);
        let id = SectorId::new(&public_key_hash(&public_key), sector_index, info.history_size);
        let history = history(context)?;
        let piece_indexes: Vec<u64> =
            (0..pieces_in_sector).map(|offset| id.piece_index(offset, info.history_size, &info)).collect();
        let pieces =
            piece_indexes.iter().map(|index| piece_of(history, *index)).collect::<Check<Vec<_>>>()?;
        let history_size = info.history_size;
        let plan = SectorPlan { public_key, sector_index, history_size, pieces_in_sector };
        let (sector, metadata) = match &context.device {
            Some(device) => device.plot(plan, &pieces)?,
            None => plot_here(plan, &pieces, context)?,
        };
        let map = ContentsMap::decode(&sector[..contents_map_size(pieces_in_sector)], pieces_in_sector);
        let map = map.map_err(|error| error.to_string())?;
        Ok(Self { public_key, id, info, sector, map, metadata, piece_indexes })
    }

    /// All chunks in s-bucket order.
    pub fn chunks(&self) -> &[[u8; 32]] {
        chunks_of(&self.sector, self.metadata.pieces_in_sector)
    }

    /// Chunks of an s-bucket.
    pub fn s_bucket(&self, s_bucket: u16) -> &[[u8; 32]] {
        let start = self.metadata.chunks_before(s_bucket) as usize;
        &self.chunks()[start..start + usize::from(self.metadata.s_bucket_sizes[usize::from(s_bucket)])]
    }

    /// The record as it was encoded, gathered from the sector.
    pub fn stored_record(&self, sector: &[u8], offset: u16) -> Check<Vec<[u8; 32]>> {
        let locations =
            self.map.chunk_locations(offset, &self.metadata.s_bucket_sizes).ok_or("no such record")?;
        let chunks = chunks_of(sector, self.metadata.pieces_in_sector);
        Ok(locations.into_iter().map(|location| chunks[location as usize]).collect())
    }

    /// Metadata of a record, read from the sector.
    pub fn record_metadata(&self, offset: u16) -> Check<RecordMetadata> {
        let pieces = self.metadata.pieces_in_sector;
        let start = contents_map_size(pieces) + usize::from(pieces) * RECORD_CHUNKS * 32;
        let records = self.sector[start..sector_size(pieces) - 32].as_chunks().0;
        records
            .get(usize::from(offset))
            .map(RecordMetadata::from_bytes)
            .ok_or_else(|| "no such record".into())
    }
}

/// The sector as `consensus` makes it.
fn plot_here(plan: SectorPlan, pieces: &[&Piece], context: &Context) -> Check<(Vec<u8>, SectorMetadata)> {
    let mut encoder = RecordEncoder::new(context.level);
    let (mut records, mut bitfields, mut metadata) = (vec![], vec![], vec![]);
    for (offset, piece) in (0..).zip(pieces) {
        let piece = piece.view();
        let mut record = piece.record.to_vec();
        let bitfield = encoder.encode(&plan.sector_id().evaluation_seed(offset), &mut record);
        bitfields.push(bitfield.map_err(|error| error.to_string())?);
        metadata.push(RecordMetadata::of(&piece));
        records.push(record);
    }
    let assembler = SectorAssembler::new(records.iter().map(Vec::as_slice).collect(), bitfields, &metadata);
    let metadata = assembler.sector_metadata(plan.sector_index, plan.history_size);
    Ok((assembler.to_sector(), metadata))
}

fn chunks_of(sector: &[u8], pieces: u16) -> &[[u8; 32]] {
    sector[contents_map_size(pieces)..][..usize::from(pieces) * RECORD_CHUNKS * 32].as_chunks().0
}

/// The piece of this index in the archived history.
pub(super) fn piece_of(history: &[NewArchivedSegment], index: u64) -> Check<&Piece> {
    let segment =
        history.get((index / SEGMENT_PIECES as u64) as usize).ok_or("piece is not in the history")?;
    Ok(&segment.pieces[(index % SEGMENT_PIECES as u64) as usize])
}

/// The chain's rules as a case gives them.
pub(super) fn protocol_info(case: &Value, history_size: u64) -> Check<ProtocolInfo> {
    Ok(ProtocolInfo {
        history_size,
        max_pieces_in_sector: small(case, "max_pieces_in_sector")?,
        recent_segments: number(case, "recent_segments")?,
        recent_history_fraction: ratio(case, "recent_history_fraction")?,
        min_sector_lifetime: optional(case, "min_sector_lifetime").map_or(Ok(4), number_of)?,
    })
}

fn check_id(case: &Value) -> Check {
    let public_key = array(case, "public_key")?;
    equal("public key", public_key, labelled_array(text(case, "public_key_label")?))?;
    let hash = public_key_hash(&public_key);
    equal("public key hash", hash, array(case, "public_key_hash")?)?;
    let id = SectorId::new(&hash, small(case, "sector_index")?, number(case, "history_size")?);
    equal("sector id", id.0, array(case, "sector_id")?)?;
    for pair in list(case, "evaluation_seeds")? {
        let offset = u16::try_from(number_of(&pair[0])?).map_err(|_| "piece offset is too large")?;
        equal("evaluation seed", id.evaluation_seed(offset), array_of(&pair[1])?)?;
    }
    let challenge = SectorSlotChallenge::new(&id, &array(case, "global_challenge")?);
    equal("sector slot challenge", challenge.0, array(case, "sector_slot_challenge")?)?;
    equal("audited s-bucket", challenge.s_bucket(), small(case, "s_bucket_audit_index")?)
}

fn check_piece_indexes(case: &Value) -> Check {
    let history_size = number(case, "history_size")?;
    let info = protocol_info(case, history_size)?;
    let public_key = labelled_array(text(case, "public_key_label")?);
    let id = SectorId::new(&public_key_hash(&public_key), small(case, "sector_index")?, history_size);
    equal("sector id", id.0, array(case, "sector_id")?)?;
    for (offset, expected) in (0..).zip(list(case, "piece_indexes_0_49")?) {
        equal(&format!("piece {offset}"), id.piece_index(offset, history_size, &info), number_of(expected)?)?;
    }
    Ok(())
}

/// The sector is that of the set's first public key, as the rule of these vectors has it.
fn check_expiration(case: &Value, prefix: &str) -> Check {
    let (history_size, lifetime) = (number(case, "history_size")?, number(case, "min_sector_lifetime")?);
    let label = optional(case, "public_key_label").and_then(Value::as_str).map(str::to_owned);
    let public_key = labelled_array(&label.unwrap_or_else(|| format!("{prefix}/sector/public-key/0")));
    let id = SectorId::new(&public_key_hash(&public_key), small(case, "sector_index")?, history_size);
    let commitment = labelled_array(text(case, "commitment_label")?);
    let expected = |key| optional(case, key).map(number_of).transpose();
    let check_size = expiration_check_history_size(history_size, lifetime);
    equal("check size", check_size, expected("expiration_check_history_size")?)?;
    let expiration = id.expiration_history_size(history_size, lifetime, &commitment);
    equal("expiration", expiration, expected("expiration_history_size")?)
}

fn check_bytes(case: &Value, plotted: &Plotted) -> Check {
    equal("sector id", plotted.id.0, array(case, "sector_id")?)?;
    let expected = list(case, "piece_indexes")?.iter().map(number_of).collect::<Check<Vec<u64>>>()?;
    equal("piece indexes", &plotted.piece_indexes, &expected)?;
    let regions = member(case, "regions")?;
    let region = |key| -> Check<(&[u8], &Value)> {
        let region = member(regions, key)?;
        let start = size(region, "offset")?;
        let end = start.saturating_add(optional(region, "len").map_or(Ok(32), number_of)? as usize);
        Ok((plotted.sector.get(start..end).ok_or_else(|| format!("{key} is outside of the sector"))?, region))
    };
    let (map, expected) = region("contents_map")?;
    let (bitfields, checksum) = map.split_at(map.len().saturating_sub(32));
    hash_equal("bitfields", bitfields, expected, "bitfields_blake3")?;
    equal("checksum of the contents map", checksum, &hex_of(member(expected, "checksum")?)?)?;
    for key in ["s_buckets", "record_metadata"] {
        let (bytes, expected) = region(key)?;
        hash_equal(key, bytes, expected, "blake3")?;
    }
    let (checksum, expected) = region("checksum")?;
    equal("checksum", checksum, &hex_of(member(expected, "hex")?)?)?;
    digest("sector", &plotted.sector, member(case, "sector_bytes")?)
}

fn check_metadata(case: &Value, plotted: &Plotted) -> Check {
    let expected = member(case, "sector_metadata")?;
    let encoded = plotted.metadata.encode();
    let sizes: Vec<u8> = plotted.metadata.s_bucket_sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    equal("length", encoded.len(), size(expected, "encoded_len")?)?;
    hash_equal("metadata", &encoded, expected, "encoded_blake3")?;
    equal("start", &encoded[..128], &hex_of(member(expected, "first128")?)?)?;
    equal("end", &encoded[encoded.len() - 64..], &hex_of(member(expected, "last64")?)?)?;
    hash_equal("s-bucket sizes", &sizes, expected, "s_bucket_sizes_u16le_blake3")?;
    equal("decoded", SectorMetadata::decode(&encoded).as_ref(), Ok(&plotted.metadata))?;
    equal("sizes of the contents map", &plotted.map.s_bucket_sizes(), &plotted.metadata.s_bucket_sizes)?;
    let used = plotted.metadata.s_bucket_sizes.iter();
    let total: u64 = used.clone().map(|size| u64::from(*size)).sum();
    equal("chunks", total, number(expected, "total_chunks")?)?;
    let last = used.clone().rposition(|size| *size != 0);
    equal("last s-bucket", last, Some(size(expected, "last_non_empty_s_bucket")?))?;
    // The network's plotted-sector message: id, index, metadata, list of piece indexes.
    let mut message = plotted.id.0.to_vec();
    message.extend(plotted.metadata.sector_index.to_le_bytes());
    message.extend(&encoded);
    message.extend(parity_scale_codec::Encode::encode(&plotted.piece_indexes));
    digest("plotted sector message", &message, member(case, "plotted_sector_scale")?)
}

fn check_records(case: &Value, plotted: &Plotted) -> Check {
    let decoded = ContentsMap::decode(&plotted.map.encode(), plotted.metadata.pieces_in_sector);
    equal("contents map comes back", decoded.as_ref(), Ok(&plotted.map))?;
    list(case, "records")?
        .iter()
        .enumerate()
        .try_for_each(|(i, case)| check_record(case, plotted).map_err(|error| format!("record {i}: {error}")))
}

fn check_record(case: &Value, plotted: &Plotted) -> Check {
    let offset = small(case, "piece_offset")?;
    let bitfield = plotted.map.records().get(usize::from(offset)).ok_or("no such record")?;
    equal("piece index", plotted.piece_indexes[usize::from(offset)], number(case, "piece_index")?)?;
    equal("evaluation seed", plotted.id.evaluation_seed(offset), array(case, "evaluation_seed")?)?;
    equal("encoded chunks", bitfield.count(), size(case, "num_encoded_chunks")?)?;
    hash_equal("bitfield", bitfield.as_bytes(), case, "bitfield_blake3")?;
    equal("start of bitfield", &bitfield.as_bytes()[..32], &hex_of(member(case, "bitfield_first32")?)?)?;
    let last = bitfield.used().last().map(|(s_bucket, _)| s_bucket);
    equal("last s-bucket", last, Some(small(case, "last_s_bucket_used")?))?;
    let metadata = plotted.record_metadata(offset)?.to_bytes();
    equal("record metadata", metadata, array(case, "record_metadata")?)
}

fn check_s_buckets(case: &Value, plotted: &Plotted) -> Check {
    for sample in list(case, "s_bucket_samples")? {
        let s_bucket = small(sample, "s_bucket")?;
        let chunks = plotted.s_bucket(s_bucket);
        equal("size", chunks.len(), size(sample, "size")?)?;
        let start = plotted.metadata.chunks_before(s_bucket);
        equal("chunk offset", u64::from(start), number(sample, "chunk_offset_in_plot")?)?;
        let byte_offset = contents_map_size(plotted.metadata.pieces_in_sector) + 32 * start as usize;
        equal("byte offset", byte_offset, size(sample, "byte_offset_in_sector")?)?;
        equal("bytes", chunks.as_flattened(), &hex_of(member(sample, "bytes")?)?)?;
        for (place, record) in list(sample, "records")?.iter().enumerate() {
            let [offset, encoded] = record.as_array().map(Vec::as_slice).unwrap_or_default() else {
                return Err("a record of an s-bucket is not a pair".into());
            };
            let expected = (number_of(offset)? as u16, encoded == &Value::Bool(true));
            equal("record", plotted.map.record_at(s_bucket, place), Some(expected))?;
        }
    }
    Ok(())
}
