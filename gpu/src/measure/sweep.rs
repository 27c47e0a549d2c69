//! Sectors encoded by a device as a plot-server does it, at one `GPU_CONCURRENCY` after another.
//!
//! ```text
//!   sectors, one after another ─▶ session ─▶ records ─▶ │ warm │ counted ... │ stopped
//! ```
//! Owns: when the counting begins and ends. Never: where pieces come from or sectors go, which costs a plot-server time of its own.

use super::MeasureError;
use super::records::{MeasuredPiece, RECORD_SLABS, pieces};
use crate::card::{
    Budget, BudgetError, CardEncoder, CardEncoderOptions, DEFAULT_CHECK_EVERY, EncodingDevice, Wanted,
};
use crate::device::Device;
use crate::{EncodingSession, PieceToEncode, SectorEncoder, SectorPlan, WorkerStats};
use consensus::CpuLevel;
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, stream};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

/// Sectors in the making at once: while one leaves the device, the next is encoded.
const SESSIONS: usize = 2;
/// Pieces of a sector that speeds are told in.
const SECTOR_PIECES: f64 = 1000.0;
/// Speeds that differ by less than this part are the same.
const SAME_SPEED: f64 = 0.02;

/// What sectors are measured with.
#[derive(Clone)]
pub struct SweepOptions {
    /// Pieces of a sector, 1 to 1000.
    pub pieces_in_sector: u16,
    /// Threads that check records and put sectors out.
    pub threads: ThreadWorkers,
    /// Instructions that records are checked with.
    pub level: CpuLevel,
}

/// What a device does at one `GPU_CONCURRENCY`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Records in flight.
    pub concurrency: usize,
    /// Records counted.
    pub records: usize,
    /// Records encoded in a second; sectors put together in between take their part of it.
    pub records_per_s: f64,
    /// Part of the time in which no record was on the device.
    pub idle_share: f64,
}

impl Point {
    /// Milliseconds of a record.
    pub fn record_ms(&self) -> f64 {
        1000.0 / self.records_per_s
    }

    /// Sectors of 1000 pieces in a minute.
    pub fn sectors_per_min(&self) -> f64 {
        self.records_per_s * 60.0 / SECTOR_PIECES
    }
}

/// Measures each of `counts`, over at least `records_each` records once the device is busy. Counts that its memory has no room for are left
/// out, unless that leaves none. Takes the time of some 10 % more records, and a second for each count.
///
/// # Errors
/// The device must have kernels for the network's K. What goes wrong on it ends the sweep.
pub fn sweep(
    device: &Arc<dyn Device>,
    counts: &[usize],
    records_each: usize,
    options: &SweepOptions,
) -> Result<Vec<Point>, MeasureError> {
    let (mut points, mut too_much) = (Vec::new(), None);
    for &count in counts {
        match plan(device, count, options)? {
            Ok(budget) => points.push(measure(device, budget, records_each, options)?),
            Err(source) => too_much = Some(source),
        }
    }
    match too_much {
        _ if !points.is_empty() => Ok(points),
        Some(source) => Err(MeasureError::Budget { device: device.name().into(), source }),
        None => Err(MeasureError::NoCounts),
    }
}

/// The smallest count that is as fast as the fastest, or slower by 2 % at most.
///
/// # Panics
/// Without points; a sweep always gives some.
pub fn best(points: &[Point]) -> usize {
    let fastest = points.iter().map(|point| point.records_per_s).fold(0.0, f64::max);
    let as_fast = points.iter().filter(|point| point.records_per_s >= fastest * (1.0 - SAME_SPEED));
    as_fast.map(|point| point.concurrency).min().expect("a sweep has points")
}

fn plan(
    device: &Arc<dyn Device>,
    concurrency: usize,
    options: &SweepOptions,
) -> Result<Result<Budget, BudgetError>, MeasureError> {
    let wanted = Wanted {
        concurrency: Some(concurrency),
        sessions: SESSIONS,
        pieces_in_sector: options.pieces_in_sector,
        piece_slabs: 1,
    };
    Ok(Budget::plan(device.layout(), device.memory()?, &wanted))
}

fn measure(
    device: &Arc<dyn Device>,
    budget: Budget,
    records_each: usize,
    options: &SweepOptions,
) -> Result<Point, MeasureError> {
    let pool = Pool::new(budget.slabs() + RECORD_SLABS, budget.slabs())?;
    let encoder = CardEncoder::new(CardEncoderOptions {
        devices: vec![EncodingDevice { device: device.clone(), budget, feeder: None }],
        pieces_in_sector: options.pieces_in_sector,
        threads: options.threads.clone(),
        level: options.level,
        pool: pool.clone(),
        memory_slabs: budget.slabs(),
        check_every: DEFAULT_CHECK_EVERY,
    })?;
    let run = Run {
        pieces: pieces(&pool, RECORD_SLABS),
        pieces_in_sector: options.pieces_in_sector,
        credits: budget.credits(),
        count: Count::new(budget.concurrency, records_each),
        encoder,
    };
    let endless = stream::iter((0..=u16::MAX).cycle()).map(Ok);
    // More sectors than there are sessions, so that a session never waits to be asked for.
    let ended = block_on(endless.try_for_each_concurrent(SESSIONS + 1, |sector| run.sector(sector)));
    match ended.expect_err("there is always a next sector") {
        End::Measured(point) => Ok(point),
        End::Failed(error) => Err(error),
    }
}

