//! Pieces from any bytes, and what is asked of their scalars and points before anything is believed.
#![no_main]

use consensus::bls::{G1Affine, Scalar, scalars_from_bytes};
use consensus::constants::{PIECE_SIZE, RECORD_CHUNKS};
use consensus::piece::{Piece, PieceRef};
use fuzz::filled;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(PieceRef::from_bytes(bytes).is_ok(), bytes.len() == PIECE_SIZE);
    let piece = Piece::from_bytes(filled(bytes, PIECE_SIZE).into()).expect("of this length");
    let view = piece.view();
    let mut scalars = vec![Scalar::ZERO; RECORD_CHUNKS];
    let _ = scalars_from_bytes(view.record, &mut scalars);
    for point in [view.commitment, view.witness] {
        let _ = G1Affine::from_bytes(point);
    }
    assert_eq!(view.to_piece().as_bytes(), piece.as_bytes());
});
