//! Random reads of one file through `Disk`, as an audit makes them, to hold against
//! `fio --name=r --filename=FILE --direct=1 --rw=randread --ioengine=io_uring --fixedbufs --bs=4k --iodepth=64 --time_based --runtime=5`.
//!
//! `random_reads FILE DEPTH BLOCK_BYTES SECONDS`: as many as can be.
//!
//! `random_reads FILE DEPTH BLOCK_BYTES SECONDS paced`: how long each of a slot's reads takes, a thousand every 200 ms, while the
//! disk is idle, and while sectors are written beside them as fast as it lets them (over the second half of FILE, which is
//! lost), three times in turn.

use engine::pool::{Pool, SLAB_BYTES, SlabMut};
use engine::{Access, Class, DirectFile, Disk, Executors, ExecutorsConfig, Limits, Local, task};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads of a slot, and how often there is one.
const SLOT_READS: usize = 1000;
const SLOT: Duration = Duration::from_millis(200);
/// Sector writes that wait or are in flight at a time, each of a slab.
const WRITERS: usize = 16;
const ROUNDS: usize = 3;

#[derive(Clone)]
struct Work {
    disk: Disk,
    file: Arc<DirectFile>,
    block_bytes: usize,
    /// Of the file's first half, in which is read.
    blocks: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: random_reads FILE DEPTH BLOCK_BYTES SECONDS [paced]";
    let mut args = std::env::args().skip(1);
    let path = PathBuf::from(args.next().ok_or(usage)?);
    let mut number = || args.next().ok_or(usage)?.parse::<usize>().map_err(|_| usage);
    let (depth, block_bytes, seconds) = (number()?, number()?, number()?);
    let is_paced = args.next().is_some();
    let file = DirectFile::open(&path, if is_paced { Access::ReadWrite } else { Access::Read })?;
    let slabs = (depth * block_bytes).div_ceil(SLAB_BYTES) + WRITERS;
    let pool = Pool::new(slabs, 1)?;
    let config = ExecutorsConfig { name: "reads".into(), cores: vec![None], ring_depth: 8 };
    let executors = Executors::start(&config, &pool)?;
    let limit = Duration::from_secs(seconds as u64);
    let done = executors.spawner(0).spawn(move |local| async move {
        let disk =
            local.disk(&path, Limits { depth, ..Limits::default() }).map_err(|error| error.to_string())?;
        let bytes = file.size_bytes().map_err(|error| error.to_string())?;
        let work = Work { disk, file, block_bytes, blocks: bytes / 2 / block_bytes as u64 };
        let mut slabs = std::iter::from_fn(|| local.pool().try_acquire());
        let writers: Vec<_> = slabs.by_ref().take(if is_paced { WRITERS } else { 0 }).collect();
        let bufs: Vec<_> = slabs.flat_map(|slab| slab.split_into(block_bytes)).take(depth).collect();
        if is_paced {
            paced(&local, &work, bufs, writers, limit).await;
        } else {
            let waits = reads(&local, &work, &mut RefCell::new(bufs), usize::MAX, limit).await;
            let rate = waits.len() as f64 / limit.as_secs_f64();
            println!("depth {depth}, {block_bytes} bytes: {rate:.0} reads/s");
        }
        Ok::<_, String>(())
    });
    done.wait()??;
    executors.shutdown(Duration::from_secs(5))?;
    Ok(())
}

/// Slots on an idle disk and beside writing, in turn.
async fn paced(local: &Local, work: &Work, bufs: Vec<SlabMut>, writers: Vec<SlabMut>, limit: Duration) {
    let (mut bufs, writers) =
        (RefCell::new(bufs), writers.into_iter().map(SlabMut::freeze).collect::<Vec<_>>());
    for _ in 0..ROUNDS {
        let idle = slots(local, work, &mut bufs, limit).await;
        let (is_over, written) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0u64)));
        let writing: Vec<_> = (0u64..)
            .zip(&writers)
            .map(|(n, data)| {
                let (work, data) = (work.clone(), data.clone());
                let (is_over, written) = (is_over.clone(), written.clone());
                local.spawn_in(Class::SectorWrite, async move {
                    let half = work.blocks * work.block_bytes as u64 / SLAB_BYTES as u64;
                    for at in (n..).step_by(WRITERS) {
                        if is_over.get() {
                            break;
                        }
                        let offset = (half + at % (half - 1)) * SLAB_BYTES as u64;
                        work.disk
                            .write(Class::SectorWrite, &work.file, offset, &data)
                            .await
                            .expect("there is room");
                        written.set(written.get() + SLAB_BYTES as u64);
                    }
                })
            })
            .collect();
        let busy = slots(local, work, &mut bufs, limit).await;
        is_over.set(true);
        for task in writing {
            task.await;
        }
        let mib = written.get() as f64 / f64::from(1 << 20) / limit.as_secs_f64();
        let ratio = |at| quantile(&busy, at) / quantile(&idle, at);
        println!(
            "idle p50 {:.0} p99 {:.0} us; beside {mib:.0} MiB/s of writes p50 {:.0} p99 {:.0} us: {:.2}, {:.2}",
            quantile(&idle, 50),
            quantile(&idle, 99),
            quantile(&busy, 50),
            quantile(&busy, 99),
            ratio(50),
            ratio(99)
        );
    }
}

/// A slot every [`SLOT`] until the time is up; what each read took, sorted.
async fn slots(
    local: &Local,
    work: &Work,
    bufs: &mut RefCell<Vec<SlabMut>>,
    limit: Duration,
) -> Vec<Duration> {
    let (end, mut waits) = (Instant::now() + limit, Vec::new());
    while Instant::now() < end {
        let began = Instant::now();
        waits.extend(reads(local, work, bufs, SLOT_READS, limit).await);
        task::sleep(SLOT.saturating_sub(began.elapsed())).await;
    }
    waits.sort_unstable();
    waits
}

fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    sorted.get(sorted.len() * percent / 100).map_or(0.0, |wait| wait.as_secs_f64() * 1e6)
}

/// Makes so many reads at most, one a buffer at a time, until the time is up; what each took.
async fn reads(
    local: &Local,
    work: &Work,
    bufs: &mut RefCell<Vec<SlabMut>>,
    most: usize,
    limit: Duration,
) -> Vec<Duration> {
    let (waits, left) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(most)));
    let end = Instant::now() + limit;
    let mut tasks = Vec::new();
    for (n, mut buf) in bufs.take().into_iter().enumerate() {
        let (work, waits, left) = (work.clone(), waits.clone(), left.clone());
        let mut state = 0x9E37_79B9_7F4A_7C15 ^ ((n as u64) << 32 | 1);
        tasks.push(local.spawn_in(Class::AuditRead, async move {
            while left.get() > 0 && Instant::now() < end {
                left.set(left.get() - 1);
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state % work.blocks * work.block_bytes as u64;
                let (asked, range) = (Instant::now(), 0..work.block_bytes);
                buf = work
                    .disk
                    .read(Class::AuditRead, &work.file, at, buf, range)
                    .await
                    .expect("the file is readable");
                waits.borrow_mut().push(asked.elapsed());
            }
            buf
        }));
    }
    for task in tasks {
        bufs.get_mut().push(task.await);
    }
    waits.take()
}
