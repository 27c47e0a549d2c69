//! Times of many operations, in little memory, and how many of them took how long.

use std::time::Duration;

/// Each power of two of nanoseconds is divided into so many parts, so a percentile is at most 1/256 too long.
const PARTS_LOG2: u32 = 8;
/// Longer ones are kept apart only by [`Latencies::max`]: 18 minutes.
const LONGEST_LOG2: u32 = 40;
const BUCKETS: usize = ((LONGEST_LOG2 - PARTS_LOG2 + 1) as usize) << PARTS_LOG2;

/// Times, counted. Percentiles are by nearest rank: the shortest time that so many of all do not exceed.
#[derive(Debug, Clone)]
pub struct Latencies {
    counts: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, max: Duration::ZERO }
    }
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(ns)] += 1;
        self.count += 1;
        self.max = self.max.max(time);
    }

    /// Counts all of another.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, more)| *sum += more);
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The time that `percent` in a hundred do not exceed; zero where there are none. At least 1 and at most 100.
    pub fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut below = 0;
        let found = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        found.map_or(Duration::ZERO, |found| Duration::from_nanos(longest_of(found)).min(self.max))
    }

    /// The longest in milliseconds.
    pub fn max_ms(&self) -> f64 {
        ms(self.max)
    }

    /// A percentile in milliseconds.
    pub fn percentile_ms(&self, percent: u64) -> f64 {
        ms(self.percentile(percent))
    }
}

/// As a number for people and JSON.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Where a time is counted.
fn bucket(ns: u64) -> usize {
    let ns = ns.min((1 << LONGEST_LOG2) - 1);
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(PARTS_LOG2 + 1);
    ((shift as usize) << PARTS_LOG2) + (ns >> shift) as usize
}

/// The longest time that is counted there.
fn longest_of(bucket: usize) -> u64 {
    let shift = (bucket >> PARTS_LOG2).saturating_sub(1);
    let part = (bucket - (shift << PARTS_LOG2)) as u64;
    ((part + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_numbers_are_exact() {
        let mut times = Latencies::default();
        assert_eq!((times.percentile(50), times.max(), times.count()), (Duration::ZERO, Duration::ZERO, 0));
        (1..=100).for_each(|ns| times.add(Duration::from_nanos(ns)));
        for percent in [1, 50, 99, 100] {
            assert_eq!(times.percentile(percent), Duration::from_nanos(percent));
        }
        // Nearest rank of few: never a time that nothing took, and p99 of few is the longest.
        let mut few = Latencies::default();
        [10, 20, 30].into_iter().for_each(|ns| few.add(Duration::from_nanos(ns)));
        assert_eq!(
            [33, 34, 66, 67, 99].map(|percent| few.percentile(percent).as_nanos()),
            [10, 20, 20, 30, 30]
        );
    }

    #[test]
    fn buckets_have_no_gaps() {
        for bucket_below in 0..BUCKETS - 1 {
            let longest = longest_of(bucket_below);
            assert_eq!((bucket(longest), bucket(longest + 1)), (bucket_below, bucket_below + 1));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn near_to_those_of_all_times_in_order(
            mut all in prop::collection::vec(prop_oneof![0u64..1000, 0u64..1_000_000_000, 0u64..900_000_000_000], 1..400),
            percent in 1u64..=100,
        ) {
            let (mut first, mut second) = (Latencies::default(), Latencies::default());
            let half = all.len() / 2;
            all[..half].iter().for_each(|&ns| first.add(Duration::from_nanos(ns)));
            all[half..].iter().for_each(|&ns| second.add(Duration::from_nanos(ns)));
            first.merge(&second);
            all.sort_unstable();
            let exact = all[(all.len() * percent as usize).div_ceil(100) - 1];
            let found = first.percentile(percent).as_nanos() as u64;
            prop_assert!(found >= exact && found <= exact + exact / 256, "{found} for {exact}");
            prop_assert_eq!(first.max().as_nanos() as u64, all[all.len() - 1]);
            prop_assert_eq!(first.count(), all.len() as u64);
        }
    }
}
