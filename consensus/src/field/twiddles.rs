//! Powers of omega in the forms that passes over [`Eight`]s read.
//!
//! Stage by stage a transform halves its blocks; block b of a stage has one twiddle, omega^reversed(b), whatever the width (see
//! [`crate::fft`]). Above a width of eight scalars all lanes are in the same block; below, each lane has its own.

use super::eight::{Eight, LIMBS, Limbs, limbs};
use crate::bls::Scalar;
use crate::fft;
use std::arch::x86_64::_mm512_set_epi64;
use std::sync::LazyLock;

/// Tiles of the widest transform.
const TILES: usize = (1 << fft::LOG2_WIDTH_MAX) / 64;
/// Blocks of the stage before the last three of the widest transform.
const BLOCKS: usize = 4 * TILES;

/// Twiddles of one direction, as 2^260 times the number.
pub(super) struct Twiddles {
    /// By block.
    pub(super) blocks: Vec<Limbs>,
    /// By tile.
    pub(super) tiles: Vec<Tile>,
}

/// Twiddles of the last three stages in a block of 64 scalars: lane g has those of the g-th eight of them.
pub(super) struct Tile {
    /// Of the block of eight.
    pub(super) eights: Eight,
    /// Of its two fours.
    pub(super) fours: [Eight; 2],
    /// Of its four pairs.
    pub(super) pairs: [Eight; 4],
}

/// For coefficients to values.
pub(super) static FORWARD: LazyLock<Twiddles> = LazyLock::new(|| Twiddles::new(fft::forward_twiddles()));
/// For values to coefficients.
pub(super) static INVERSE: LazyLock<Twiddles> = LazyLock::new(|| Twiddles::new(fft::inverse_twiddles()));

impl Twiddles {
    fn new(powers: &[Scalar]) -> Self {
        let limbs: Vec<_> = powers.iter().map(|power| montgomery(*power)).collect();
        // SAFETY: only tokens of this machine having AVX-512 IFMA lead here.
        let at = |first: usize, step: usize| unsafe { strided(&limbs, first, step) };
        let tile = |tile: usize| Tile {
            eights: at(8 * tile, 1),
            fours: std::array::from_fn(|i| at(16 * tile + i, 2)),
            pairs: std::array::from_fn(|i| at(32 * tile + i, 4)),
        };
        Self { tiles: (0..TILES).map(tile).collect(), blocks: limbs[..BLOCKS].to_vec() }
    }
}

/// Limbs of 2^260 times the number. A [`Scalar`] is 2^256 times its number.
pub(super) fn montgomery(number: Scalar) -> Limbs {
    limbs((number * Scalar::from_u64(16)).to_words())
}

/// Entries `first`, `first + step` and so on, one a lane.
#[target_feature(enable = "avx512f")]
fn strided(table: &[Limbs], first: usize, step: usize) -> Eight {
    let mut out = Eight([_mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, 0); LIMBS]);
    for (i, vector) in out.0.iter_mut().enumerate() {
        let at = |lane: usize| table[first + lane * step][i] as i64;
        *vector = _mm512_set_epi64(at(7), at(6), at(5), at(4), at(3), at(2), at(1), at(0));
    }
    out
}
