//! Bad pieces are named, alone and among good ones; bad sets of pieces do not come back as history.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
mod threads;

use std::sync::LazyLock;

use common::chunks;
use consensus::Serial;
use consensus::bls::{G1, Scalar, scalars_from_bytes};
use consensus::constants::{RAW_RECORD_SIZE, RECORD_CHUNKS, SEGMENT_PIECES, SEGMENT_SIZE};
use consensus::erasure::ErasureError;
use consensus::kzg::{Kzg, PointBytes, Polynomial, hash_to_scalar, insecure};
use consensus::piece::{Piece, PieceRef};
use consensus::piece_verify::{Candidate, InvalidPiece, verify_piece, verify_pieces};
use consensus::reconstruct::{ReconstructError, reconstruct_pieces, reconstruct_segment};
use threads::Threads;

const INFINITY: PointBytes = {
    let mut bytes = [0; 48];
    bytes[0] = 0xc0;
    bytes
};
/// The field's modulus r.
const MODULUS: &str = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";
/// A third of the curve's cofactor.
const THIRD_OF_COFACTOR: &str = "13242eaac71ca0722eaae38e55558e39";

static KZG: LazyLock<Kzg> =
    LazyLock::new(|| Kzg::from_parameters(&insecure::parameters()).expect("just made"));

/// A segment with few real records: what the other commitments are committed to is nobody's business here.
struct Segment {
    commitment: PointBytes,
    pieces: Vec<(u8, Piece)>,
}

fn commitment_of(piece: &Piece) -> PointBytes {
    let mut values = vec![Scalar::ZERO; RECORD_CHUNKS];
    scalars_from_bytes(piece.view().record, &mut values).expect("chunks are scalars");
    let polynomial = Polynomial::from_values(&values).expect("a record's width");
    KZG.commit(&polynomial).expect("a record fits")
}

/// A piece with a record of its own; its witness is still zeros.
fn real_piece(label: &str) -> Piece {
    let mut piece = Piece::zeroed();
    piece.record_mut().copy_from_slice(&chunks("scalars254", label, RECORD_CHUNKS));
    let commitment = commitment_of(&piece);
    piece.set_commitment(&commitment);
    piece
}

fn segment(filler: u8, mut pieces: Vec<(u8, Piece)>) -> Segment {
    let mut commitments = vec![[filler; 48]; SEGMENT_PIECES];
    for (position, piece) in &pieces {
        commitments[usize::from(*position)] = *piece.view().commitment;
    }
    let values: Vec<_> = commitments.iter().map(hash_to_scalar).collect();
    let polynomial = Polynomial::from_values(&values).expect("256 is a width");
    for (position, piece) in &mut pieces {
        let witness = KZG.witness(&polynomial, SEGMENT_PIECES, usize::from(*position)).expect("it fits");
        piece.set_witness(&witness);
    }
    Segment { commitment: KZG.commit(&polynomial).expect("it fits"), pieces }
}

fn changed(piece: &Piece, change: impl FnOnce(&mut Piece)) -> Piece {
    let mut piece = piece.clone();
    change(&mut piece);
    piece
}

#[test]
fn bad_pieces_are_named_among_good_ones() {
    let mut empty = Piece::zeroed();
    empty.set_commitment(&INFINITY);
    let real = [(0, real_piece("a")), (1, real_piece("b")), (255, empty)];
    let segment = segment(7, real.to_vec());
    let [(_, a), (_, b), (_, empty)] = &segment.pieces[..] else { panic!("three pieces") };
    let (no_point, good) = ([0xff; 48], &segment.commitment);
    let modulus: [u8; 32] = hex::decode(MODULUS).unwrap().try_into().unwrap();

    let bit = changed(a, |piece| piece.record_mut()[32_767][31] ^= 1);
    let not_empty = changed(empty, |piece| piece.record_mut()[0][31] = 1);
    let too_large = changed(b, |piece| piece.record_mut()[300] = modulus);
    let foreign_witness = changed(a, |piece| piece.set_witness(b.view().witness));
    let no_witness = changed(a, |piece| piece.set_witness(&no_point));
    let foreign_commitment = changed(a, |piece| piece.set_commitment(b.view().commitment));
    let cases = [
        (good, 0, a, None),
        (good, 0, &bit, Some(InvalidPiece::Commitment)),
        (good, 1, b, None),
        (good, 1, a, Some(InvalidPiece::Witness)),
        (good, 255, &not_empty, Some(InvalidPiece::Commitment)),
        (good, 255, empty, None),
        (good, 1, &too_large, Some(InvalidPiece::Chunk { chunk: 300 })),
        (good, 0, &foreign_witness, Some(InvalidPiece::Witness)),
        (good, 0, &no_witness, Some(InvalidPiece::WitnessEncoding)),
        (good, 0, &foreign_commitment, Some(InvalidPiece::Witness)),
        (&no_point, 0, a, Some(InvalidPiece::SegmentCommitment)),
        (good, 0, a, None),
    ];
    let expected: Vec<_> =
        cases.iter().map(|(_, _, piece, bad)| bad.map_or(Ok(piece.view().hash()), Err)).collect();
    let candidates: Vec<_> = cases
        .iter()
        .map(|&(segment_commitment, position, piece, _)| Candidate {
            segment_commitment,
            position,
            piece: piece.view(),
        })
        .collect();
    let alone: Vec<_> = candidates.iter().map(|candidate| verify_piece(&KZG, candidate)).collect();
    assert_eq!(alone, expected);
    assert_eq!(verify_pieces(&KZG, &Serial, &candidates), expected);
    assert_eq!(verify_pieces(&KZG, &Threads(3), &candidates), expected);
    assert_eq!(verify_pieces(&KZG, &Serial, &[]), []);
}

