//! What it does to bind threads: a pool that encodes, free, on a set of CPUs, or each thread on one of its own, alone and beside a stranger; and
//! reads by an executor beside such a pool. Run with `cargo bench -p benches --bench placement`, which takes a minute or two; best with nothing else
//! on the machine. Every figure is a ratio to one of the same rounds.

use consensus::pos::Tables;
use consensus::{CpuLevel, Workers};
use engine::pool::Pool;
use engine::threads::{CoreSet, ThreadWorkers};
use engine::{Access, Class, DirectFile, Executors, ExecutorsConfig, Limits, Local};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Each way is measured once a round, so that all see the same minutes; the median of the rounds counts.
const ROUNDS: usize = 5;
/// Tables that a pool makes in a round, for each of its threads.
const TABLES_PER_THREAD: usize = 5;
/// How long reads are measured in a round.
const READING: Duration = Duration::from_secs(2);
const FILE_BYTES: u64 = 256 << 20;
const READ_BYTES: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(60);

fn main() {
    let cpus: Vec<usize> = (0..).take(1 << 14).filter(|&cpu| CoreSet::new(&[cpu]).is_ok()).collect();
    println!("{} CPUs; medians of {ROUNDS} rounds", cpus.len());
    pools(&cpus);
    executors(&cpus);
}

fn set(cpus: &[usize]) -> CoreSet {
    CoreSet::new(cpus).expect("it could be entered just now")
}

/// The pools of all CPUs, by how they are bound.
fn ways(cpus: &[usize]) -> [(&'static str, ThreadWorkers); 3] {
    let each = cpus.iter().map(|&cpu| set(&[cpu])).collect();
    [
        ("free", ThreadWorkers::unbound(cpus.len())),
        ("on a set", ThreadWorkers::on(vec![set(cpus)], cpus.len())),
        ("each thread on one CPU", ThreadWorkers::on(each, cpus.len())),
    ]
}

fn pools(cpus: &[usize]) {
    let mut seconds: Vec<(String, Vec<f64>)> = Vec::new();
    for _ in 0..ROUNDS {
        for with_stranger in [false, true] {
            for (way, threads) in ways(cpus) {
                let name = format!("pool {way}{}", if with_stranger { ", beside a busy thread" } else { "" });
                let took =
                    beside_stranger(with_stranger, || tables(&threads, TABLES_PER_THREAD * cpus.len()));
                note(&mut seconds, &name, took.as_secs_f64());
            }
        }
    }
    let base = median(&seconds[0].1);
    for (name, times) in &seconds {
        println!("{name}: {:.2} of its speed when free and alone", base / median(times));
    }
}

/// Makes so many tables, each by the thread that is free for it.
fn tables(threads: &ThreadWorkers, count: usize) -> Duration {
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    threads.run(threads.count(), &|_| {
        let mut tables = Tables::new(CpuLevel::detect());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            tables.build(black_box(&[number as u8; 32]));
        }
    });
    started.elapsed()
}

