//! `benchmark audit`: how fast farms are audited, for people or as JSON.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};
use cluster::sizes::parse_size;
use consensus::CpuLevel;
use farmer::benchmark::audit::{FarmReport, MAX_DEPTH, Options, measure};

use super::super::CommandResult;
use super::lists::Depths;
use super::told::tell;

/// Longest measurement of one way, and longest time from slot to slot.
const MAX_SECONDS: i64 = 86_400;
const MAX_SLOT_MS: i64 = 60_000;

#[derive(Debug, Args)]
pub struct AuditBenchmark {
    /// Directories of farms, audited at the same time; they are only read, also while they are farmed
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How long each way is measured
    #[arg(long, value_name = "N", default_value = "3", value_parser = value_parser!(u32).range(1..=MAX_SECONDS))]
    seconds: u32,
    /// Slots of each way, instead of a time
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..), conflicts_with = "seconds")]
    slots: Option<u32>,
    /// Reads at once that are compared
    #[arg(long, value_name = "LIST", default_value = "16,64,128")]
    depths: Depths<MAX_DEPTH>,
    /// Begin a slot each N ms and count those that are missed; default: one after the other, without a pause
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=MAX_SLOT_MS))]
    slot_ms: Option<u32>,
    /// As if each farm had so many sectors: those that it has are audited several times in a slot
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=100_000_000))]
    as_sectors: Option<u64>,
    /// Measure once more while a file of this size, which has no name and ends with the command, is written beside each farm
    #[arg(long, value_name = "SIZE", value_parser = size)]
    while_writing: Option<u64>,
    /// Leave out reading through the page cache
    #[arg(long)]
    no_page_cache: bool,
    /// Other seeds draw other challenges
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// Draw only so many challenges, again and again: for farms of which nothing else was written
    #[arg(long, value_name = "N", hide = true, value_parser = value_parser!(u64).range(1..=1_000_000))]
    challenges: Option<u64>,
    /// Print a line of JSON for each farm
    #[arg(long)]
    json: bool,
}

/// A size that a file can have.
fn size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).filter(|bytes| (1..=1 << 40).contains(bytes));
    bytes.ok_or_else(|| "not a size up to 1TiB: write a number and a unit, as 2GiB".to_owned())
}

impl AuditBenchmark {
    pub fn run(self) -> CommandResult {
        let options = Options {
            paths: self.paths,
            depths: self.depths.0,
            limit: Duration::from_secs(self.seconds.into()),
            slots: self.slots,
            interval: self.slot_ms.map(|ms| Duration::from_millis(ms.into())),
            as_sectors: self.as_sectors,
            seed: self.seed,
            challenges: self.challenges,
            cached: !self.no_page_cache,
            written_bytes: self.while_writing,
            level: CpuLevel::current(),
        };
        tell(measure(&options)?, self.json.then_some(FarmReport::to_json))
    }
}