/// Double and add: right for points outside the group, for which scalars are not.
fn times(point: G1, factor_hex: &str) -> G1 {
    let bits = hex::decode(factor_hex).expect("hexadecimal");
    let bits = bits.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    bits.fold(G1::infinity(), |sum, bit| if bit { sum.double() + point } else { sum.double() })
}

fn point_of_order_three() -> G1 {
    let with_x = |x| {
        let mut bytes = [0; 48];
        (bytes[0], bytes[47]) = (0x80, x);
        G1::from_bytes(&bytes).ok()
    };
    let of_order_three = |point| times(times(point, MODULUS), THIRD_OF_COFACTOR);
    let point = (1..=255).filter_map(with_x).map(of_order_three).find(|point| !point.is_infinity());
    point.expect("most points have a part of order 3")
}

/// A commitment off by a point of order 3 would pass a random combination every third time.
#[test]
fn commitments_outside_the_group_never_pass() {
    let honest = real_piece("a");
    let three = point_of_order_three();
    assert_eq!(three.double() + three, G1::infinity());
    let off = G1::from_bytes(honest.view().commitment).unwrap() + three;
    for filler in 0..12 {
        let piece = changed(&honest, |piece| piece.set_commitment(&off.to_bytes()));
        let segment = segment(filler, vec![(9, piece)]);
        let piece = segment.pieces[0].1.view();
        let candidate = Candidate { segment_commitment: &segment.commitment, position: 9, piece };
        assert_eq!(verify_pieces(&KZG, &Serial, &[candidate]), [Err(InvalidPiece::Commitment)]);
    }
}

/// All records alike are a segment too: every column is constant, and so is its parity.
fn uniform_record() -> (Vec<u8>, Piece) {
    let chunks = chunks("scalars31", "uniform", RECORD_CHUNKS);
    let raw = chunks.iter().flat_map(|chunk| chunk[1..].to_vec()).collect();
    let mut piece = Piece::zeroed();
    piece.record_mut().copy_from_slice(&chunks);
    (raw, piece)
}

fn only<'a>(piece: &'a Piece, is_given: impl Fn(usize) -> bool) -> Vec<Option<PieceRef<'a>>> {
    (0..SEGMENT_PIECES).map(|position| is_given(position).then(|| piece.view())).collect()
}

#[test]
fn any_half_gives_the_segment() {
    let (raw, piece) = uniform_record();
    assert_eq!(raw.len(), RAW_RECORD_SIZE);
    let is_history = |segment: Vec<u8>| {
        segment.len() == SEGMENT_SIZE && segment.chunks_exact(RAW_RECORD_SIZE).all(|record| record == raw)
    };
    let halves: [fn(usize) -> bool; 4] =
        [|_| true, |at| at % 2 == 0, |at| at >= 128, |at| at % 4 > 1 || at < 9];
    for half in halves {
        assert!(is_history(reconstruct_segment(&Threads(2), &only(&piece, half)).unwrap()));
    }
}

#[test]
fn sets_of_pieces_that_give_no_segment() {
    let (_, piece) = uniform_record();
    let reconstruct = |pieces: &[Option<PieceRef<'_>>]| reconstruct_segment(&Threads(2), pieces).unwrap_err();

    assert_eq!(reconstruct(&only(&piece, |_| true)[1..]), ReconstructError::WrongNumber(255));
    let too_few = ErasureError::TooManyMissing { present: 127, needed: 128 };
    assert_eq!(reconstruct(&only(&piece, |at| at > 128)), ReconstructError::Erasure(too_few));

    let too_large = changed(&piece, |piece| piece.record_mut()[500] = [0xff; 32]);
    let mut pieces = only(&piece, |at| at > 0);
    pieces[5] = Some(too_large.view());
    assert_eq!(reconstruct(&pieces), ReconstructError::InvalidChunk { position: 5, chunk: 500 });
    // Piece 255 is not needed, and does not fit.
    let off = changed(&piece, |piece| piece.record_mut()[500] = [1; 32]);
    pieces[5] = Some(piece.view());
    pieces[255] = Some(off.view());
    let contradiction = ErasureError::Inconsistent { index: 255 };
    assert_eq!(reconstruct(&pieces), ReconstructError::Erasure(contradiction));

    let mut pieces = only(&piece, |_| true);
    pieces[6] = Some(off.view());
    assert_eq!(reconstruct(&pieces), ReconstructError::NotHistory { position: 6 });
}

#[test]
fn one_piece_from_others() {
    let mut zero = Piece::zeroed();
    zero.set_commitment(&INFINITY);
    // All commitments alike: a constant polynomial, opened by the point at infinity.
    let expected = changed(&zero, |piece| piece.set_witness(&INFINITY));
    let found = reconstruct_pieces(&KZG, &Serial, &only(&zero, |at| at % 2 == 0), &[201, 4]).unwrap();
    assert!(found.pieces == [expected.clone(), expected.clone()]);
    let candidate =
        Candidate { segment_commitment: &found.segment_commitment, position: 201, piece: expected.view() };
    assert_eq!(verify_piece(&KZG, &candidate), Ok(expected.view().hash()));

    let foreign = changed(&zero, |piece| piece.set_commitment(&G1::generator().to_bytes()));
    let mut pieces = only(&zero, |_| true);
    pieces[7] = Some(foreign.view());
    let found = reconstruct_pieces(&KZG, &Serial, &pieces, &[201]).unwrap_err();
    assert_eq!(found, ReconstructError::ForeignCommitment { position: 7 });
}