fn beside_stranger<T>(is_there: bool, run: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(!is_there);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let result = run();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// An executor and a pool beside it; none of a pool: the executor is alone.
struct Beside {
    name: &'static str,
    executor: Option<CoreSet>,
    pool: Option<ThreadWorkers>,
}

fn arrangements(cpus: &[usize]) -> Vec<Beside> {
    let free = || ThreadWorkers::unbound(cpus.len());
    let first = || Some(set(&cpus[..1]));
    let mut all = vec![
        Beside { name: "alone", executor: None, pool: None },
        Beside { name: "both free, pool as important", executor: None, pool: Some(free()) },
        Beside {
            name: "both free, pool in the background",
            executor: None,
            pool: Some(free().in_background()),
        },
        Beside {
            name: "on a CPU, pool in the background on all",
            executor: first(),
            pool: Some(ThreadWorkers::on(vec![set(cpus)], cpus.len()).in_background()),
        },
    ];
    if let [_, rest @ ..] = cpus
        && !rest.is_empty()
    {
        let pool = ThreadWorkers::on(vec![set(rest)], rest.len()).in_background();
        all.push(Beside { name: "on a CPU, pool on the others", executor: first(), pool: Some(pool) });
    }
    all
}

fn executors(cpus: &[usize]) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("placement.bin");
    let file = written(&path);
    let (mut p50, mut p99, mut speed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for Beside { name, executor, pool } in arrangements(cpus) {
            let (mut waits, made) = reads_beside(&file, executor, pool);
            waits.sort_unstable();
            let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64();
            note(&mut p50, name, at(0.5));
            note(&mut p99, name, at(0.99));
            note(&mut speed, name, made);
        }
    }
    let (base50, base99, full) = (median(&p50[0].1), median(&p99[0].1), median(&speed[1].1));
    println!("reads alone: half within {:.0} µs, 99 % within {:.0} µs", base50 * 1e6, base99 * 1e6);
    for (((name, p50), (_, p99)), (_, speed)) in p50.iter().zip(&p99).zip(&speed).skip(1) {
        println!(
            "executor {name}: half of the reads within {:.1}, 99 % within {:.1} times that; the pool at {:.2} of its speed when both are free",
            median(p50) / base50,
            median(p99) / base99,
            median(speed) / full
        );
    }
    std::fs::remove_file(path).expect("it was made just now");
}

/// A file whose bytes the disk has to bring: what was never written, it would not.
fn written(path: &Path) -> Arc<DirectFile> {
    std::fs::write(path, vec![7; FILE_BYTES as usize]).expect("the target folder has room");
    std::fs::File::open(path).and_then(|file| file.sync_all()).expect("the disk takes it");
    DirectFile::open(path, Access::Read).expect("the target folder takes direct I/O")
}

/// How long each read took, one after the other, and how many tables the pool made in a second meanwhile.
fn reads_beside(
    file: &Arc<DirectFile>,
    cores: Option<CoreSet>,
    pool: Option<ThreadWorkers>,
) -> (Vec<Duration>, f64) {
    let buffers = Pool::new(1, 1).expect("a slab can be mapped");
    let config = ExecutorsConfig { name: "reads".into(), cores: vec![cores], ring_depth: 8 };
    let executors = Executors::start(&config, &buffers).expect("io_uring is allowed");
    let (over, made, started) = (AtomicBool::new(false), AtomicUsize::new(0), Instant::now());
    let waits = std::thread::scope(|scope| {
        scope.spawn(|| {
            let Some(pool) = pool else { return };
            pool.run(pool.count(), &|_| {
                let mut tables = Tables::new(CpuLevel::detect());
                while !over.load(Ordering::Relaxed) {
                    tables.build(black_box(&[7; 32]));
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        let file = file.clone();
        let waits = executors.spawner(0).spawn(move |local| reads(local, file)).wait();
        over.store(true, Ordering::Relaxed);
        waits.expect("the executor lives")
    });
    let per_second = made.into_inner() as f64 / started.elapsed().as_secs_f64();
    executors.shutdown(TIMEOUT).expect("nothing is under way");
    (waits, per_second)
}

async fn reads(local: Local, file: Arc<DirectFile>) -> Vec<Duration> {
    let disk = local.disk(file.path(), Limits::default()).expect("memory can be locked");
    let mut buf = local.pool().try_acquire().expect("nobody else takes slabs");
    let (mut waits, started, mut state) = (Vec::new(), Instant::now(), 1_u64);
    while started.elapsed() < READING {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let at = (state >> 33) % (FILE_BYTES / READ_BYTES as u64) * READ_BYTES as u64;
        let asked = Instant::now();
        buf = disk.read(Class::AuditRead, &file, at, buf, 0..READ_BYTES).await.expect("the file is readable");
        waits.push(asked.elapsed());
    }
    waits
}

fn note(figures: &mut Vec<(String, Vec<f64>)>, name: &str, figure: f64) {
    match figures.iter_mut().find(|(known, _)| known == name) {
        Some((_, all)) => all.push(figure),
        None => figures.push((name.into(), vec![figure])),
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
