//! `cluster … plot-server`.

use std::env;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::Args;
use engine::threads::ThreadWorkers;
use roles::bus::SharedBus;
use roles::plot_server::{self, Config};
use roles::role::RoleError;
use roles::shutdown::Shutdown;
use roles::sizes::parse_size;

use super::{MemberArgs, NatsArgs};

/// What supervisor files set for encoders on GPUs.
const GPU_SETTINGS: [&str; 2] = ["CUDA_VISIBLE_DEVICES", "GPU_CONCURRENCY"];

#[derive(Debug, Args)]
pub struct PlotServerArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Ask near caches for pieces first: of the same host, then of the same group
    #[arg(long)]
    priority_cache: bool,
    /// Threads that encode, 128 MiB each, at low priority: audits and proofs go first [default: one a core]
    #[arg(long, alias = "record-encoding-concurrency", value_name = "N")]
    threads: Option<NonZeroU16>,
    /// Sectors made at once, each in memory: with two, the pieces of one come while the other is encoded
    #[arg(long, value_name = "N", default_value = "2")]
    sector_concurrency: NonZeroU16,
    /// Memory the process may take at most, as 4GiB; where it is short fewer sectors are made at once, then by fewer threads
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    max_memory: Option<u64>,
    /// GiB that finished sectors may take under the base path until they are fetched
    #[arg(long, value_name = "GIB", default_value = "16")]
    staging_gib: NonZeroU16,
    /// Folder for finished sectors, on a fast disk; no other plot-server may use it
    base_path: PathBuf,
}

fn parse_memory(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "memory is a size with a unit, as 4GiB".into())
}

impl PlotServerArgs {
    pub async fn run(self, nats: &NatsArgs, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
        for name in GPU_SETTINGS.iter().filter(|name| env::var_os(name).is_some()) {
            tracing::warn!("{name} has no effect: this release encodes on the CPU");
        }
        let usual = Config::new(self.base_path);
        let host = self.member.apply(usual.host, nats).await?;
        let threads = match self.threads {
            Some(threads) => ThreadWorkers::unbound(threads.get().into()).in_background(),
            None => usual.threads,
        };
        let config = Config {
            host,
            threads,
            staging_limit_bytes: u64::from(self.staging_gib.get()) << 30,
            near_caches_first: self.priority_cache,
            max_memory_bytes: self.max_memory,
            concurrency: self.sector_concurrency.get().into(),
            ..usual
        };
        plot_server::run(config, bus, shutdown).await
    }
}
