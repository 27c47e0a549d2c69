//! The command line. Each command turns its flags into the configuration of a part of the library and runs it.

mod benchmark;
mod cache_benchmark;
mod cluster;
mod dev;
mod dev_node;
mod gpus;
mod kernel_check;
mod progress;
mod reinitialize;
mod result;
mod topology;

use clap::{Parser, Subcommand};
use consensus::CpuLevel;
use farmer::{conformance, info, scrub, wipe};

pub use progress::LogWriter;
pub use result::CommandResult;

/// Farming cluster for the Autonomys network
#[derive(Debug, Parser)]
#[command(name = "autonomys-farmer", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Instructions for the CPU's hot loops, instead of the best that the machine has: portable, avx2 or avx512
    #[arg(long, global = true, value_name = "LEVEL")]
    cpu_level: Option<CpuLevel>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what this machine takes for the work of farming
    #[command(subcommand)]
    Benchmark(benchmark::Benchmark),
    /// Run one role of a farming cluster
    Cluster(cluster::ClusterArgs),
    /// Farm in this process alone: a whole cluster against a development node of its own
    Dev(dev::DevArgs),
    /// Run a node of a development chain that farmers can connect to
    DevNode(dev_node::DevNodeArgs),
    /// Tell what farms hold, also while they are in use, and which size= to give to the network's own farmer
    Info(info::Arguments),
    /// Check every sector of farms and mark bad ones for replotting
    Scrub(scrub::Arguments),
    /// Show what this machine looks like, and which threads belong on which of its cores; roles bind theirs so when they start
    Topology(topology::TopologyArgs),
    /// Tools
    #[command(subcommand)]
    Util(Util),
    /// Remove farms for good, their keys too, or with --cache only what the network's farmer keeps beside the sectors
    Wipe(wipe::Arguments),
}

#[derive(Debug, Subcommand)]
enum Util {
    /// Run golden vectors of the network against this build
    Conformance(conformance::Arguments),
    /// List what --cpu-level can be on this machine, from the plainest to the best
    CpuLevels,
    /// List the GPUs that this machine can plot and prove with, or why there is none
    Gpus(gpus::GpuArgs),
    /// Download the pieces of sectors from the caches as a plot-server does, and tell how fast they came
    ShardedCacheBenchmark(cache_benchmark::CacheBenchmarkArgs),
    /// Begin a new epoch of the caches that are there now, and wait until each holds what it should
    ReinitializationCache(reinitialize::ReinitializeArgs),
    /// Run kernels at K = 17 on records whose outcome is known
    #[command(hide = true)]
    KernelCheck(kernel_check::KernelCheckArgs),
}

impl Cli {
    /// What is logged where `RUST_LOG` says nothing. `dev` shows its progress instead of what each role does.
    pub fn default_log_filter(&self) -> &'static str {
        if matches!(self.command, Command::Dev(_)) { "warn" } else { "info" }
    }

    /// Runs the chosen command to its end.
    pub fn run(self) -> CommandResult {
        if let Some(level) = self.cpu_level {
            CpuLevel::force(level)?;
        }
        match self.command {
            Command::Benchmark(benchmark) => benchmark.run(),
            Command::Cluster(args) => args.run(),
            Command::Dev(args) => args.run(),
            Command::DevNode(args) => args.run(),
            Command::Info(arguments) => Ok(info::run(&arguments)?),
            Command::Scrub(arguments) => Ok(scrub::run(arguments)?),
            Command::Topology(args) => args.run(),
            Command::Util(Util::Conformance(arguments)) => Ok(conformance::run(arguments)?),
            Command::Util(Util::CpuLevels) => {
                CpuLevel::available().iter().for_each(|level| println!("{level}"));
                Ok(())
            }
            Command::Util(Util::Gpus(arguments)) => arguments.run(),
            Command::Util(Util::KernelCheck(arguments)) => arguments.run(),
            Command::Util(Util::ReinitializationCache(arguments)) => arguments.run(),
            Command::Util(Util::ShardedCacheBenchmark(arguments)) => arguments.run(),
            Command::Wipe(arguments) => Ok(wipe::run(&arguments)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Command lines of a supervisor file.
    fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
        file.lines().filter_map(|line| line.strip_prefix("command=")).map(|line| line.split(' ').collect())
    }

    #[test]
    fn deployed_lines_are_understood() {
        let files = [
            include_str!("../../../deploy/supervisor/node-host.conf"),
            include_str!("../../../deploy/supervisor/plotting-host.conf"),
            include_str!("../../../deploy/supervisor/storage-host.conf"),
        ];
        let lines: Vec<_> = files.iter().flat_map(|file| lines(file)).collect();
        for line in &lines {
            if let Err(error) = Cli::try_parse_from(line) {
                panic!("{}: {error}", line.join(" "));
            }
        }
        let roles: std::collections::BTreeSet<_> = lines.iter().map(|line| line[6]).collect();
        assert_eq!(roles.len(), 6, "each role once: {roles:?}");
    }
}
