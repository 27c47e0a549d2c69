//! The controller: where one node and the cluster meet.
//!
//! ```text
//!   node ── slots ─────────▶ bus ──▶ farms        farms ──▶ bus ── claim ── solution ──▶ node
//!   node ── hash to sign ──▶ bus ──▶ the one plot-client that has the key ── signature ─────▶ node
//!   node ── pieces ─▶ full verification ─▶ owner caches ─▶ acknowledgement ─▶ node; history size ─▶ bus
//!   members ─▶ epochs ─▶ bus
//! ```
//! Several run at once, each on its own node; what only one may do is decided by claims and revisions on the bus.
//!
//! Owns: what the cluster knows of the chain, the epochs, and the books about solutions. Never: a disk, or a piece for longer
//! than until the caches have it.

mod epochs;
mod history;
mod pieces;
mod segments;
mod serve;
mod signing;
mod signing_counts;
mod slots;
mod solutions;
mod todo;
mod verifier;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use consensus::kzg::{Kzg, insecure};
use engine::threads::ThreadWorkers;
use futures::FutureExt;

use crate::host::{Host, HostConfig};
use crate::role::RoleError;
use crate::shutdown::Shutdown;
use bus::cluster::Cluster;
use bus::{BusError, SharedBus};
use control::messages::{ClusterInfo, Control, ProtocolInfo, Role};
use history::History;
use node::FarmerAppInfo;
use node::client::NodeClient;
use node::kzg_setup;
use pieces::Pieces;
use signing::Signatures;
use verifier::Verifier;

pub use signing_counts::SigningCounts;
pub use solutions::{Counts, Outcome};

/// How long requests in progress have to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// How to run a controller.
#[derive(Debug, Clone)]
pub struct Config {
    /// How it takes part in the cluster.
    pub host: HostConfig,
    /// Its node, `ws://HOST:PORT`.
    pub node_rpc_url: String,
    /// The ceremony's file, for a chain that is not a development chain; none: the usual place.
    pub kzg_parameters: Option<PathBuf>,
    /// Absence after which a cache loses its share.
    pub rebalance_after: Duration,
    /// Threads that verify pieces.
    pub workers: ThreadWorkers,
    /// Where solutions and signatures are counted.
    pub counts: Arc<Counts>,
}

/// A node that does not belong to this cluster.
#[derive(Debug, thiserror::Error)]
enum WrongNode {
    #[error(
        "node {url} follows the chain with genesis hash {node}, this cluster that with {cluster}: \
         connect to another node, or give this cluster its own NATS account",
        node = hex::encode(node), cluster = hex::encode(cluster)
    )]
    OtherChain { url: String, node: [u8; 32], cluster: [u8; 32] },
    #[error(
        "node {url} is of a development chain with KZG setup `{name}`, this release knows `{}` only",
        insecure::NAME
    )]
    UnknownSetup { url: String, name: String },
}

/// What all parts of a running controller use.
struct Context {
    node: NodeClient,
    host: Host,
    cluster: Cluster,
    history: Arc<History>,
    pieces: Arc<Pieces>,
    counts: Arc<Counts>,
    signatures: Signatures,
}

impl Context {
    fn bus(&self) -> &SharedBus {
        self.host.bus()
    }

    /// Tells everybody who listens. A failure is logged: the next message may do better.
    async fn publish(&self, subject: &str, message: &impl Control) {
        let published = match message.to_bytes() {
            Ok(bytes) => self.bus().publish(subject, bytes).await,
            Err(error) => return tracing::error!(subject, "{error}"),
        };
        if let Err(error) = published {
            tracing::warn!("{error}");
        }
    }

    /// Tells the cluster that history has at least so many segments.
    async fn tell_history(&self, segments: u64) -> Result<(), BusError> {
        let Some(mut info) = self.cluster.info().await? else { return Ok(()) };
        if info.protocol_info.history_size >= segments {
            return Ok(());
        }
        info.protocol_info.history_size = segments;
        self.cluster.put_info(&info).await
    }
}

