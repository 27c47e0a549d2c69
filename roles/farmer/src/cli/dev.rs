//! `autonomys-farmer dev`.

use std::path::PathBuf;

use clap::Args;
use cluster::cards::{OpenCard, open_cards};
use cluster::shutdown::Shutdown;
use farmer::dev::{self, Config, DEFAULT_SECTORS};

use super::CommandResult;
use super::progress::Progress;

#[derive(Debug, Args)]
pub struct DevArgs {
    /// Folder for chain, caches and farm, about 1 GiB; kept after the run, and what is there goes on
    /// [default: a temporary one that is removed at the end]
    #[arg(long, value_name = "DIR")]
    base_path: Option<PathBuf>,
    /// Files and folders to make history of (a folder: what git tracks in it). Without it: the checkout around the working
    /// directory, or else a built-in text
    #[arg(long, num_args = 1.., value_name = "PATH")]
    history: Vec<PathBuf>,
    /// Pieces in a sector [default: 32, or what the chain of the base path has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pieces_in_sector: Option<u16>,
    /// Sectors of the farm
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SECTORS, value_parser = clap::value_parser!(u16).range(1..))]
    sectors: u16,
    /// End once so many solutions are accepted [default: go on until Ctrl-C]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    until_solutions: Option<u64>,
    /// JSON file with the numbers of the run, renewed several times a second
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl DevArgs {
    /// Runs the cluster until there are enough solutions or the process is told to end.
    pub fn run(self) -> CommandResult {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(self.run_cluster());
        // What other threads still archive or verify is not needed, and safe to leave at any point.
        runtime.shutdown_background();
        outcome
    }

    async fn run_cluster(self) -> CommandResult {
        let shutdown = Shutdown::on_signals()?;
        // Removed when it is dropped, after everything in it has ended.
        let temporary = match &self.base_path {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("autonomys-farmer-dev-").tempdir()?),
        };
        let base_path = self.base_path.or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned()));
        let config = Config {
            is_temporary: temporary.is_some(),
            history: self.history,
            pieces_in_sector: self.pieces_in_sector,
            sectors: self.sectors,
            until_solutions: self.until_solutions,
            report: self.report,
            cards: cards(),
            ..Config::new(base_path.expect("given or temporary"))
        };
        let mut progress = Progress::new(&config);
        let summary = dev::run(&config, &shutdown, |status| progress.show(status)).await;
        progress.finish();
        print!("{}", summary?);
        Ok(())
    }
}

/// The GPUs that there are, and a line on what encodes and proves: the log of `dev` has no room for it.
fn cards() -> Vec<OpenCard> {
    match open_cards(&[]) {
        Ok(cards) => {
            let names: Vec<_> = cards.iter().map(|card| card.device.name()).collect();
            eprintln!("encodes and proves on {}", names.join(", "));
            cards
        }
        Err(reason) => {
            eprintln!("encodes and proves on the CPU; {reason}");
            Vec::new()
        }
    }
}
