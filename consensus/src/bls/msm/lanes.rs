//! Adding many pairs of points with one inversion, behind one trait: what the method needs from a processor.

use crate::bls::G1Affine;

/// In a list of entries: no point. Stands for infinity.
pub(super) const NO_ENTRY: u32 = u32::MAX;

/// In an entry: the point is to be negated. The other bits are the point's place.
pub(super) const NEGATE: u32 = 1 << 31;

/// The most points that lie side by side.
pub(super) const LANES_MAX: usize = 8;

/// `blocks[target] += blocks[other]`, lane by lane. With both the same block, doubles it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub target: u32,
    pub other: u32,
}

/// Points in affine coordinates, `LANES` of them side by side in a block.
///
/// An affine sum needs the slope (y2 - y1) / (x2 - x1), so a division. Montgomery's trick makes one division of many:
/// multiply all divisors up, invert the product, and go back through the list, peeling one inverse off at a time, for
/// three products each. With the slope's product, its square and one more product a sum then costs five products and
/// one square, against eleven and five in Jacobian coordinates.
///
/// Sums are complete: infinity on either side, equal points and opposite ones are right.
pub(super) trait PointLanes: Copy + Send + Sync {
    /// Points side by side in a block, [`LANES_MAX`] at most.
    const LANES: usize;

    /// A point at rest.
    type Stored: Copy + Send + Sync;

    /// Points side by side.
    type Block: Copy + Send;

    /// Memory for [`Self::add`], reused from call to call.
    type Scratch: Default + Send;

    /// A stored infinity.
    fn stored_infinity(self) -> Self::Stored;

    /// A block of infinities.
    fn block_infinity(self) -> Self::Block;

    /// Appends the stored form of points.
    fn store(self, points: &[G1Affine], stored: &mut Vec<Self::Stored>);

    /// A stored point.
    fn restore(self, stored: &Self::Stored) -> G1Affine;

    /// Fills blocks with the points that entries name, `LANES` entries a block.
    fn gather(self, points: &[Self::Stored], entries: &[u32], blocks: &mut [Self::Block]);

    /// The points of a block, `LANES` of them.
    fn scatter(self, block: &Self::Block, stored: &mut [Self::Stored]);

    /// Performs sums as if one after another. None may read what an earlier one of the list has written.
    fn add(self, blocks: &mut [Self::Block], sums: &[Sum], scratch: &mut Self::Scratch);
}

/// Points that are fetched from memory ahead of their use.
const PREFETCH_DISTANCE: usize = 24;

/// Asks memory for the points that a gathering which has come to entry `at` needs soon, `count` of them.
#[inline(always)]
pub(super) fn prefetch_ahead<T>(points: &[T], entries: &[u32], at: usize, count: usize) {
    for entry in entries.iter().skip(at + PREFETCH_DISTANCE).take(count) {
        if let Some(point) = points.get((entry & !NEGATE) as usize) {
            prefetch(point);
        }
    }
}

/// Asks memory for a value's first two cache lines.
#[inline(always)]
fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: nothing is read, so any address will do; SSE is part of x86-64.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(start);
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
