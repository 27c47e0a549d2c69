//! `cluster … sharded-cache path=…` and `cluster … full-piece-sharded-cache path=…`.

use clap::Args;
use cluster::cache::{self, CacheSpec, Config};
use cluster::host::HostConfig;
use cluster::placement::Work;
use cluster::role::RoleError;
use control::messages::Role;

use super::{MemberArgs, SERVER_EXECUTORS, Start};

#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Do not wait for the disk when an item is written, check all items at the start instead. Nothing is deleted
    #[arg(long)]
    tmp: bool,
    /// Where pieces are kept: path=DIRECTORY[,size=SIZE]; without a size until 90 % of the file system are in use
    #[arg(value_name = "path=…,size=…")]
    cache: CacheSpec,
}

impl CacheArgs {
    pub async fn run(self, role: Role, start: Start<'_>) -> Result<(), RoleError> {
        let paths = vec![self.cache.path.clone()];
        start.placement.settle(Work { paths, executors: SERVER_EXECUTORS, ..Work::default() });
        let host = self.member.apply(HostConfig::new(role), &start).await?;
        cache::run(Config { host, spec: self.cache, tmp: self.tmp }, start.bus, start.shutdown).await
    }
}
