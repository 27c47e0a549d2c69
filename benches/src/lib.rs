//! Inputs that the suites share. The suites lie in `benches/`, their figures in `RESULTS.md`.
#![deny(missing_docs)]

use consensus::bls::Scalar;
use consensus::piece::Piece;
use criterion::Criterion;
use std::hint::black_box;

/// Scalars of full width, the same ones each time.
pub fn numbers(count: usize) -> Vec<Scalar> {
    (0..count as u64).map(|i| Scalar::from_u64(i + 2).pow(1 << 20)).collect()
}

/// A piece whose record is pseudo-random scalars of 31 bytes, as history is, and whose points are zeros.
pub fn piece(number: u64) -> Piece {
    let mut piece = Piece::zeroed();
    let mut random = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    piece.record_mut().iter_mut().for_each(|chunk| random.fill(&mut chunk[1..]));
    piece
}

/// The hash of which 6.22 million make one B (see `autonomys-farmer benchmark`). Every suite of long operations measures it first, so that
/// its figures can be held against B of the same minutes.
pub fn unit(c: &mut Criterion) {
    c.bench_function("one-at-a-time BLAKE3 of 24 bytes", |b| b.iter(|| blake3::hash(black_box(&[5; 24]))));
}
