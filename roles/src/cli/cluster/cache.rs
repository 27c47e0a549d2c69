//! `cluster … sharded-cache path=…` and `cluster … full-piece-sharded-cache path=…`.

use clap::Args;
use roles::bus::SharedBus;
use roles::bus::messages::Role;
use roles::cache::{self, CacheSpec, Config};
use roles::host::HostConfig;
use roles::role::RoleError;
use roles::shutdown::Shutdown;

use super::{MemberArgs, NatsArgs};

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
    pub async fn run(
        self,
        role: Role,
        nats: &NatsArgs,
        bus: SharedBus,
        shutdown: Shutdown,
    ) -> Result<(), RoleError> {
        let host = self.member.apply(HostConfig::new(role), nats).await?;
        cache::run(Config { host, spec: self.cache, tmp: self.tmp }, bus, shutdown).await
    }
}