/// Runs a controller until `shutdown`, or until its node turns out to follow another chain.
pub async fn run(config: Config, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
    let node = NodeClient::new(&config.node_rpc_url);
    let app_info = tokio::select! {
        app_info = node.ready() => app_info,
        () = shutdown.requested() => return Ok(()),
    };
    let kzg = load_kzg(&config, &app_info).await?;
    let cluster = Cluster::open(&*bus).await?;
    let info = agree(&cluster, &config.node_rpc_url, &app_info, &kzg).await?;
    let (desk, asks) = serve::Desk::new();
    let host = Host::start(config.host, bus, move |_| Rc::new(desk)).await?;
    let history = Arc::new(History::default());
    let (verifier, batches) = Verifier::new();
    let pieces = Arc::new(Pieces::new(node.clone(), history.clone(), verifier));
    let (signatures, counts) = (Signatures::new(host.id()), config.counts);
    let context = Context { node, host: host.clone(), cluster, history, pieces, counts, signatures };
    let farming_timeout = Duration::from_millis(info.farming_timeout_ms.into());
    // Boxed, since the compiler cannot see through all of them at once that they are Send.
    let outcome = tokio::select! {
        ended = slots::pass(&context, farming_timeout).boxed() => ended.map_err(Into::into),
        () = signing::pass(&context).boxed() => Ok(()),
        ended = segments::follow(&context).boxed() => ended,
        ended = epochs::keep(&host, config.rebalance_after).boxed() => ended.map_err(Into::into),
        ended = batches.run(kzg, config.workers).boxed() => ended.map_err(Into::into),
        () = serve::answer(asks, context.pieces.clone(), host.clone()).boxed() => Ok(()),
        () = end(&context, &shutdown).boxed() => Ok(()),
    };
    host.shutdown(SHUTDOWN_LIMIT).await;
    outcome
}

/// Ready when the controller was told to end, and no signature of what it handed to its node is expected, or nobody is left to sign.
async fn end(context: &Context, shutdown: &Shutdown) {
    shutdown.requested().await;
    let mut present = context.host.present();
    let no_signer =
        present.wait_for(|present| present.values().all(|member| member.role != Role::PlotClient));
    tokio::select! {
        () = context.signatures.quiet() => {}
        _ = no_signer => {}
    }
}

/// The setup of the node's chain. Only a node that says so gets the insecure one.
async fn load_kzg(config: &Config, info: &FarmerAppInfo) -> Result<Arc<Kzg>, RoleError> {
    let is_dev = match info.dev_kzg.as_deref() {
        None => false,
        Some(insecure::NAME) => true,
        Some(name) => {
            let (url, name) = (config.node_rpc_url.clone(), name.to_owned());
            return Err(RoleError::own(WrongNode::UnknownSetup { url, name }));
        }
    };
    let file = config.kzg_parameters.clone();
    let load = move || if is_dev { kzg_setup::insecure() } else { kzg_setup::ceremony(file.as_deref()) };
    Ok(Arc::new(tokio::task::spawn_blocking(load).await??))
}

/// Writes what the node says for the whole cluster, unless the cluster follows another chain already.
async fn agree(
    cluster: &Cluster,
    url: &str,
    app_info: &FarmerAppInfo,
    kzg: &Kzg,
) -> Result<ClusterInfo, RoleError> {
    let rules = app_info.protocol_info;
    let farming_timeout_ms = u32::try_from(app_info.farming_timeout.as_millis()).unwrap_or(u32::MAX);
    let mut info = ClusterInfo {
        kzg_setup_sha256: *kzg.id(),
        genesis_hash: app_info.genesis_hash,
        protocol_info: ProtocolInfo {
            history_size: rules.history_size.get(),
            max_pieces_in_sector: rules.max_pieces_in_sector,
            recent_segments: rules.recent_segments,
            recent_history_fraction: rules.recent_history_fraction,
            min_sector_lifetime: rules.min_sector_lifetime,
        },
        is_dev: app_info.dev_kzg.is_some(),
        farming_timeout_ms,
    };
    if let Some(known) = cluster.info().await? {
        let (node, cluster) = (info.genesis_hash, known.genesis_hash);
        if node != cluster {
            return Err(RoleError::own(WrongNode::OtherChain { url: url.to_owned(), node, cluster }));
        }
        if known.kzg_setup_sha256 != info.kzg_setup_sha256 {
            let (cluster, ours) = (known.kzg_setup_sha256, info.kzg_setup_sha256);
            return Err(RoleError::OtherSetup { cluster, ours });
        }
        // Another controller's node may be ahead.
        let history_size = &mut info.protocol_info.history_size;
        *history_size = (*history_size).max(known.protocol_info.history_size);
    }
    cluster.put_info(&info).await?;
    Ok(info)
}
