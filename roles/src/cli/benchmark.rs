//! `benchmark`: figures of this machine, for people or as JSON.

use clap::{Args, Subcommand, value_parser};
use consensus::CpuLevel;
use indicatif::ProgressBar;
use roles::benchmark::{self, Measurement, Options};

use super::CommandResult;

/// Most threads of a benchmark: more than any machine has cores for.
const MAX_THREADS: i64 = 1024;

#[derive(Debug, Subcommand)]
pub enum Benchmark {
    /// Encode records as plotting does: table, extension, XOR, placing
    Encode(EncodeArgs),
}

#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// Threads that encode at the same time, 115 MB each; the figure stays that of one record on one core
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u16).range(1..=MAX_THREADS))]
    threads: u16,
    /// Records that each thread encodes
    #[arg(long, value_name = "N", default_value = "10", value_parser = value_parser!(u16).range(1..))]
    records: u16,
    /// Instructions to use, instead of the best that the machine has: portable, avx2 or avx512
    #[arg(long, value_name = "LEVEL", default_value_t = CpuLevel::detect())]
    cpu_level: CpuLevel,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Benchmark {
    pub fn run(self) -> CommandResult {
        let Self::Encode(EncodeArgs { threads, records, cpu_level: level, json }) = self;
        let options = Options { threads, records, level };
        // Draws on a terminal only.
        let bar = ProgressBar::new(benchmark::encode_steps(&options));
        let result = benchmark::encode(&options, &|| bar.inc(1));
        bar.finish_and_clear();
        if json {
            println!("{}", serde_json::to_string(&result)?);
        } else {
            print(&result);
        }
        Ok(())
    }
}

fn print(result: &Measurement) {
    let Measurement { name, threads, cpu_level, median_s, min_s, b_s, ratio } = result;
    println!("{name}: {median_s:.3} s median, {min_s:.3} s minimum ({threads} threads, {cpu_level})");
    println!("B: {b_s:.3} s for {} one-at-a-time BLAKE3 hashes of 24 bytes", benchmark::B_HASHES);
    println!("ratio: {ratio:.2} B");
}
