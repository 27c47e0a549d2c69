//! The command line. Each command turns its flags into the configuration of a part of the library and runs it.

mod benchmark;
mod cluster;
mod dev_node;

use std::error::Error;

use clap::{Parser, Subcommand};
use roles::{conformance, scrub};

/// What a command ends with. The error's text is all that the operator sees, so it names its cause.
pub type CommandResult = Result<(), Box<dyn Error>>;

/// Farming cluster for the Autonomys network
#[derive(Debug, Parser)]
#[command(name = "autonomys-farmer", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what this machine takes for the work of farming
    #[command(subcommand)]
    Benchmark(benchmark::Benchmark),
    /// Run one role of a farming cluster
    Cluster(cluster::ClusterArgs),
    /// Run a node of a development chain that farmers can connect to
    DevNode(dev_node::DevNodeArgs),
    /// Check every sector of farms and mark bad ones for replotting
    Scrub(scrub::Arguments),
    /// Tools
    #[command(subcommand)]
    Util(Util),
}

#[derive(Debug, Subcommand)]
enum Util {
    /// Run golden vectors of the network against this build
    Conformance(conformance::Arguments),
}

impl Cli {
    /// Runs the chosen command to its end.
    pub fn run(self) -> CommandResult {
        match self.command {
            Command::Benchmark(benchmark) => benchmark.run(),
            Command::Cluster(args) => args.run(),
            Command::DevNode(args) => args.run(),
            Command::Scrub(arguments) => Ok(scrub::run(arguments)?),
            Command::Util(Util::Conformance(arguments)) => Ok(conformance::run(arguments)?),
        }
    }
}
