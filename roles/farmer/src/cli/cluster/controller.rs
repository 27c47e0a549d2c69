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
use control::messages::{MAX_COPIES, Role};
use url::Url;

use super::{MemberArgs, SERVER_EXECUTORS, Start};

#[derive(Debug, Args)]
pub struct ControllerArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// The node, started with `--rpc-methods unsafe`
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:9944", value_parser = node_url)]
    node_rpc_url: String,
    /// Keep segments that are not in the caches yet in the system's temporary folder, where the next start on this host finds them again
    #[arg(long, conflicts_with = "spool")]
    tmp: bool,
    /// Folder for segments that are not in the caches yet, up to 4 GiB [default: autonomys-farmer/spool in the user's data folder]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Minutes of absence after which a cache loses its share of the pieces
    #[arg(long, value_name = "MINUTES", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rebalance_after: u32,
    /// Caches that are to hold each piece, 1 to 3, full-piece caches counted: a segment waits in the spool until so many have it. For all
    /// controllers; the one that starts last with this has it [default: as it is, at first 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_COPIES)))]
    copies: Option<u8>,
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

/// Where segments wait if the operator does not say. A service without a home has the temporary folder alone.
fn usual_spool(is_temporary: bool) -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    match data.filter(|_| !is_temporary) {
        Some(data) => data.join("autonomys-farmer").join("spool"),
        None => std::env::temp_dir().join("autonomys-farmer-spool"),
    }
}

impl ControllerArgs {
    pub async fn run(self, start: Start<'_>) -> Result<(), RoleError> {
        let spool = self.spool.unwrap_or_else(|| usual_spool(self.tmp));
        start.placement.settle(Work { executors: SERVER_EXECUTORS, ..Work::default() });
        let host = self.member.apply(HostConfig::new(Role::Controller), &start).await?;
        let config = Config {
            host,
            node_rpc_url: self.node_rpc_url,
            kzg_parameters: self.kzg_parameters,
            rebalance_after: Duration::from_secs(60 * u64::from(self.rebalance_after)),
            copies: self.copies,
            workers: start.placement.compute(self.threads.map(NonZeroUsize::get)),
            counts: Arc::new(Counts::default()),
            spool,
        };
        controller::run(config, start.bus, start.shutdown).await
    }
}