/// Sectors under way at one concurrency.
struct Run {
    encoder: CardEncoder,
    pieces: Vec<MeasuredPiece>,
    pieces_in_sector: u16,
    credits: usize,
    count: Count,
}

/// How a run ends: by an error, so that it ends at once.
enum End {
    Measured(Point),
    Failed(MeasureError),
}

impl<E: Into<MeasureError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Run {
    /// Encodes a sector, and throws it away as it comes out.
    async fn sector(&self, sector_index: u16) -> Result<(), End> {
        let pieces_in_sector = self.pieces_in_sector;
        let plan = SectorPlan { public_key: [1; 32], sector_index, history_size: 1, pieces_in_sector };
        let session = self.encoder.begin(plan).await?;
        let pieces = stream::iter((0..pieces_in_sector).map(Ok));
        pieces.try_for_each_concurrent(self.credits, |offset| self.record(&*session, offset)).await?;
        let mut sector = session.finish().await?;
        while let Some(slab) = sector.next().await {
            slab?;
        }
        Ok(())
    }

    async fn record(&self, session: &dyn EncodingSession, piece_offset: u16) -> Result<(), End> {
        let MeasuredPiece { record, point, hash } =
            &self.pieces[usize::from(piece_offset) % self.pieces.len()];
        let credit = session.credit().await;
        let (record, commitment, witness) = (record.clone(), *point, *point);
        let piece =
            PieceToEncode { piece_offset, record, parity: None, credit, commitment, witness, hash: *hash };
        session.submit(piece).await?;
        self.count
            .record(|| self.encoder.stats().workers[0])
            .map_or(Ok(()), |point| Err(End::Measured(point)))
    }
}

/// Counts records from when the device is busy.
struct Count {
    concurrency: usize,
    /// Not counted: as many as are in flight, since the first of them found the device idle, and some more, so that clocks are up.
    warm: usize,
    /// Counted: whole rounds of both batches, which end together, so that it does not matter where in a round it begins.
    records: usize,
    done: Cell<usize>,
    began: Cell<Option<(Instant, WorkerStats)>>,
}

impl Count {
    fn new(concurrency: usize, records_each: usize) -> Self {
        let records = records_each.max(1).next_multiple_of(concurrency);
        let warm = concurrency.max(records_each / 10);
        Self { concurrency, warm, records, done: Cell::new(0), began: Cell::new(None) }
    }

    /// One more is done; after the last, the result.
    fn record(&self, worker: impl Fn() -> WorkerStats) -> Option<Point> {
        let done = self.done.get() + 1;
        self.done.set(done);
        if done == self.warm {
            self.began.set(Some((Instant::now(), worker())));
        }
        if done < self.warm + self.records {
            return None;
        }
        let (began, before) = self.began.get()?;
        let (elapsed_s, after) = (began.elapsed().as_secs_f64(), worker());
        let (busy, idle) = (after.busy.saturating_sub(before.busy), after.idle.saturating_sub(before.idle));
        let idle_share = idle.as_secs_f64() / (busy + idle).as_secs_f64();
        let (concurrency, records) = (self.concurrency, self.records);
        Some(Point { concurrency, records, records_per_s: records as f64 / elapsed_s, idle_share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_smallest_count_that_is_fast_enough_is_best() {
        let points = |speeds: &[(usize, f64)]| -> Vec<_> {
            let point = |&(concurrency, records_per_s)| Point {
                concurrency,
                records: 1,
                records_per_s,
                idle_share: 0.0,
            };
            speeds.iter().map(point).collect()
        };
        assert_eq!(best(&points(&[(32, 1000.0), (16, 985.0), (8, 970.0)])), 16);
        assert_eq!(best(&points(&[(1, 5.0), (2, 5.05)])), 1);
        assert_eq!(best(&points(&[(4, 7.0)])), 4);
    }

    #[test]
    fn speeds_in_other_units() {
        let point = Point { concurrency: 1, records: 1, records_per_s: 500.0, idle_share: 0.0 };
        assert_eq!((point.record_ms(), point.sectors_per_min()), (2.0, 30.0));
    }

    #[test]
    fn only_what_is_done_once_the_device_is_busy_counts() {
        let count = Count::new(4, 50);
        assert_eq!((count.warm, count.records), (5, 52));
        let asked = Cell::new(0);
        let worker = || {
            asked.set(asked.get() + 1);
            let (busy, idle) = (Duration::from_secs(3 * asked.get()), Duration::from_secs(asked.get()));
            WorkerStats { jobs: 0, busy, idle }
        };
        assert!((0..56).all(|_| count.record(worker).is_none()));
        assert_eq!(asked.get(), 1);
        let point = count.record(worker).unwrap();
        assert_eq!((point.concurrency, point.records, point.idle_share), (4, 52, 0.25));
    }
}
