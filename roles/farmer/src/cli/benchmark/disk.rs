//! `benchmark disk`: what disks give to audits, for people, as JSON and as a drawing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};
use consensus::constants::MAX_PIECES_IN_SECTOR;
use engine::BLOCK_BYTES;
use farmer::benchmark::disk::{MAX_DEPTH, Options, check_svg, measure, write_svg};

use super::super::CommandResult;
use super::lists::Depths;

/// Most threads a path, longest measurement of a depth, largest file.
const MAX_THREADS: i64 = 64;
const MAX_SECONDS: i64 = 3600;
const MAX_FILE_GIB: i64 = 4096;
/// Longest read: more than any s-bucket has.
const MAX_READ_BYTES: usize = 1 << 20;

#[derive(Debug, Args)]
pub struct DiskBenchmark {
    /// Farms, whose plot.bin is read, files, or with --file-gib any directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Read as audits of sectors of so many pieces do [default: those of the farm, or 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=i64::from(MAX_PIECES_IN_SECTOR)))]
    pieces: Option<u16>,
    /// Bytes of each read, a multiple of 4096 [default: what an audit reads]
    #[arg(long, value_name = "BYTES", value_parser = read_bytes, conflicts_with = "pieces")]
    read_bytes: Option<usize>,
    /// Reads at once that are compared
    #[arg(long, value_name = "LIST", default_value = "1,2,4,8,16,32,64,128,256")]
    depths: Depths<MAX_DEPTH>,
    /// How long each depth is kept up
    #[arg(long, value_name = "N", default_value = "2", value_parser = value_parser!(u32).range(1..=MAX_SECONDS))]
    seconds: u32,
    /// Threads a path, which share the reads
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u16).range(1..=MAX_THREADS))]
    threads: u16,
    /// Write a file of so many GiB into each directory first and read that; it has no name and ends with the command
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=MAX_FILE_GIB as u64))]
    file_gib: Option<u64>,
    /// Draw the figures into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Whole blocks.
fn read_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|&bytes: &usize| bytes.is_multiple_of(BLOCK_BYTES));
    let bytes = bytes.filter(|bytes| (BLOCK_BYTES..=MAX_READ_BYTES).contains(bytes));
    bytes.ok_or_else(|| format!("write a multiple of {BLOCK_BYTES} up to {MAX_READ_BYTES}"))
}

impl DiskBenchmark {
    pub fn run(self) -> CommandResult {
        if let Some(path) = &self.svg {
            check_svg(path).map_err(|error| format!("--svg {}: {error}", path.display()))?;
        }
        let options = Options {
            paths: self.paths,
            depths: self.depths.0,
            threads: self.threads.into(),
            limit: Duration::from_secs(self.seconds.into()),
            read_bytes: self.read_bytes,
            pieces: self.pieces,
            own_bytes: self.file_gib.map(|gib| gib << 30),
        };
        let report = measure(&options, &|what| tracing::info!("{what}"))?;
        if self.json {
            println!("{}", report.to_json());
        } else if !report.is_empty() {
            print!("{report}");
        }
        if let Some(path) = &self.svg {
            write_svg(&report, path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        report.failed.iter().for_each(|line| eprintln!("{line}"));
        match report.failed.len() {
            0 => Ok(()),
            failed => Err(format!("{failed} paths have no figures").into()),
        }
    }
}
