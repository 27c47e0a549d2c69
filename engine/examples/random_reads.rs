//! Random reads of one file through `Disk`, as an audit makes them, to hold against
//! `fio --name=r --filename=FILE --direct=1 --rw=randread --ioengine=io_uring --fixedbufs --bs=4k --iodepth=64 --time_based --runtime=5`.
//!
//! `random_reads FILE DEPTH BLOCK_BYTES SECONDS`

use engine::pool::Pool;
use engine::{Access, Class, DirectFile, Executors, ExecutorsConfig, Limits, Local};
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: random_reads FILE DEPTH BLOCK_BYTES SECONDS";
    let mut args = std::env::args().skip(1);
    let path = PathBuf::from(args.next().ok_or(usage)?);
    let mut number = || args.next().ok_or(usage)?.parse::<usize>().map_err(|_| usage);
    let (depth, block_bytes, seconds) = (number()?, number()?, number()?);
    let file = DirectFile::open(&path, Access::Read)?;
    let blocks = file.size_bytes()? / block_bytes as u64;
    let slabs = (depth * block_bytes).div_ceil(engine::pool::SLAB_BYTES);
    let pool = Pool::new(slabs, 1)?;
    let config = ExecutorsConfig { name: "reads".into(), cores: vec![None], ring_depth: depth };
    let executors = Executors::start(&config, &pool)?;
    let limit = Duration::from_secs(seconds as u64);
    let reads =
        executors.spawner(0).spawn(move |local| run(local, file, (depth, block_bytes), blocks, limit));
    let reads = reads.wait()?;
    println!("depth {depth}, {block_bytes} bytes: {:.0} reads/s", reads as f64 / limit.as_secs_f64());
    executors.shutdown(Duration::from_secs(5))?;
    Ok(())
}

/// Keeps `depth` reads going until the time is up; how many were done.
async fn run(
    local: Local,
    file: Arc<DirectFile>,
    (depth, block_bytes): (usize, usize),
    blocks: u64,
    limit: Duration,
) -> u64 {
    let disk = local.disk(file.path(), Limits { depth, ..Limits::default() }).expect("memory can be locked");
    let count = Rc::new(Cell::new(0));
    let end = Instant::now() + limit;
    let mut tasks = Vec::new();
    let slabs = std::iter::from_fn(|| local.pool().try_acquire());
    for (n, mut buf) in slabs.flat_map(|slab| slab.split_into(block_bytes)).take(depth).enumerate() {
        let (disk, file, count) = (disk.clone(), file.clone(), count.clone());
        let mut state = 0x9E37_79B9_7F4A_7C15 ^ ((n as u64) << 32 | 1);
        tasks.push(local.spawn_in(Class::AuditRead, async move {
            while Instant::now() < end {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state % blocks * block_bytes as u64;
                buf = disk
                    .read(Class::AuditRead, &file, at, buf, 0..block_bytes)
                    .await
                    .expect("the file is readable");
                count.set(count.get() + 1);
            }
        }));
    }
    for task in tasks {
        task.await;
    }
    count.get()
}
