//! `benchmark prove` of farms: what proofs need from them, for people or as JSON.

use std::path::PathBuf;
use std::time::SystemTime;

use consensus::CpuLevel;
use farmer::benchmark::proofs::{FarmReport, Options, measure};

use super::super::CommandResult;
use super::told::tell;

/// Records of each farm unless told otherwise.
const RECORDS: u16 = 5;

/// Measures so many records of each farm.
pub fn run(paths: Vec<PathBuf>, records: Option<u16>, json: bool) -> CommandResult {
    // Other records each time: those of the last time may be in the drive's own cache.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let records = records.unwrap_or(RECORDS);
    let options = Options { paths, records, seed: now.as_nanos() as u64, level: CpuLevel::current() };
    tell(measure(&options)?, json.then_some(FarmReport::to_json))
}
