//! The controller: where one node and the cluster meet.
//!
//! ```text
//!   node ── slots ─────────▶ bus ──▶ farms        farms ──▶ bus ── solution ───────────▶ node
//!   node ── hash to sign ──▶ bus ──▶ the one plot-client that has the key ── signature ─────▶ node
//!   node ── pieces ─▶ full verification ─▶ owner caches ─▶ acknowledgement ─▶ node; history size ─▶ bus
//!   members ─▶ epochs ─▶ bus
//! ```
//! Several run at once, each on its own node. Which of them sends a solution is decided by who found it; what else one alone should do,
//! by leases and revisions on the bus.
//!
//! Owns: what the cluster knows of the chain, the epochs, the books about solutions, and segments until the caches have them.

mod context;
mod epochs;
mod history;
mod lease;
mod pieces;
mod rebuild;
mod segments;
mod serve;
mod settings;
mod signing;
mod signing_counts;
mod slots;
mod solutions;
mod spool;
mod verifier;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use consensus::kzg::{Kzg, insecure};
use engine::threads::ThreadWorkers;
use futures::FutureExt;

use crate::host::{Host, HostConfig};
use crate::recall::{self, Memory};
use crate::role::RoleError;
use crate::shutdown::Shutdown;
use bus::SharedBus;
use context::{Context, WrongNode};
use control::messages::{MemberEntry, Role};
use control::settings::Settings;
use history::History;
use node::FarmerAppInfo;
use node::client::NodeClient;
use node::kzg_setup;
use pieces::Pieces;
use rebuild::Rebuilder;
use segments::Seams;
use signing::Signatures;
use slots::Between;
use spool::Spool;
use tokio::sync::watch;
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
    /// Copies of each piece that caches are to hold; none: as many as the epoch says, at first one.
    pub copies: Option<u8>,
    /// Threads that verify pieces.
    pub workers: ThreadWorkers,
    /// Where solutions and signatures are counted.
    pub counts: Arc<Counts>,
    /// Folder for segments that are not in the caches yet: up to 4 GiB for each cluster and chain. What an earlier run left there is found again.
    pub spool: PathBuf,
}

/// Runs a controller until `shutdown`, or until its node turns out to follow another chain.
pub async fn run(config: Config, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
    let node = NodeClient::new(&config.node_rpc_url);
    let app_info = tokio::select! {
        app_info = node.ready() => app_info,
        () = shutdown.requested() => return Ok(()),
    };
    let kzg = load_kzg(&config, &app_info).await?;
    let own = settings::of_node(&app_info, &kzg);
    let (dir, name, genesis_hash) = (config.spool.clone(), bus.cluster(), own.genesis_hash);
    let opened = tokio::task::spawn_blocking(move || Spool::open(&dir, &name, &genesis_hash)).await?;
    let (spool, spooled) = opened.map_err(RoleError::own)?;
    let (memory, remembered) = (spool.memory(), spool.remembered());
    let (desk, asks) = serve::Desk::new();
    let host = Host::start(config.host, bus.clone(), move |_| Rc::new(desk)).await?;
    let history = Arc::new(History::default());
    let (verifier, batches) = Verifier::new();
    let spool = Arc::new(spool);
    let pieces = Arc::new(Pieces::new(node.clone(), history.clone(), verifier.clone(), spool));
    let (signatures, counts) = (Signatures::new(host.id()), config.counts);
    let (current, epoch) = watch::channel(None);
    let machine = segments::machine(host.id(), spooled);
    let (known, ends) = settings::known();
    let settings = Settings::new(own, machine.first_unplaced(), remembered.as_ref());
    let seams = Seams { known: known.clone(), epoch: epoch.clone() };
    let context = Context { node, host: host.clone(), genesis_hash, epoch, history, pieces, counts };
    let context = Arc::new(context);
    let rebuilder = Rebuilder::new(context.clone(), kzg.clone(), config.workers.clone(), verifier);
    let between = Between {
        me: host.id(),
        node: &context.node,
        bus: &*bus,
        counts: &context.counts,
        handed: &signatures,
    };
    let earn = async {
        tokio::select! {
            () = known.belongs() => {}
            // It took no solution, so nobody is to be waited for.
            () = shutdown.requested() => return Ok(()),
        }
        // Also when told to end, as long as its node may want signatures.
        slots::pass(&between, &shutdown).await
    };
    // Boxed, since the compiler cannot see through all of them at once that they are Send.
    let outcome = tokio::select! {
        ended = settings::keep(&bus, host.id(), &config.node_rpc_url, settings, ends).boxed() => ended,
        ended = recall::tell(&bus, || known.agreed.borrow().clone()).boxed() => ended.map_err(Into::into),
        () = remember(&memory, &known).boxed() => Ok(()),
        ended = earn.boxed() => ended.map_err(Into::into),
        () = signing::pass(&context.node, bus.clone(), signatures.clone(), context.counts.clone()).boxed() => Ok(()),
        ended = segments::follow(&context, machine, &seams).boxed() => ended,
        ended = epochs::keep(&bus, &host, config.rebalance_after, config.copies, &current).boxed() => ended.map_err(Into::into),
        ended = batches.run(kzg, config.workers).boxed() => ended.map_err(Into::into),
        () = serve::answer(asks, &context, &known, &rebuilder).boxed() => Ok(()),
        () = nobody_signs(&context, &shutdown).boxed() => Ok(()),
    };
    host.shutdown(SHUTDOWN_LIMIT).await;
    outcome
}

/// Keeps what the cluster agrees on, for the case that its store is lost while no controller runs.
async fn remember(memory: &Memory, known: &settings::Known) {
    memory.follow(known.agreed.clone()).await;
    // The other end goes with the settings' keeper, which says why it ends.
    std::future::pending::<()>().await;
}

/// Ready when the controller was told to end and nobody is left to sign. Of whom it never heard it cannot say that he is gone: entries
/// need JetStream, solutions do not.
async fn nobody_signs(context: &Context, shutdown: &Shutdown) {
    let mut present = context.host.present();
    let signs = |member: &MemberEntry| member.role == Role::PlotClient;
    // Its other end goes with the host.
    let _ = present.wait_for(|present| present.values().any(signs)).await;
    shutdown.requested().await;
    let _ = present.wait_for(|present| !present.values().any(signs)).await;
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
