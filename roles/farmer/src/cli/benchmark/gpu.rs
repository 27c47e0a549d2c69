//! `benchmark gpu`: figures of a GPU, for people or as JSON.

use std::str::FromStr;

use clap::{Args, value_parser};
use cluster::cards::CardName;
use consensus::CpuLevel;
use consensus::constants::MAX_PIECES_IN_SECTOR;
use farmer::benchmark::gpu::{Backend, Options, measure};

use super::super::CommandResult;

/// Most records in flight that GPU_CONCURRENCY can be.
const MAX_CONCURRENCY: i64 = 256;

#[derive(Debug, Args)]
pub struct GpuBenchmark {
    /// Which GPU, by PCI bus id or number; default: the first that can be used
    #[arg(long, value_name = "PCI|ORDINAL")]
    gpu: Option<CardName>,
    /// Records in flight for the sustained speed [default: the best of --sweep, or what a plot-server takes]
    #[arg(long, env = "GPU_CONCURRENCY", value_name = "N", value_parser = value_parser!(u16).range(1..=MAX_CONCURRENCY))]
    gpu_concurrency: Option<u16>,
    /// Compare these counts of records in flight first, as 1..=32 or 1,2,4,8; a sector's records each
    #[arg(long, value_name = "FROM..=TO|LIST")]
    sweep: Option<Counts>,
    /// Sectors that the sustained speed is measured over
    #[arg(long, value_name = "N", default_value = "20", value_parser = value_parser!(u16).range(1..))]
    sectors: u16,
    /// Pieces of each sector
    #[arg(long, value_name = "N", default_value = "1000", value_parser = value_parser!(u16).range(1..=i64::from(MAX_PIECES_IN_SECTOR)))]
    pieces: u16,
    /// What runs the kernels
    #[cfg(feature = "kernel-shim")]
    #[arg(long, value_enum, default_value = "gpu")]
    backend: Backend,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Counts of records in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts(Vec<usize>);

impl FromStr for Counts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| {
            text.trim().parse().ok().filter(|count| (1..=MAX_CONCURRENCY as usize).contains(count))
        };
        let counts: Option<Vec<usize>> = match text.split_once("..=") {
            Some((from, to)) => count(from).zip(count(to)).map(|(from, to)| (from..=to).collect()),
            None => text.split(',').map(count).collect(),
        };
        let counts = counts.filter(|counts| !counts.is_empty());
        counts.map(Self).ok_or_else(|| format!("write 1..=32 or 1,2,4; counts are 1 to {MAX_CONCURRENCY}"))
    }
}

impl GpuBenchmark {
    pub fn run(self) -> CommandResult {
        let options = Options {
            #[cfg(feature = "kernel-shim")]
            backend: self.backend,
            #[cfg(not(feature = "kernel-shim"))]
            backend: Backend::Gpu,
            card: self.gpu,
            concurrency: self.gpu_concurrency.map(usize::from),
            sweep: self.sweep.map(|counts| counts.0).unwrap_or_default(),
            sectors: self.sectors.into(),
            pieces_in_sector: self.pieces,
            level: CpuLevel::current(),
        };
        let report = measure(&options, &|what| tracing::info!("measuring {what}"))?;
        if self.json {
            println!("{}", report.to_json());
        } else {
            println!("{report}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_ranges_or_lists() {
        assert_eq!("1..=4".parse(), Ok(Counts(vec![1, 2, 3, 4])));
        assert_eq!("1,2, 32".parse(), Ok(Counts(vec![1, 2, 32])));
        for text in ["", "0..=3", "4..=3", "1..3", "1,,2", "300", "-1"] {
            assert!(text.parse::<Counts>().is_err(), "{text:?}");
        }
    }
}
