//! How a sum is made cheapest.

use super::digits;

/// How scalars are cut and into how many sets of buckets their digits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Bits of a digit.
    pub(super) bits: usize,
    /// Sets of buckets. Digit `j` of a scalar goes into set `j % sets`, for multiple `j / sets` of its point.
    pub(super) sets: usize,
}

impl Plan {
    /// Digits of 16 bits make 32 768 buckets; more than that fit no cache.
    pub(super) const BITS: std::ops::RangeInclusive<usize> = 4..=16;

    /// The cheapest plan for sums of so many points with so many multiples of each at most (one: no table).
    pub(super) fn best(points: usize, multiples_max: usize) -> Self {
        let with_bits = |bits| Self { bits, sets: digits::count(bits).div_ceil(multiples_max) };
        let plans = Self::BITS.map(with_bits);
        plans.min_by_key(|plan| (plan.cost(points), plan.multiples())).expect("there are plans")
    }

    /// Multiples of each point that must be there.
    pub(super) fn multiples(self) -> usize {
        digits::count(self.bits).div_ceil(self.sets)
    }

    /// Buckets of a set.
    pub(super) fn buckets(self) -> usize {
        1 << (self.bits - 1)
    }

    /// Sums of points that a sum of so many multiples takes.
    pub(super) fn cost(self, points: usize) -> usize {
        points * digits::count(self.bits) + 2 * self.sets * self.buckets()
    }
}
