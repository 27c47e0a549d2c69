//! `cluster … proof-server`.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::Args;
use roles::bus::SharedBus;
use roles::proof_server::{self, Config};
use roles::role::RoleError;
use roles::shutdown::Shutdown;

use super::{MemberArgs, NatsArgs};

#[derive(Debug, Args)]
pub struct ProofServerArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Threads that prove, about 128 MiB each [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroU16>,
    /// KZG parameters of the Ethereum ceremony, if not in the usual place
    #[arg(long, value_name = "FILE")]
    kzg_parameters: Option<PathBuf>,
}

impl ProofServerArgs {
    pub async fn run(self, nats: &NatsArgs, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
        let usual = Config::new();
        let host = self.member.apply(usual.host, nats).await?;
        let threads = self.threads.map_or(usual.threads, |threads| threads.get().into());
        let config = Config { host, threads, kzg_parameters: self.kzg_parameters };
        proof_server::run(config, bus, shutdown).await
    }
}
