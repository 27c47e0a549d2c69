//! `cluster … sharded-cache path=…` and `cluster … full-piece-sharded-cache path=…`.

use clap::Args;
use cluster::cache::{self, CacheSpec, Config, MemSize};
use cluster::host::HostConfig;
use cluster::placement::Work;
use cluster::role::RoleError;
use cluster::sizes::parse_size;
use control::messages::Role;

use super::{MemberArgs, SERVER_EXECUTORS, Start};

#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Do not wait for the disk when an item is written, check all items at the start instead. Nothing is deleted
    #[arg(long)]
    tmp: bool,
    /// Bytes a second that it pulls at most when it fills up, as 200MiB [default: half of what the link gives]
    #[arg(long, value_name = "SIZE", value_parser = bandwidth)]
    refill_bandwidth: Option<u64>,
    /// Memory for the newest pieces and those that are asked for often, as 8GiB, which are then given without a look at the disk. A piece takes
    /// 2 MiB of it: 2.5GiB hold the five newest segments of a cache that has every piece [default: 0, none]
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "0",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    mem_cache: MemSize,
    /// Where pieces are kept: path=DIRECTORY[,size=SIZE]; without a size until 90 % of the file system are in use
    #[arg(value_name = "path=…,size=…")]
    cache: CacheSpec,
}

fn bandwidth(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "bytes a second are expected, such as 200MiB".to_owned())
}

/// A sharded cache: it owns pieces, which it can hand over.
#[derive(Debug, Args)]
pub struct ShardedCacheArgs {
    #[command(flatten)]
    cache: CacheArgs,
    /// Hand over all pieces to the other caches, then end: to take this cache away
    #[arg(long)]
    drain: bool,
}

impl ShardedCacheArgs {
    pub async fn run(self, start: Start<'_>) -> Result<(), RoleError> {
        let (config, start) = self.cache.config(Role::ShardedCache, start).await?;
        cache::run(Config { drain: self.drain, ..config }, start.bus, start.shutdown).await
    }
}

impl CacheArgs {
    /// Keeps every piece.
    pub async fn run(self, start: Start<'_>) -> Result<(), RoleError> {
        let (config, start) = self.config(Role::FullPieceCache, start).await?;
        cache::run(config, start.bus, start.shutdown).await
    }

    async fn config(self, role: Role, start: Start<'_>) -> Result<(Config, Start<'_>), RoleError> {
        let paths = vec![self.cache.path.clone()];
        start.placement.settle(Work { paths, executors: SERVER_EXECUTORS, ..Work::default() });
        let host = self.member.apply(HostConfig::new(role), &start).await?;
        let (refill_bytes_per_s, mem_cache) = (self.refill_bandwidth, self.mem_cache);
        Ok((Config { tmp: self.tmp, refill_bytes_per_s, mem_cache, ..Config::new(host, self.cache) }, start))
    }
}
