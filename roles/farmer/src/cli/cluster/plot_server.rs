//! `cluster … plot-server`.

use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cluster::cards::{self, CardName, open_cards};
use cluster::placement::Work;
use cluster::plot_server::{self, Concurrency, Config, Encoding, GpuOptions};
use cluster::role::RoleError;
use cluster::sizes::parse_size;
use topology::checks::memory_limit_bytes;

use super::{MemberArgs, SERVER_EXECUTORS, Start};

#[derive(Debug, Args)]
pub struct PlotServerArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Ask near caches for pieces first: those of the same host, then those of the same group (--cache-group)
    #[arg(long)]
    priority_cache: bool,
    /// What is fetched of each record. split-parity: its piece and its parity side by side, each from another cache, instead of extending the
    /// record here; twice the traffic, and 2 % less work
    #[arg(long, value_name = "KIND", default_value = "piece")]
    pieces: PiecesKind,
    /// Allow the CPU to encode where there is no GPU, or once the last one is lost. With an empty CUDA_VISIBLE_DEVICES it is the CPU alone
    #[arg(long)]
    cpu: bool,
    #[command(flatten)]
    gpus: GpuArgs,
    /// Threads that encode on the CPU, 128 MiB each, at low priority: audits and proofs go first. With GPUs, up to two of them a GPU check its
    /// records; all of them encode only if the CPU has to (--cpu) [default: one for each CPU that the plan
    /// has for them]
    #[arg(long, alias = "record-encoding-concurrency", value_name = "N")]
    threads: Option<NonZeroU16>,
    /// Sectors made at once, on each GPU if there are some, where memory allows. Two keep a CPU busy: the pieces of one come while the other is
    /// encoded. A GPU takes four: one is written, one is encoded, the pieces of two come [default: 2 on the CPU, 4 on each GPU]
    #[arg(long, value_name = "N")]
    sector_concurrency: Option<NonZeroU16>,
    /// Memory the process may take at most, as 4GiB [default: what its cgroup may take]; where it is short fewer sectors are made at once, then by fewer threads
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    max_memory: Option<u64>,
    /// GiB that finished sectors may take under the base path until they are fetched
    #[arg(long, value_name = "GIB", default_value = "16")]
    staging_gib: NonZeroU16,
    /// Folder for finished sectors, on a fast disk; no other plot-server may use it
    base_path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PiecesKind {
    Piece,
    SplitParity,
}

/// Which GPUs, and how they are used.
#[derive(Debug, Args)]
struct GpuArgs {
    /// GPU to use, by its PCI bus id (0000:3b:00.0) or its number, see `util gpus`; repeatable [default: all that CUDA_VISIBLE_DEVICES shows]
    #[arg(long = "gpu", value_name = "PCI|NUMBER")]
    names: Vec<CardName>,
    /// Records in flight on each GPU, 94 MiB of its memory each; auto: measured at the start, which takes seconds and up to 700 MiB of the machine's
    /// memory [default: 16, fewer where its memory is short]
    #[arg(long = "gpu-concurrency", env = "GPU_CONCURRENCY", value_name = "N|auto")]
    concurrency: Option<Concurrency>,
    /// Compare the first record of each GPU, and then one in so many, with what the CPU makes of it; a GPU that is wrong is used no more
    #[arg(long, value_name = "N", default_value_t = NonZeroU64::new(gpu::card::DEFAULT_CHECK_EVERY).expect("it is 2000"))]
    check_every: NonZeroU64,
}

fn parse_memory(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "memory is a size with a unit, as 4GiB".into())
}

impl GpuArgs {
    /// Opens the GPUs, which takes seconds the first time.
    async fn encoding(self, or_cpu: bool) -> Result<Encoding, RoleError> {
        let Self { names, concurrency, check_every } = self;
        let options = GpuOptions {
            concurrency: concurrency.unwrap_or(Concurrency::Usual),
            check_every: check_every.get(),
            or_cpu,
        };
        let opened = tokio::task::spawn_blocking(move || open_cards(&names)).await?;
        Encoding::on(opened, options).map_err(RoleError::own)
    }
}

impl PlotServerArgs {
    pub async fn run(self, start: Start<'_>) -> Result<(), RoleError> {
        let mut encoding = self.gpus.encoding(self.cpu).await?;
        let cards = encoding.cards_mut();
        let gpus = cards::bus_ids(cards);
        start.placement.settle(Work { gpus: gpus.clone(), executors: SERVER_EXECUTORS, ..Work::default() });
        cards::set_feeders(cards, start.placement.feeders(&gpus));
        let usual = Config::new(self.base_path);
        let host = self.member.apply(usual.host, &start).await?;
        let threads = self.threads.map(|threads| threads.get().into());
        let threads = start.placement.compute(threads).in_background();
        let config = Config {
            host,
            threads,
            encoding,
            staging_limit_bytes: u64::from(self.staging_gib.get()) << 30,
            near_caches_first: self.priority_cache,
            with_parity: self.pieces == PiecesKind::SplitParity,
            max_memory_bytes: self.max_memory.into_iter().chain(memory_limit_bytes()).min(),
            concurrency: self.sector_concurrency.map(|count| count.get().into()),
            ..usual
        };
        plot_server::run(config, start.bus, start.shutdown).await
    }
}
