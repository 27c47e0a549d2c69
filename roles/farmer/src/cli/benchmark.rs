//! `benchmark`: figures of this machine, for people or as JSON.

mod audit;
mod disk;
mod gpu;
mod lists;
mod prove;
mod told;

use clap::{Args, Subcommand, value_parser};
use cluster::sizes::parse_size;
use consensus::CpuLevel;
use consensus::kzg::TABLE_SIZE_MAX;
use farmer::benchmark::{self, Measurement, Operation, Options};
use indicatif::ProgressBar;

use std::path::PathBuf;

use super::CommandResult;

/// Most threads of a benchmark: more than any machine has cores for.
const MAX_THREADS: i64 = 1024;

#[derive(Debug, Subcommand)]
pub enum Benchmark {
    /// Grow the proof-of-space tables of a seed
    Pos(BenchmarkArgs),
    /// Encode records as plotting does: table, extension, XOR, placing
    Encode(BenchmarkArgs),
    /// Extend a record to twice its chunks
    Erasure(BenchmarkArgs),
    /// Recover a record's polynomial from a random half of its extended chunks
    Recover(BenchmarkArgs),
    /// Commit to a record, and make the witness of a chunk
    Kzg(BenchmarkArgs),
    /// Audit farms at several depths, past the page cache and through it, and name the best way
    Audit(audit::AuditBenchmark),
    /// Read records of farms by whole sectors and by chunks, and prove; without a PATH: prove a chunk of a record in memory
    Prove(ProveArgs),
    /// Read disks at random as audits do, at depths from 1 to 256, and tell how many sectors each can carry
    Disk(disk::DiskBenchmark),
    /// Archive a whole segment, spread over the threads
    Archive(BenchmarkArgs),
    /// Verify the 256 pieces of a segment at once, spread over the threads
    Verify(BenchmarkArgs),
    /// Audit: hash chunks of 32 bytes and take their distances; figures are those of one chunk
    AuditHash(BenchmarkArgs),
    /// Plot with a GPU: sustained speed, single kernels, copies, and the part of what the card could do
    Gpu(gpu::GpuBenchmark),
}

#[derive(Debug, Args)]
pub struct BenchmarkArgs {
    /// Threads that work at the same time, each on inputs of its own; the figure stays that of one operation on one thread
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u16).range(1..=MAX_THREADS))]
    threads: u16,
    /// Runs of each thread, or records of each farm [default: as many as take some seconds]
    #[arg(long, visible_alias = "records", value_name = "N", value_parser = value_parser!(u16).range(1..))]
    runs: Option<u16>,
    /// Memory for multiples of the KZG setup's points; more than 64MiB brings nothing, 0 is none
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = kzg_memory)]
    kzg_memory: usize,
    /// Print one line of JSON for each operation
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ProveArgs {
    /// Directories of farms, of each of which --records are read and proved on one thread; they are only read, also while they are farmed
    #[arg(value_name = "PATH")]
    farms: Vec<PathBuf>,
    #[command(flatten)]
    operation: BenchmarkArgs,
}

/// A size, or 0.
fn kzg_memory(text: &str) -> Result<usize, String> {
    let bytes = if text == "0" { Some(0) } else { parse_size(text) };
    let bytes = bytes.ok_or_else(|| "not a size: write a number and a unit, as 64MiB".to_owned())?;
    Ok(usize::try_from(bytes).unwrap_or(TABLE_SIZE_MAX).min(TABLE_SIZE_MAX))
}

impl Benchmark {
    pub fn run(self) -> CommandResult {
        let (args, operations) = match self {
            Self::Audit(args) => return args.run(),
            Self::Disk(args) => return args.run(),
            Self::Gpu(args) => return args.run(),
            Self::Prove(ProveArgs { farms, operation }) if !farms.is_empty() => {
                return prove::run(farms, operation.runs, operation.json);
            }
            Self::Pos(args) => (args, &[Operation::Pos][..]),
            Self::Encode(args) => (args, &[Operation::Encode][..]),
            Self::Erasure(args) => (args, &[Operation::Erasure][..]),
            Self::Recover(args) => (args, &[Operation::Recover][..]),
            Self::Kzg(args) => (args, &[Operation::KzgCommit, Operation::KzgWitness][..]),
            Self::Prove(args) => (args.operation, &[Operation::Prove][..]),
            Self::Archive(args) => (args, &[Operation::Archive][..]),
            Self::Verify(args) => (args, &[Operation::Verify][..]),
            Self::AuditHash(args) => (args, &[Operation::AuditHash][..]),
        };
        operations.iter().try_for_each(|operation| args.measure(*operation))
    }
}

impl BenchmarkArgs {
    fn measure(&self, operation: Operation) -> CommandResult {
        let options = Options {
            threads: self.threads,
            runs: self.runs.unwrap_or_else(|| operation.usual_runs()),
            level: CpuLevel::current(),
            kzg_memory_bytes: self.kzg_memory,
        };
        // Draws on a terminal only.
        let bar = ProgressBar::new(benchmark::steps(operation, &options));
        let result = benchmark::measure(operation, &options, &|| bar.inc(1));
        bar.finish_and_clear();
        if self.json {
            println!("{}", serde_json::to_string(&result)?);
        } else {
            print(&result);
        }
        Ok(())
    }
}

fn print(result: &Measurement) {
    let Measurement { name, threads, cpu_level, median_s, min_s, b_s, ratio } = result;
    let (median, min) = (time(*median_s), time(*min_s));
    println!("{name}: {median} median, {min} minimum ({threads} threads, {cpu_level})");
    println!("B: {b_s:.3} s for {} one-at-a-time BLAKE3 hashes of 24 bytes", benchmark::B_HASHES);
    println!("ratio: {ratio:.3e} B");
}

/// Seconds in the unit that leaves some digits before the point.
fn time(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        1e-3.. => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.2} ns", seconds * 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_digits() {
        assert_eq!([12.345, 0.2504, 9.1e-9].map(time), ["12.35 s", "250.40 ms", "9.10 ns"]);
    }

    #[test]
    fn kzg_memory_is_a_size_up_to_what_is_of_use() {
        assert_eq!(kzg_memory("0"), Ok(0));
        assert_eq!(kzg_memory("32MiB"), Ok(32 << 20));
        assert_eq!(kzg_memory("1TiB"), Ok(TABLE_SIZE_MAX));
        assert!(kzg_memory("much").is_err());
    }
}
