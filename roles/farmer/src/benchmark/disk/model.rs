//! What figures of a disk say of the sectors that it can carry: pure.
//!
//! An audit reads one s-bucket of each sector, as many at once as the depth is, so a slot takes its reads at the rate that
//! the disk keeps up also in its slow moments, and then the last of them, which may be a slow one. One challenge in six hits
//! an s-bucket that no sector has; that is left as a reserve.

use crate::benchmark::latencies::Latencies;
use std::time::Duration;

/// A depth is as good as the best if it carries so much of its sectors.
const AS_GOOD: f64 = 0.95;
/// Length of the windows whose rates are told apart.
pub const WINDOW: Duration = Duration::from_millis(100);
/// Fewer windows than this say nothing of slow moments.
const WINDOWS_MIN: usize = 3;
/// Of all windows, so many in a hundred may be slower than what counts as the disk's rate.
const SLOW_PERCENT: usize = 1;

/// Reads at one depth.
#[derive(Debug, Clone)]
pub struct Point {
    /// Reads at once.
    pub depth: usize,
    /// How long each took.
    pub latencies: Latencies,
    /// How long they were kept up.
    pub took: Duration,
    /// Reads that ended in each whole [`WINDOW`].
    pub windows: Vec<u64>,
}

impl Point {
    /// A second.
    pub fn reads_per_s(&self) -> f64 {
        self.latencies.count() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// In the slow moments: the rate that 99 windows in a hundred reach.
    pub fn slow_reads_per_s(&self) -> f64 {
        // The first fills the queue.
        let mut windows = self.windows.get(1..).unwrap_or_default().to_vec();
        if windows.len() < WINDOWS_MIN {
            return self.reads_per_s();
        }
        windows.sort_unstable();
        let slow = windows[windows.len() * SLOW_PERCENT / 100] as f64 / WINDOW.as_secs_f64();
        slow.min(self.reads_per_s())
    }

    /// Sectors whose audit ends within the time in 99 slots of a hundred.
    pub fn sectors_within(&self, time: Duration) -> u64 {
        let left = time.saturating_sub(self.latencies.percentile(99));
        (left.as_secs_f64() * self.slow_reads_per_s()) as u64
    }

    /// The same of other disks that read at the same time.
    pub fn together<'a>(points: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut points = points.into_iter();
        let mut sum = points.next()?.clone();
        for point in points {
            sum.latencies.merge(&point.latencies);
            sum.took = sum.took.max(point.took);
            sum.windows.truncate(point.windows.len());
            sum.windows.iter_mut().zip(&point.windows).for_each(|(sum, more)| *sum += more);
        }
        Some(sum)
    }
}

/// What a disk can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carries {
    /// Time that 99 audits in a hundred may take.
    pub within: Duration,
    /// Sectors of the disk.
    pub sectors: u64,
    /// Depth at which it carries them.
    pub depth: usize,
}

/// Most sectors within the time; none of no figures.
pub fn carries(points: &[Point], within: Duration) -> Option<Carries> {
    let carried = points.iter().map(|point| (point.sectors_within(within), point.depth));
    // Of equal ones the least depth.
    let (sectors, depth) = carried.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    Some(Carries { within, sectors, depth })
}

/// The least depth that is as good as the best for a slot of this length.
pub fn recommended_depth(points: &[Point], slot: Duration) -> Option<usize> {
    let best = carries(points, slot)?.sectors as f64;
    let good = |point: &&Point| point.sectors_within(slot) as f64 >= AS_GOOD * best;
    points.iter().filter(good).map(|point| point.depth).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A second of reads that take `us` each, `depth` at once; all windows are alike.
    fn point(depth: usize, us: u64) -> Point {
        let mut latencies = Latencies::default();
        let reads = 1_000_000 / us * depth as u64;
        (0..reads).for_each(|_| latencies.add(Duration::from_micros(us)));
        Point { depth, latencies, took: SECOND, windows: vec![reads / 10; 10] }
    }

    #[test]
    fn a_slot_takes_its_reads_and_the_last_of_them() {
        let point = point(4, 100_000);
        assert_eq!((point.reads_per_s(), point.slow_reads_per_s()), (40.0, 40.0));
        // 100 ms are left of 200 for all but the last.
        assert_eq!(point.sectors_within(Duration::from_millis(200)), 4);
        assert_eq!([50, 100, 1000].map(|ms| point.sectors_within(Duration::from_millis(ms))), [0, 0, 36]);
    }

    #[test]
    fn slow_moments_count_and_the_first_does_not() {
        let mut slow = point(1, 1000);
        slow.windows[0] = 1;
        assert_eq!(slow.slow_reads_per_s(), 1000.0);
        slow.windows[7] = 20;
        assert_eq!(slow.slow_reads_per_s(), 200.0);
        slow.windows.truncate(3);
        assert_eq!(slow.slow_reads_per_s(), 1000.0);
    }

    #[test]
    fn the_least_depth_that_is_nearly_as_good_is_recommended() {
        // From depth 16 on, the device gives no more and only the reads wait longer.
        let points = [point(1, 100), point(4, 105), point(16, 200), point(64, 800), point(256, 3200)];
        let second = carries(&points, SECOND).unwrap();
        assert_eq!((second.depth, second.sectors), (16, 79_984));
        assert_eq!(recommended_depth(&points, SECOND), Some(16));
        assert_eq!(carries(&points, Duration::ZERO).unwrap().sectors, 0);
        assert_eq!((carries(&[], SECOND), recommended_depth(&[], SECOND)), (None, None));
    }

    #[test]
    fn disks_together_are_the_sum() {
        let both = Point::together(&[point(4, 1000), point(4, 4000)]).unwrap();
        assert_eq!(
            (both.reads_per_s(), both.slow_reads_per_s(), both.latencies.max()),
            (5000.0, 5000.0, Duration::from_millis(4))
        );
        assert!(Point::together([]).is_none());
    }
}
