//! `cluster … controller`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use cluster::controller::{self, Config, Counts};
use cluster::host::HostConfig;
use cluster::placement::Work;
use cluster::role::RoleError;
use control::messages::Role;
use url::Url;

use super::{MemberArgs, SERVER_EXECUTORS, Start};

#[derive(Debug, Args)]
pub struct ControllerArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// The node, started with `--rpc-methods unsafe`
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:9944", value_parser = node_url)]
    node_rpc_url: String,
    /// Keep no state beyond this run, which is all a controller does
    #[arg(long)]
    tmp: bool,
    /// Minutes of absence after which a cache loses its share of the pieces
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    rebalance_after: u32,
    /// Threads that verify pieces [default: one for each CPU that the plan has for them]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// KZG parameters of the Ethereum ceremony, if not in the usual place
    #[arg(long, value_name = "FILE")]
    kzg_parameters: Option<PathBuf>,
}

/// Refuses at once what no node can ever have, rather than to wait for it.
fn node_url(text: &str) -> Result<String, String> {
    let is_node = |url: &Url| matches!(url.scheme(), "ws" | "wss") && url.has_host();
    match Url::parse(text) {
        Ok(url) if is_node(&url) => Ok(text.to_owned()),
        Ok(_) => Err("a node is named as ws://HOST:PORT".into()),
        Err(error) => Err(format!("{error}: a node is named as ws://HOST:PORT")),
    }
}

impl ControllerArgs {
    pub async fn run(self, start: Start<'_>) -> Result<(), RoleError> {
        if !self.tmp {
            tracing::debug!("a controller keeps no state, with or without --tmp");
        }
        start.placement.settle(Work { executors: SERVER_EXECUTORS, ..Work::default() });
        let host = self.member.apply(HostConfig::new(Role::Controller), &start).await?;
        let config = Config {
            host,
            node_rpc_url: self.node_rpc_url,
            kzg_parameters: self.kzg_parameters,
            rebalance_after: Duration::from_secs(60 * u64::from(self.rebalance_after)),
            workers: start.placement.compute(self.threads.map(NonZeroUsize::get)),
            counts: Arc::new(Counts::default()),
        };
        controller::run(config, start.bus, start.shutdown).await
    }
}
