//! Fourier transforms of [`Eight`]s: eight transforms side by side, one a lane, or one transform of eight times the width.
//!
//! Either way all work is done by butterflies that divide the width by two, stage by stage, and take natural order to bit-reversed order.
//! Depth first, so that blocks stay in the nearest cache that they fit into. Numbers start below 3 and every stage adds 2 to the
//! bound; after the 16 stages of the widest transform they are below 35, and 35.3 is what [`eight`](super::eight) can take.
//!
//! **A row** is one transform whose scalar i is in lane i mod 8 of vector i / 8. Butterflies of the last three stages
//! would be between lanes. So the last six stages work on tiles of 64 scalars, and transpose each tile between the
//! first three and the last three of them. Its vectors are left as they then are, for [`bit_reversed_row`] transposes once more when it
//! restores natural order:
//!
//! ```text
//!   bits of a scalar's place     vector | lane
//!   row                          T g    | j        T: tile, g and j: three bits each
//!   after the tile's stages      T j*   | g        * bits in reverse order
//!   natural order again          j* g*  | T*       the place's bits in reverse order: j* g* T*; the lane holds the last three
//! ```

use super::convert::{to_scalars, transpose};
use super::eight::{Eight, butterfly, canonical, divide, plain_butterfly, splat};
use super::twiddles::{Tile, Twiddles};
use crate::bls::Scalar;
use crate::fft::reversed;

/// Scalars in a tile.
pub(super) const TILE: usize = 64;
/// The narrowest row: eight tiles, that [`bit_reversed_row`] transposes together.
pub(super) const ROW_WIDTH_MIN: usize = 8 * TILE;

/// What [`scatter`] no longer halves: 16 numbers lie in the nearest cache, and constants in registers.
const LEAF: usize = 16;

/// Eight transforms side by side of what is block `block` of its stage; natural to bit-reversed order. Block 0 gives the values at
/// the powers of omega, block 1 those at the odd powers of the next omega.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn scatter(values: &mut [Eight], twiddles: &Twiddles, block: usize) {
    if values.len() <= LEAF {
        stages(values, twiddles, block);
    } else {
        let half = values.len() / 2;
        stage(values, twiddles, block);
        scatter(&mut values[..half], twiddles, 2 * block);
        scatter(&mut values[half..], twiddles, 2 * block + 1);
    }
}

/// The same for a row; see the module's documentation for the order in which values are left.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn scatter_row(values: &mut [Eight], twiddles: &Twiddles, block: usize) {
    if values.len() <= LEAF {
        stages(values, twiddles, block);
        let first = block * (values.len() / 8);
        for (tile, twiddles) in values.as_chunks_mut::<8>().0.iter_mut().zip(&twiddles.tiles[first..]) {
            finish_tile(tile, twiddles);
        }
    } else {
        let half = values.len() / 2;
        stage(values, twiddles, block);
        scatter_row(&mut values[..half], twiddles, 2 * block);
        scatter_row(&mut values[half..], twiddles, 2 * block + 1);
    }
}

/// All stages, one after the other.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn stages(values: &mut [Eight], twiddles: &Twiddles, block: usize) {
    let (mut width, mut first) = (values.len(), block);
    while width > 1 {
        for (i, values) in values.chunks_exact_mut(width).enumerate() {
            stage(values, twiddles, first + i);
        }
        width /= 2;
        first *= 2;
    }
}

/// One stage of one block.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn stage(values: &mut [Eight], twiddles: &Twiddles, block: usize) {
    let (low, high) = values.split_at_mut(values.len() / 2);
    if block == 0 {
        for (a, b) in low.iter_mut().zip(high) {
            plain_butterfly(a, b);
        }
    } else {
        let twiddle = splat(&twiddles.blocks[block]);
        for (a, b) in low.iter_mut().zip(high) {
            butterfly(a, b, &twiddle);
        }
    }
}

/// The last three stages of a tile.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn finish_tile(values: &mut [Eight; 8], twiddles: &Tile) {
    let mut numbers = transpose(*values);
    let (low, high) = numbers.split_at_mut(4);
    for (a, b) in low.iter_mut().zip(high) {
        butterfly(a, b, &twiddles.eights);
    }
    for (four, twiddle) in numbers.as_chunks_mut::<4>().0.iter_mut().zip(&twiddles.fours) {
        let (low, high) = four.split_at_mut(2);
        for (a, b) in low.iter_mut().zip(high) {
            butterfly(a, b, twiddle);
        }
    }
    for ([a, b], twiddle) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(&twiddles.pairs) {
        butterfly(a, b, twiddle);
    }
    for (place, number) in numbers.iter().enumerate() {
        values[reversed(place, 3)] = *number;
    }
}

/// Calls `$visit(place, number)` for every vector of a scattered row, `place` being where its first lane belongs in natural order. Lane
/// g belongs `reversed(g) * (width / 64)` places further.
macro_rules! for_each_scattered {
    ($values:expr, |$place:ident, $number:ident| $visit:expr) => {
        let tiles = $values.len() / 8;
        let tile_bits = tiles.ilog2();
        for j in 0..8 {
            for at in 0..tiles {
                let $place = j * 8 * tiles + at;
                let $number = &$values[8 * reversed(at, tile_bits) + j];
                $visit
            }
        }
    };
}
pub(super) use for_each_scattered;

/// Writes a scattered row in natural order, each scalar divided by 2^`bits`.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn scattered_to_scalars(values: &[Eight], bits: u32, out: &mut [Scalar]) {
    assert_eq!(8 * values.len(), out.len());
    for_each_scattered!(values, |place, number| {
        for (g, scalar) in to_scalars(&canonical(&divide(number, bits))).into_iter().enumerate() {
            out[place + reversed(g, 3) * (values.len() / 8)] = scalar;
        }
    });
}

/// Brings a scattered row into natural order, each scalar divided by 2^`bits`: carried, and with 15 or 16 bits below 1.01.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn bit_reversed_row(values: &[Eight], out: &mut [Eight], bits: u32) {
    assert_eq!(values.len(), out.len());
    let tiles = values.len() / 8;
    let eighth = tiles / 8;
    for j in 0..8 {
        for at in 0..eighth {
            let from = reversed(at, eighth.ilog2());
            let mut numbers = [values[0]; 8];
            for (lane, number) in numbers.iter_mut().enumerate() {
                *number = divide(&values[8 * (reversed(lane, 3) * eighth + from) + j], bits);
            }
            for (g, number) in transpose(numbers).iter().enumerate() {
                out[j * tiles + reversed(g, 3) * eighth + at] = *number;
            }
        }
    }
}

/// Brings transforms side by side from bit-reversed into natural order, or back, each scalar divided by 2^`bits`.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn bit_reverse(values: &mut [Eight], bits: u32) {
    let width_bits = values.len().ilog2();
    for i in 0..values.len() {
        let j = reversed(i, width_bits);
        if i < j {
            (values[i], values[j]) = (divide(&values[j], bits), divide(&values[i], bits));
        } else if i == j {
            values[i] = divide(&values[i], bits);
        }
    }
}
