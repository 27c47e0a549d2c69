//! Points and multiples of them, and the sum over them.

use super::buckets::{Arena, sum_buckets};
use super::digits::{self, Place, Prepared};
use super::lanes::{LANES_MAX, NEGATE, NO_ENTRY, PointLanes, Sum};
use super::plan::Plan;
use super::reduce::reduce;
use crate::Workers;
use crate::bls::{G1, G1Affine, Scalar};
use crate::parallel::for_each_mut;

/// Points whose multiples are made together: they share inversions and fit the second-level cache.
const CHUNK_POINTS: usize = 2048;

/// Points, each followed by its multiples: entry `i * multiples + t` is point `i` times `2^(bits sets t)`.
pub(super) struct Table<L: PointLanes> {
    lanes: L,
    stored: Vec<L::Stored>,
    plan: Plan,
    multiples: usize,
}

impl<L: PointLanes> Table<L> {
    /// The points alone.
    pub(super) fn new(lanes: L, points: &[G1Affine]) -> Self {
        let mut stored = Vec::with_capacity(points.len());
        lanes.store(points, &mut stored);
        Self { lanes, plan: Plan::best(points.len(), 1), multiples: 1, stored }
    }

    /// The same points with the best table of this size.
    pub(super) fn extended(&self, budget_bytes: usize, workers: &dyn Workers) -> Self {
        let points = self.len();
        let multiples_max = budget_bytes / (points * size_of::<L::Stored>()).max(1);
        let plan = Plan::best(points, multiples_max.max(1));
        let multiples = plan.multiples();
        let mut stored = vec![self.lanes.stored_infinity(); points * multiples];
        let mut chunks: Vec<_> = stored.chunks_mut(CHUNK_POINTS * multiples).collect();
        for_each_mut(workers, &mut chunks, |chunk, out| {
            let first = chunk * CHUNK_POINTS;
            let entries = (first..first + out.len() / multiples).map(|point| (point * self.multiples) as u32);
            self.fill(entries.collect(), plan, out);
        });
        drop(chunks);
        Self { lanes: self.lanes, stored, plan, multiples }
    }

    /// Makes the multiples of the points that entries name.
    fn fill(&self, mut entries: Vec<u32>, plan: Plan, out: &mut [L::Stored]) {
        let lanes = self.lanes;
        let multiples = plan.multiples();
        entries.resize(entries.len().next_multiple_of(L::LANES), NO_ENTRY);
        let mut blocks = vec![lanes.block_infinity(); entries.len() / L::LANES];
        lanes.gather(&self.stored, &entries, &mut blocks);
        let doublings: Vec<_> = (0..blocks.len() as u32).map(|i| Sum { target: i, other: i }).collect();
        let mut scratch = L::Scratch::default();
        let mut stored = [lanes.stored_infinity(); LANES_MAX];
        for multiple in 0..multiples {
            if multiple > 0 {
                (0..plan.bits * plan.sets).for_each(|_| lanes.add(&mut blocks, &doublings, &mut scratch));
            }
            let places = out.chunks_mut(L::LANES * multiples);
            for (block, places) in blocks.iter().zip(places) {
                lanes.scatter(block, &mut stored[..L::LANES]);
                for (place, point) in places[multiple..].iter_mut().step_by(multiples).zip(&stored) {
                    *place = *point;
                }
            }
        }
    }

    /// How many points there are.
    pub(super) fn len(&self) -> usize {
        self.stored.len() / self.multiples
    }

    /// Memory taken.
    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(self.stored.as_slice())
    }

    /// The sum of `scalars[i]` times point `i`.
    pub(super) fn sum(&self, scalars: &[Scalar]) -> G1 {
        let count = scalars.len();
        assert!(count <= self.len(), "not more scalars than points");
        let plain = Plan::best(count, 1);
        let plan = if plain.cost(count) < self.plan.cost(count) { plain } else { self.plan };
        let mut arena = Arena::new();
        let (entries, bounds) = self.sort(scalars, plan);
        let buckets = sum_buckets(self.lanes, &self.stored, entries, &bounds, &mut arena);
        let sets = reduce(self.lanes, &buckets, plan.sets, plan.bits - 1, &mut arena);
        let horner = |sum: G1, set: &G1| (0..plan.bits).fold(sum, |sum, _| sum.double()) + *set;
        sets.iter().rev().fold(G1::infinity(), horner)
    }

    /// Entries of all digits other than zero, sorted by bucket, and where each bucket's begin and end.
    ///
    /// Digit by digit through all scalars, so that few buckets at a time take entries; and twice, first to count.
    fn sort(&self, scalars: &[Scalar], plan: Plan) -> (Vec<u32>, Vec<u32>) {
        let offset = digits::offset(plan.bits);
        let prepared: Vec<_> = scalars.iter().map(|scalar| digits::prepare(scalar, &offset)).collect();
        // Counts lie two places up; summed, each bucket's begin lies one place up, and the sorting moves it on to its
        // end, which is the next one's begin.
        let mut bounds = vec![0_u32; plan.sets * plan.buckets() + 2];
        for_each_digit(&prepared, plan, |_, _, bucket, _| bounds[bucket + 2] += 1);
        (1..bounds.len()).for_each(|i| bounds[i] += bounds[i - 1]);
        let total = bounds.last().copied().unwrap_or(0);
        let mut entries = vec![0; total as usize];
        for_each_digit(&prepared, plan, |scalar, multiple, bucket, is_negative| {
            let entry = (scalar * self.multiples + multiple) as u32;
            let place = &mut bounds[bucket + 1];
            entries[*place as usize] = if is_negative { entry | NEGATE } else { entry };
            *place += 1;
        });
        bounds.pop();
        (entries, bounds)
    }
}

/// Calls `each(scalar, multiple, bucket, is_negative)` for all digits other than zero.
#[inline(always)]
fn for_each_digit(scalars: &[Prepared], plan: Plan, mut each: impl FnMut(usize, usize, usize, bool)) {
    for number in 0..digits::count(plan.bits) {
        let place = Place::new(number, plan.bits);
        let (multiple, first) = (number / plan.sets, number % plan.sets * plan.buckets());
        for (i, scalar) in scalars.iter().enumerate() {
            let (magnitude, is_negative) = place.digit(scalar);
            if magnitude != 0 {
                each(i, multiple, first + magnitude - 1, is_negative);
            }
        }
    }
}
