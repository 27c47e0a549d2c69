//! What archiving and checking history cost on one core. A whole segment takes ten seconds, so its parts are
//! measured: archiving is 128 x "commit to a record", 256 x "witness of a record" and "extend 128 commitments" (all in
//! `algebra`), and 32 768 x "extend a column of a segment" (here); only these repeat.
//! Run with `cargo bench -p benches --bench history`.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use benches::{numbers, piece, unit};
use consensus::Serial;
use consensus::bls::{Scalar, scalars_from_bytes};
use consensus::constants::{RECORD_CHUNKS, SEGMENT_PIECES, SEGMENT_RAW_RECORDS};
use consensus::erasure::extend;
use consensus::kzg::{Kzg, PointBytes, Polynomial, hash_to_scalar, insecure};
use consensus::piece::Piece;
use consensus::piece_verify::{Candidate, verify_piece, verify_pieces};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// Pieces that are verified at once; a segment's 256 pay the batch's one commitment once too.
const BATCH: usize = 16;

fn commit(kzg: &Kzg, values: &[Scalar]) -> PointBytes {
    let polynomial = Polynomial::from_values(values).expect("a power of two");
    kzg.commit(&polynomial).expect("the parameters are long enough")
}

/// Pieces with true commitments and witnesses at the first positions of a segment whose other commitments are zeros, and the
/// commitment of that segment.
fn pieces(kzg: &Kzg) -> (Vec<Piece>, PointBytes) {
    let mut pieces: Vec<_> = (0..BATCH as u64).map(piece).collect();
    let mut commitments = [[0; 48]; SEGMENT_PIECES];
    for (piece, commitment) in pieces.iter_mut().zip(&mut commitments) {
        let mut values = vec![Scalar::ZERO; RECORD_CHUNKS];
        scalars_from_bytes(piece.view().record, &mut values).expect("31 bytes are below the modulus");
        *commitment = commit(kzg, &values);
        piece.set_commitment(commitment);
    }
    let values: Vec<_> = commitments.iter().map(hash_to_scalar).collect();
    let segment = Polynomial::from_values(&values).expect("a power of two");
    for (position, piece) in pieces.iter_mut().enumerate() {
        piece.set_witness(&kzg.witness(&segment, SEGMENT_PIECES, position).expect("below 256"));
    }
    (pieces, kzg.commit(&segment).expect("256 coefficients"))
}

fn archive(c: &mut Criterion) {
    let source = numbers(SEGMENT_RAW_RECORDS);
    let mut parity = source.clone();
    c.bench_function("extend a column of a segment", |b| b.iter(|| extend(black_box(&source), &mut parity)));
}

fn verify(c: &mut Criterion) {
    let kzg = Kzg::from_parameters(&insecure::parameters()).expect("made here");
    let (pieces, segment_commitment) = pieces(&kzg);
    let candidates: Vec<_> = pieces
        .iter()
        .zip(0..)
        .map(|(piece, position)| Candidate {
            segment_commitment: &segment_commitment,
            position,
            piece: piece.view(),
        })
        .collect();
    let valid = verify_pieces(&kzg, &Serial, &candidates).iter().all(Result::is_ok);
    assert!(valid, "what is measured is the good case");
    c.bench_function("verify a piece", |b| b.iter(|| verify_piece(&kzg, black_box(&candidates[0]))));
    let mut group = c.benchmark_group("verify pieces at once");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(format!("{BATCH}"), |b| {
        b.iter(|| verify_pieces(&kzg, &Serial, black_box(&candidates)));
    });
}

criterion_group! {
    name = suite;
    config = Criterion::default().sample_size(10);
    targets = unit, archive, verify
}
criterion_main!(suite);
