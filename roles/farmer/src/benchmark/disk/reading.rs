//! Keeping so many reads of a file under way for a while.

use super::model::{Point, WINDOW};
use super::target::{Stretches, Target};
use crate::benchmark::latencies::Latencies;
use engine::pool::{AcquireError, SLAB_BYTES};
use engine::{Class, Disk, IoError, Limits, Local};
use futures::future::try_join_all;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Writes of a file of its own under way.
const FILL_DEPTH: usize = 4;
/// Slabs that filling takes.
pub const FILL_SLABS: usize = FILL_DEPTH;

/// Why reading or filling ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// The disk does not give the bytes, or does not take them.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No memory.
    #[error(transparent)]
    Buffers(#[from] AcquireError),
}

/// What to read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The file.
    pub target: Target,
    /// Where in it.
    pub stretches: Arc<Stretches>,
    /// Bytes of each read: whole blocks, at most a slab.
    pub read_bytes: usize,
    /// Reads at once.
    pub depth: usize,
    /// How long.
    pub limit: Duration,
    /// Other seeds, other places.
    pub seed: u64,
}

/// Slabs that so many reads at once take.
pub fn slabs(depth: usize, read_bytes: usize) -> usize {
    depth.div_ceil(SLAB_BYTES / read_bytes)
}

/// Reads at random until the time is up. On an executor.
pub async fn read(local: Local, reading: Reading) -> Result<Point, ReadingError> {
    let Reading { target, stretches, read_bytes, depth, limit, seed } = reading;
    let disk = Disk::new(local.ring().clone(), Limits { depth, ..Limits::default() });
    let mut bufs = Vec::new();
    while bufs.len() < depth {
        bufs.append(&mut local.pool().acquire().await?.split_into(read_bytes));
    }
    let windows = vec![0u64; (limit.as_nanos() / WINDOW.as_nanos()) as usize];
    let counted = Rc::new(RefCell::new((Latencies::default(), windows)));
    let started = Instant::now();
    let readers = bufs.into_iter().take(depth).enumerate().map(|(n, mut buf)| {
        let (disk, file, stretches, counted) =
            (disk.clone(), target.file.clone(), stretches.clone(), counted.clone());
        let mut random = Random::new(seed, n as u64);
        local.spawn_in(Class::AuditRead, async move {
            while started.elapsed() < limit {
                let (at, begun) = (stretches.at(random.next()), Instant::now());
                buf = disk.read(Class::AuditRead, &file, at, buf, 0..read_bytes).await?;
                let (latencies, windows) = &mut *counted.borrow_mut();
                latencies.add(begun.elapsed());
                let window = (started.elapsed().as_nanos() / WINDOW.as_nanos()) as usize;
                windows.iter_mut().skip(window).take(1).for_each(|count| *count += 1);
            }
            Ok::<_, IoError>(())
        })
    });
    try_join_all(readers.collect::<Vec<_>>()).await?;
    let took = started.elapsed();
    let (latencies, windows) = counted.take();
    Ok(Point { depth, latencies, took, windows })
}

/// Fills a file of its own with what cannot be compressed, and makes it durable. On an executor.
pub async fn fill(local: Local, target: Target) -> Result<(), ReadingError> {
    let disk = Disk::new(local.ring().clone(), Limits::default());
    let next = Rc::new(RefCell::new((0..target.file_bytes).step_by(SLAB_BYTES)));
    let mut bufs = Vec::new();
    for _ in 0..FILL_DEPTH {
        bufs.push(local.pool().acquire().await?);
    }
    let writers = bufs.into_iter().map(|mut buf| {
        let (disk, target, next) = (disk.clone(), target.clone(), next.clone());
        local.spawn_in(Class::SectorWrite, async move {
            loop {
                let Some(at) = next.borrow_mut().next() else { return Ok::<_, IoError>(()) };
                let bytes = (target.file_bytes - at).min(SLAB_BYTES as u64) as usize;
                let mut noise = blake3::Hasher::new().update(&at.to_le_bytes()).finalize_xof();
                buf = buf.narrow(..bytes);
                noise.fill(&mut buf);
                let (back, written) = disk.write_own(Class::SectorWrite, &target.file, at, buf).await;
                written?;
                buf = back.expect("what was written comes back");
            }
        })
    });
    try_join_all(writers.collect::<Vec<_>>()).await?;
    Ok(disk.sync(Class::SectorWrite, &target.file).await?)
}

/// Numbers without a pattern that a drive could see (splitmix64).
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ stream.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
