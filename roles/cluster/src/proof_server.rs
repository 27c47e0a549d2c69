//! The proof-server: proves chunks for plot-clients whose own cores are too few.
//!
//! ```text
//!   plot-client ── Request::Prove: record, bitmap, s-bucket, time left ─▶ hash checked ─▶ gpu::Prover ─▶ Response::Proof
//! ```
//! With GPUs these make tables, proofs of space and chunks, and the threads the witnesses; whatever a GPU cannot do, the threads do.
//!
//! Owns: the prover and its limits. Never: which candidate to prove first (the plot-client asks in that order; the prover
//! takes the earliest deadline first), or whether a solution is sent.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consensus::constants::RECORD_SIZE;
use consensus::kzg::Kzg;
use consensus::sector::{Bitfield, SectorId};
use consensus::{CpuLevel, Workers};
use engine::pool::{Pool, Slab};
use engine::threads::ThreadWorkers;
use futures::future::LocalBoxFuture;
use gpu::card::{CardProver, CardProverOptions, DEFAULT_PROVING_BATCH};
use gpu::cpu::{CpuProver, CpuProverOptions, StartError};
use gpu::{ProofRequest, ProveError, Prover, ProverStats};
use tokio::sync::watch;
use transport::message::{Blake3Hash, Refusal, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{Answer, Handler, PeerInfo, Received};

use crate::cards::OpenCard;
use crate::host::{Host, HostConfig};
use crate::role::{RoleError, await_cluster, cluster_kzg};
use crate::shutdown::Shutdown;
use bus::SharedBus;
use control::messages::Role;

/// Time for proofs in progress when the process ends.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// How often the counters are logged, if they changed.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Requests that wait for each thread; a proof takes a good part of a slot, so more would be late.
const QUEUE_PER_THREAD: usize = 8;
/// Requests that wait for each GPU beside: it takes milliseconds for its part of a proof.
const QUEUE_PER_CARD: usize = 32;
/// Slabs beyond those of requests: payloads on their way in.
const ARRIVING_SLABS: usize = 16;

/// How to prove.
#[derive(Debug, Clone)]
pub struct Config {
    /// Place in the cluster; capacity and slabs are set from `threads`.
    pub host: HostConfig,
    /// Threads that prove, about 128 MiB each.
    pub threads: ThreadWorkers,
    /// GPUs that prove; none: the threads alone.
    pub cards: Vec<OpenCard>,
    /// The ceremony's KZG parameters, if not in the usual place.
    pub kzg_parameters: Option<PathBuf>,
}

impl Config {
    /// One thread for each core this process may use, and no GPU.
    pub fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = ThreadWorkers::unbound(threads);
        Self { host: HostConfig::new(Role::ProofServer), threads, cards: Vec::new(), kzg_parameters: None }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// Proves until told to end.
pub async fn run(config: Config, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
    let info = tokio::select! {
        info = await_cluster(&*bus) => info?,
        () = shutdown.requested() => return Ok(()),
    };
    let kzg = cluster_kzg(&info, config.kzg_parameters).await?;
    let Config { host, threads, cards, .. } = config;
    let count = threads.count();
    let queue_limit = count * QUEUE_PER_THREAD + cards.len() * QUEUE_PER_CARD;
    let capacity = u64::try_from(count).unwrap_or(u64::MAX);
    let slabs = queue_limit + slabs_at_work(count, cards.len()) + ARRIVING_SLABS;
    let host = HostConfig { capacity, slabs, serving_slabs: slabs, ..host };
    let (made, serving) = watch::channel(None);
    let handler = ProofHandler { prover: serving };
    let host = Host::start(host, bus, move |_| Rc::new(handler)).await?;
    let pool = host.pool().clone();
    let prover = move || prover(cards, threads, queue_limit, pool, kzg);
    let prover = tokio::task::spawn_blocking(prover).await?.map_err(RoleError::own)?;
    made.send_replace(Some(prover.clone()));
    tokio::select! {
        () = shutdown.requested() => {}
        () = log_counters(&*prover) => {}
    }
    host.shutdown(SHUTDOWN_LIMIT).await;
    log(&prover.stats());
    // Its end waits for the proofs being made.
    Ok(tokio::task::spawn_blocking(move || drop(prover)).await?)
}

/// Slabs of requests that wait no more. For each GPU: two batches of it, and as many more as the threads are at.
fn slabs_at_work(threads: usize, cards: usize) -> usize {
    threads + cards * (3 * DEFAULT_PROVING_BATCH + 1 + threads)
}

/// The GPUs and the CPU, or the CPU alone where there is no GPU, or none that can be used.
fn prover(
    cards: Vec<OpenCard>,
    threads: ThreadWorkers,
    queue_limit: usize,
    pool: Pool,
    kzg: Arc<Kzg>,
) -> Result<Arc<dyn Prover>, StartError> {
    let level = CpuLevel::current();
    if !cards.is_empty() {
        let options = CardProverOptions {
            devices: cards.into_iter().map(|card| (card.device, card.feeder)).collect(),
            batch: DEFAULT_PROVING_BATCH,
            threads: threads.clone(),
            level,
            queue_limit,
            pool,
        };
        match CardProver::new(options, kzg.clone()) {
            Ok(prover) => return Ok(Arc::new(prover)),
            Err(error) => tracing::error!("proves on the CPU: {error}"),
        }
    }
    Ok(Arc::new(CpuProver::new(&CpuProverOptions { threads, level, queue_limit }, kzg)?))
}

/// Logs the counters when they have changed, for ever.
async fn log_counters(prover: &dyn Prover) {
    let mut logged = 0;
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        let stats = prover.stats();
        let sum = stats.proved + stats.late + stats.refused + stats.failed;
        if sum != logged {
            log(&stats);
            logged = sum;
        }
    }
}

fn log(stats: &ProverStats) {
    let ProverStats { proved, late, refused, failed, queued, .. } = *stats;
    tracing::info!(proved, late, refused, failed, queued, "proofs");
}

/// The prover, as soon as it is made: it needs the host's memory. The first requests wait for it.
type Serving = watch::Receiver<Option<Arc<dyn Prover>>>;

/// Answers [`Request::Prove`] with a prover.
struct ProofHandler {
    prover: Serving,
}

impl ProofHandler {
    async fn prove(&self, asked: Asked) -> Answer {
        let request = asked.into_request()?;
        let prover = self.prover().await.ok_or_else(|| refusal(&ProveError::Dropped))?;
        let proved = prover.prove(request).await.map_err(|error| refusal(&error))?;
        let response = Response::Proof {
            chunk: proved.chunk,
            witness: proved.chunk_witness,
            proof_of_space: proved.proof_of_space,
        };
        Ok((response, None))
    }

    /// None when the server ends before there is one.
    async fn prover(&self) -> Option<Arc<dyn Prover>> {
        let mut made = self.prover.clone();
        made.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl Handler for ProofHandler {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        payload: Option<Received>,
        deadline_in: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        // The time runs from now on, not from when the task starts.
        let deadline = deadline_in.map(|left| Instant::now() + left);
        Box::pin(async move {
            let (Request::Prove { blake3, sector_id, piece_offset, s_bucket }, Some(payload), Some(deadline)) =
                (request, payload, deadline)
            else {
                return Err(Refusal::new(
                    RefusalCode::Invalid,
                    "a proof-server takes proofs with a deadline only",
                ));
            };
            let seed = SectorId(sector_id).evaluation_seed(piece_offset);
            self.prove(Asked { blake3, seed, s_bucket, payload, deadline }).await
        })
    }
}

/// A request as it came.
struct Asked {
    blake3: Blake3Hash,
    seed: consensus::pos::Seed,
    s_bucket: u16,
    payload: Received,
    deadline: Instant,
}

impl Asked {
    /// Checks the payload and takes it apart.
    fn into_request(self) -> Result<ProofRequest, Refusal> {
        if self.payload.blake3() != self.blake3 {
            return Err(Refusal::new(RefusalCode::Damaged, "the record and its bitmap fail their hash"));
        }
        let slab: Slab = self.payload.into_payload().into_slab().freeze();
        let bitmap = slab[RECORD_SIZE..].try_into().expect("the transport checked the payload's length");
        let Some(bitfield) = Bitfield::from_bytes(bitmap) else {
            return Err(Refusal::new(
                RefusalCode::Damaged,
                "the bitmap has more bits than a record has chunks",
            ));
        };
        let record = slab.slice(..RECORD_SIZE);
        Ok(ProofRequest {
            seed: self.seed,
            record,
            bitfield,
            s_bucket: self.s_bucket,
            deadline: self.deadline,
        })
    }
}

/// A failed proof as the plot-client is told.
fn refusal(error: &ProveError) -> Refusal {
    let code = match error {
        ProveError::Late => RefusalCode::DeadlinePassed,
        ProveError::Busy { .. } => RefusalCode::Busy,
        ProveError::Record(_) => RefusalCode::Damaged,
        ProveError::Dropped => RefusalCode::Failed,
    };
    Refusal::new(code, error.to_string())
}
