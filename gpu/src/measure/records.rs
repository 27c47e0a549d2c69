//! Pieces to measure with.
//!
//! Owns: their bytes. Never: what becomes of them.

use consensus::constants::{POINT_SIZE, RECORD_SIZE};
use consensus::piece::PieceRef;
use engine::pool::{Pool, SLAB_BYTES, Slab};

/// Records in one slab.
const RECORDS_IN_SLAB: usize = SLAB_BYTES / RECORD_SIZE;
/// Slabs of records: 32 records that differ. Whoever encodes more takes them again, with other seeds.
pub(super) const RECORD_SLABS: usize = 16;

/// A piece whose record is in a pool. Encoders look at the hash of all of it, and at the points not at all.
pub(super) struct MeasuredPiece {
    pub record: Slab,
    pub point: [u8; POINT_SIZE],
    pub hash: [u8; 32],
}

/// Pieces of pseudo-random scalars, in so many slabs of a pool that has them free.
pub(super) fn pieces(pool: &Pool, slabs: usize) -> Vec<MeasuredPiece> {
    let slab = |number: usize| {
        let mut slab = pool.try_acquire().expect("the pool was made with slabs for these");
        let mut random =
            blake3::Hasher::new().update(b"measured records").update(&number.to_le_bytes()).finalize_xof();
        random.fill(&mut slab);
        // Below the modulus, whose highest byte is 0x73, and still using nearly all bits.
        slab.as_chunks_mut::<32>().0.iter_mut().for_each(|scalar| scalar[0] &= 0x3f);
        let slab = slab.freeze();
        (0..RECORDS_IN_SLAB).map(move |part| slab.slice(part * RECORD_SIZE..(part + 1) * RECORD_SIZE))
    };
    (0..slabs).flat_map(slab).map(piece).collect()
}

fn piece(record: Slab) -> MeasuredPiece {
    let point = [7; POINT_SIZE];
    let hash = PieceRef { record: record.as_chunks().0, commitment: &point, witness: &point }.hash();
    MeasuredPiece { record, point, hash }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::bls::Scalar;

    #[test]
    fn records_are_distinct_scalars() {
        let pool = Pool::new(2, 0).unwrap();
        let pieces = pieces(&pool, 2);
        let mut hashes: Vec<_> = pieces.iter().map(|piece| piece.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 4);
        for piece in &pieces {
            assert_eq!((piece.record.len(), piece.record.phase()), (RECORD_SIZE, 0));
            assert!(piece.record.as_chunks().0.iter().all(|chunk| Scalar::from_bytes(chunk).is_ok()));
        }
    }
}
