//! BLS12-381 by way of the `blst` library: scalars, both groups, multi-scalar multiplication, pairings.
//!
//! Owns: every foreign call of the crate's algebra, and with it every `unsafe` block that `blst` asks for. All `blst` types are plain
//! arrays of limbs without pointers, so each value that safe code can hold may be handed to `blst`.
//! Never: protocol rules. What the numbers mean is decided in [`crate::erasure`] and [`crate::kzg`].

mod g1;
mod msm;
mod pairing;
mod scalar;

pub use g1::{G1, G1Affine, InvalidPoint, PointBytes, multi_scalar_mul, multi_scalar_mul_short};
pub(crate) use msm::Bases;
pub use pairing::{G2, G2Affine, G2Bytes, pairings_equal};
pub use scalar::{
    InvalidScalar, InvalidScalarAt, Scalar, are_scalars, batch_invert, scalars_from_bytes, scalars_to_bytes,
};

pub(crate) use scalar::MODULUS;
