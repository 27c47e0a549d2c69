//! One point at a time by the field arithmetic of `blst`: for every processor.

use super::field;
use super::lanes::{NEGATE, NO_ENTRY, PointLanes, Sum, prefetch_ahead};
use crate::bls::G1Affine;
use blst::{blst_fp, blst_p1_affine};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Single;

const ZERO: blst_fp = blst_fp { l: [0; 6] };

/// What [`Single::add`] keeps between its two passes.
#[derive(Default)]
pub(super) struct Scratch {
    /// A step for each sum, the last sum first.
    steps: Vec<Step>,
}

/// How two points are added.
enum Step {
    /// By the slope numerator / divisor; with the product of the divisors of all sums behind this one.
    Slope { numerator: blst_fp, divisor: blst_fp, product: blst_fp },
    /// The sum is known: one of them is infinity, or they are opposite.
    Known(blst_p1_affine),
}

impl PointLanes for Single {
    const LANES: usize = 1;
    type Stored = G1Affine;
    type Block = G1Affine;
    type Scratch = Scratch;

    fn stored_infinity(self) -> G1Affine {
        G1Affine::default()
    }

    fn block_infinity(self) -> G1Affine {
        G1Affine::default()
    }

    fn store(self, points: &[G1Affine], stored: &mut Vec<G1Affine>) {
        stored.extend_from_slice(points);
    }

    fn restore(self, stored: &G1Affine) -> G1Affine {
        *stored
    }

    fn gather(self, points: &[G1Affine], entries: &[u32], blocks: &mut [G1Affine]) {
        assert_eq!(entries.len(), blocks.len(), "one entry a block");
        for (i, (block, entry)) in blocks.iter_mut().zip(entries).enumerate() {
            prefetch_ahead(points, entries, i, 1);
            *block = match *entry {
                NO_ENTRY => G1Affine::default(),
                entry if entry & NEGATE == 0 => points[entry as usize],
                entry => negate(points[(entry & !NEGATE) as usize]),
            };
        }
    }

    fn scatter(self, block: &G1Affine, stored: &mut [G1Affine]) {
        stored[0] = *block;
    }

    fn add(self, blocks: &mut [G1Affine], sums: &[Sum], scratch: &mut Scratch) {
        scratch.steps.clear();
        let mut product = field::BLST_ONE;
        for sum in sums.iter().rev() {
            let step = step(&blocks[sum.target as usize].0, &blocks[sum.other as usize].0, product);
            if let Step::Slope { divisor, .. } = &step {
                product = field::mul(&product, divisor);
            }
            scratch.steps.push(step);
        }
        let mut inverse = field::invert(&product);
        for (sum, step) in sums.iter().zip(scratch.steps.iter().rev()) {
            let point = match step {
                Step::Known(point) => *point,
                Step::Slope { numerator, divisor, product } => {
                    let slope = field::mul(&field::mul(&inverse, product), numerator);
                    inverse = field::mul(&inverse, divisor);
                    third_point(&slope, &blocks[sum.target as usize].0, &blocks[sum.other as usize].0)
                }
            };
            blocks[sum.target as usize] = G1Affine(point);
        }
    }
}

fn negate(mut point: G1Affine) -> G1Affine {
    point.0.y = field::sub(&ZERO, &point.0.y);
    point
}

/// `product` is that of the divisors of the sums behind this one.
fn step(a: &blst_p1_affine, b: &blst_p1_affine, product: blst_fp) -> Step {
    // No point of the curve has y = 0: its order is odd.
    if is_zero(&a.y) {
        return Step::Known(*b);
    }
    if is_zero(&b.y) {
        return Step::Known(*a);
    }
    let (divisor, numerator) = (field::sub(&b.x, &a.x), field::sub(&b.y, &a.y));
    if !is_zero(&divisor) {
        return Step::Slope { numerator, divisor, product };
    }
    if !is_zero(&numerator) {
        return Step::Known(blst_p1_affine::default());
    }
    let square = field::square(&a.x);
    let numerator = field::add(&field::add(&square, &square), &square);
    Step::Slope { numerator, divisor: field::add(&a.y, &a.y), product }
}

fn is_zero(number: &blst_fp) -> bool {
    number.l.iter().fold(0, |all, word| all | word) == 0
}

/// The sum of two points on a line (or of a point and itself, on its tangent) of this slope.
fn third_point(slope: &blst_fp, a: &blst_p1_affine, b: &blst_p1_affine) -> blst_p1_affine {
    let x = field::sub(&field::sub(&field::square(slope), &a.x), &b.x);
    let y = field::sub(&field::mul(slope, &field::sub(&a.x, &x)), &a.y);
    blst_p1_affine { x, y }
}
