//! Sizes and limits of PROTOCOL section 0. Sizes are bytes unless the name says otherwise.

/// Bytes of a scalar that carry history: 31, so that any value is below the field's modulus.
pub const SCALAR_SAFE_BYTES: usize = 31;
/// Bytes of a scalar as stored, big endian.
pub const SCALAR_BYTES: usize = 32;

/// Chunks (scalars) of a record.
pub const RECORD_CHUNKS: usize = 1 << 15;
/// Record before it is cut into scalars.
pub const RAW_RECORD_SIZE: usize = SCALAR_SAFE_BYTES * RECORD_CHUNKS;
/// Record as chunks of 32 bytes.
pub const RECORD_SIZE: usize = SCALAR_BYTES * RECORD_CHUNKS;
/// s-buckets of a sector = chunks of an erasure-coded record.
pub const S_BUCKETS: usize = 2 * RECORD_CHUNKS;
/// Bytes of a bitfield with one bit for each s-bucket.
pub const S_BUCKET_BITFIELD_SIZE: usize = S_BUCKETS / 8;

/// Compressed BLS12-381 G1 point: any commitment or witness.
pub const POINT_SIZE: usize = 48;
/// Piece: record, record commitment, record witness.
pub const PIECE_SIZE: usize = RECORD_SIZE + 2 * POINT_SIZE;

/// Raw (source) records of a segment.
pub const SEGMENT_RAW_RECORDS: usize = 128;
/// Pieces of an archived segment, source and parity.
pub const SEGMENT_PIECES: usize = 2 * SEGMENT_RAW_RECORDS;
/// Recorded history segment.
pub const SEGMENT_SIZE: usize = SEGMENT_RAW_RECORDS * RAW_RECORD_SIZE;

/// Proof of space: log2 of the entries of table 1.
pub const POS_K: u32 = 20;
/// Proof of space: 64 x-values of 20 bits.
pub const POS_PROOF_SIZE: usize = 64 * POS_K as usize / 8;

/// BLAKE3-256 output.
pub const HASH_SIZE: usize = 32;
/// Record metadata in a sector: commitment, witness, BLAKE3 of the piece.
pub const RECORD_METADATA_SIZE: usize = 2 * POINT_SIZE + HASH_SIZE;
/// Encoded sector metadata: index, pieces, s-bucket sizes, history size, checksum.
pub const SECTOR_METADATA_SIZE: usize = 2 + 2 + 2 * S_BUCKETS + 8 + HASH_SIZE;
/// Protocol limit on pieces in a sector.
pub const MAX_PIECES_IN_SECTOR: u16 = 1000;

/// Bytes of the contents map of a sector of `pieces` pieces, checksum included (PROTOCOL 5.3).
pub const fn contents_map_size(pieces: u16) -> usize {
    S_BUCKET_BITFIELD_SIZE * pieces as usize + HASH_SIZE
}

/// Bytes of a sector of `pieces` pieces (PROTOCOL 5.3).
pub const fn sector_size(pieces: u16) -> usize {
    contents_map_size(pieces) + (RECORD_SIZE + RECORD_METADATA_SIZE) * pieces as usize + HASH_SIZE
}

const _: () = assert!(RAW_RECORD_SIZE == 1_015_808);
const _: () = assert!(PIECE_SIZE == 1_048_672);
const _: () = assert!(SEGMENT_SIZE == 130_023_424);
const _: () = assert!(SECTOR_METADATA_SIZE == 131_116);
const _: () = assert!(sector_size(1000) == 1_056_896_064);
