//! `cluster … proof-server`.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::Args;
use cluster::cards::{self, OpenCard, open_cards};
use cluster::placement::Work;
use cluster::proof_server::{self, Config};
use cluster::role::RoleError;

use super::{MemberArgs, SERVER_EXECUTORS, Start};

#[derive(Debug, Args)]
pub struct ProofServerArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Prove on the CPU even where there are GPUs; without any it is the CPU anyway
    #[arg(long)]
    cpu: bool,
    /// Threads that prove, about 128 MiB each; with GPUs they make the witnesses, and whole proofs only where a GPU cannot [default: one for each CPU that
    /// the plan has for them]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroU16>,
    /// KZG parameters of the Ethereum ceremony, if not in the usual place
    #[arg(long, value_name = "FILE")]
    kzg_parameters: Option<PathBuf>,
}

impl ProofServerArgs {
    pub async fn run(self, start: Start<'_>) -> Result<(), RoleError> {
        let mut cards = if self.cpu { Vec::new() } else { cards().await? };
        let gpus = cards::bus_ids(&cards);
        start.placement.settle(Work { gpus: gpus.clone(), executors: SERVER_EXECUTORS, ..Work::default() });
        cards::set_feeders(&mut cards, start.placement.feeders(&gpus));
        let host = self.member.apply(Config::new().host, &start).await?;
        let threads = start.placement.compute(self.threads.map(|threads| threads.get().into()));
        let config = Config { host, threads, cards, kzg_parameters: self.kzg_parameters };
        proof_server::run(config, start.bus, start.shutdown).await
    }
}

/// The GPUs that there are; none is no error here, but said in one line.
async fn cards() -> Result<Vec<OpenCard>, RoleError> {
    let opened = tokio::task::spawn_blocking(|| open_cards(&[])).await?;
    Ok(opened.unwrap_or_else(|reason| {
        tracing::info!("proves on the CPU; {reason}");
        Vec::new()
    }))
}
