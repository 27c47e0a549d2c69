//! What this machine takes for the work of farming, in seconds and in units of B.
//!
//! B is the time of [`B_HASHES`] one-at-a-time `blake3::hash` of 24 bytes on one core, measured in the same run: about what
//! the hashes of one proof-of-space table would take without SIMD. Figures in B can be compared between machines.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use consensus::CpuLevel;
use consensus::constants::{RECORD_CHUNKS, SCALAR_BYTES};
use consensus::sector::RecordEncoder;
use serde::Serialize;

/// Hashes that make one B.
pub const B_HASHES: u64 = 6_220_000;
/// B is measured this often, before, between and after the work, and the median taken: the machine may have other work.
const B_RUNS: usize = 3;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that work at the same time, each on records of its own. At least 1, as are the records.
    pub threads: u16,
    /// Records that each thread encodes, after others that warm it up.
    pub records: u16,
    /// Instructions to use.
    pub level: CpuLevel,
}

/// A figure, in the form that all benchmarks have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// The operation.
    pub name: &'static str,
    /// Threads that worked at the same time.
    pub threads: u16,
    /// Instructions used.
    pub cpu_level: &'static str,
    /// Time of one operation on one core, half of them took longer.
    pub median_s: f64,
    /// The fastest.
    pub min_s: f64,
    /// B.
    pub b_s: f64,
    /// Median in B.
    pub ratio: f64,
}

/// Encodes records of pseudo-random scalars. `progress` is called after each step of [`encode_steps`].
pub fn encode(options: &Options, progress: &(dyn Fn() + Sync)) -> Measurement {
    assert!(options.threads > 0 && options.records > 0, "there is something to measure");
    let mut b_times = vec![measure_b(progress)];
    let times = Mutex::new(Vec::new());
    let rounds = B_RUNS - 1;
    for round in 0..rounds {
        let records = share(usize::from(options.records), round, rounds);
        std::thread::scope(|scope| {
            for thread in 0..options.threads {
                let (times, level) = (&times, options.level);
                scope.spawn(move || {
                    let own = encode_records(level, (thread, round), records, progress);
                    times.lock().expect("nothing panics while it holds the times").extend(own);
                });
            }
        });
        b_times.push(measure_b(progress));
    }
    let times = times.into_inner().expect("threads that panic end the scope");
    let (median_s, b_s) = (median(times.clone()), median(b_times));
    let min_s = times.into_iter().fold(f64::INFINITY, f64::min);
    let (threads, cpu_level) = (options.threads, options.level.name());
    Measurement { name: "encode", threads, cpu_level, median_s, min_s, b_s, ratio: median_s / b_s }
}

/// How often [`encode`] reports progress.
pub fn encode_steps(options: &Options) -> u64 {
    let warm_ups = B_RUNS - 1;
    (usize::from(options.threads) * (usize::from(options.records) + warm_ups) + B_RUNS) as u64
}

/// The part of `total` that falls into one of `rounds` rounds.
fn share(total: usize, round: usize, rounds: usize) -> usize {
    total * (round + 1) / rounds - total * round / rounds
}

/// Seconds of each of `records` records, of which no other seed has any.
fn encode_records(level: CpuLevel, seed: (u16, usize), records: usize, progress: &dyn Fn()) -> Vec<f64> {
    let mut encoder = RecordEncoder::new(level);
    let mut random = blake3::Hasher::new().update(format!("benchmark {seed:?}").as_bytes()).finalize_xof();
    let mut record = vec![[0; SCALAR_BYTES]; RECORD_CHUNKS];
    let mut encode_one = || {
        let mut seed = [0; 32];
        random.fill(&mut seed);
        for chunk in &mut record {
            chunk[0] = 0;
            random.fill(&mut chunk[1..]);
        }
        let start = Instant::now();
        let bitfield = encoder.encode(&seed, &mut record).expect("31 bytes are below the modulus");
        let time_s = start.elapsed().as_secs_f64();
        black_box((bitfield, &record));
        progress();
        time_s
    };
    encode_one();
    (0..records).map(|_| encode_one()).collect()
}

/// Seconds of one B on this thread.
fn measure_b(progress: &dyn Fn()) -> f64 {
    let mut input = [0; 24];
    let start = Instant::now();
    for number in 0..B_HASHES {
        input[..8].copy_from_slice(&number.to_le_bytes());
        black_box(blake3::hash(black_box(&input)));
    }
    let time_s = start.elapsed().as_secs_f64();
    progress();
    time_s
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len().is_multiple_of(2) { (times[middle - 1] + times[middle]) / 2.0 } else { times[middle] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn medians() {
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }

    #[test]
    fn rounds_share_all_records() {
        for (total, rounds) in [(1, 2), (7, 2), (10, 3)] {
            assert_eq!((0..rounds).map(|round| share(total, round, rounds)).sum::<usize>(), total);
        }
    }

    #[test]
    fn encoding_is_measured() {
        let options = Options { threads: 1, records: 1, level: CpuLevel::detect() };
        let steps = AtomicU64::new(0);
        let result = encode(&options, &|| _ = steps.fetch_add(1, Ordering::Relaxed));
        assert_eq!(steps.into_inner(), encode_steps(&options));
        assert!(result.min_s > 0.0 && result.median_s == result.min_s && result.b_s > 0.0, "{result:?}");
        let json = serde_json::to_value(&result).unwrap();
        let mut keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, ["b_s", "cpu_level", "median_s", "min_s", "name", "ratio", "threads"]);
    }
}
