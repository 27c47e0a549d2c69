//! What the parts of a running node share.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use consensus::kzg::KzgVerifier;
use consensus::piece::PieceIndex;
use consensus::segment::SegmentHeader;
use tokio::sync::{Notify, watch};

use super::acknowledgements::Acknowledgements;
use super::chain::{BLOCK_AUTHORING_DELAY_SLOTS, Block, Chain};
use super::config::{DevNodeConfig, RpcMethods};
use super::pause::Pause;
use super::peers::gossip::Gossip;
use super::peers::gossip::Hello;
use super::store::Store;
use super::subscribers::Subscribers;
use node::{FarmerAppInfo, ProtocolInfoJson, SegmentHeaderJson};

/// Messages that wait for a peer; who is further behind compares chains anew.
const GOSSIP_QUEUED_MAX: usize = 256;

/// A number that tells this process from those of peers.
pub fn new_node_id() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// State and connections of a running node.
#[derive(Debug)]
pub struct Shared {
    node: u64,
    chain: Mutex<Chain>,
    pub store: Arc<Store>,
    /// Held while blocks come into the chain and to disk, or count as final.
    pub importing: tokio::sync::Mutex<()>,
    pub verifier: KzgVerifier,
    dev_kzg: Option<String>,
    pub rpc_methods: RpcMethods,
    strict_pieces: bool,
    syncing_until: Instant,
    /// The newest slot that has begun.
    pub slot: watch::Sender<u64>,
    /// Solutions wait at the RPC.
    pub submitted: Notify,
    pausing: Mutex<Option<Pause>>,
    /// Messages to peers.
    pub gossip: Subscribers,
    /// Links whose first try has not ended.
    links_untried: AtomicUsize,
    /// First slot in which peers are heard again; none is 0.
    separated_until: AtomicU64,
    /// Told when all links should compare chains.
    pub resync: watch::Sender<()>,
    pub slot_subscribers: Subscribers,
    pub signing_subscribers: Subscribers,
    /// A signature has come.
    pub signed: Notify,
    pub segment_subscribers: Subscribers,
    acknowledgements: Mutex<Acknowledgements>,
    /// An acknowledgement has come, or a subscription has ended.
    pub acknowledged: Notify,
    /// Blocks that are stored but not given to the archivist yet.
    unarchived: Mutex<VecDeque<Block>>,
    /// A block was stored.
    pub block_stored: Notify,
}

impl Shared {
    pub fn new(
        config: &DevNodeConfig,
        node: u64,
        store: Arc<Store>,
        verifier: KzgVerifier,
        chain: Chain,
        unarchived: VecDeque<Block>,
    ) -> Self {
        Self {
            node,
            importing: tokio::sync::Mutex::default(),
            chain: Mutex::new(chain),
            store,
            verifier,
            dev_kzg: config.kzg.dev_name().map(str::to_owned),
            rpc_methods: config.rpc_methods,
            strict_pieces: config.strict_pieces,
            syncing_until: Instant::now() + config.syncing_for,
            slot: watch::Sender::new(0),
            submitted: Notify::new(),
            pausing: Mutex::default(),
            gossip: Subscribers::with_queues(GOSSIP_QUEUED_MAX),
            links_untried: AtomicUsize::new(config.peers.len()),
            separated_until: AtomicU64::new(0),
            resync: watch::Sender::new(()),
            slot_subscribers: Subscribers::default(),
            signing_subscribers: Subscribers::default(),
            signed: Notify::new(),
            segment_subscribers: Subscribers::default(),
            acknowledgements: Mutex::default(),
            acknowledged: Notify::new(),
            unarchived: Mutex::new(unarchived),
            block_stored: Notify::new(),
        }
    }

    /// The chain; nothing slow may be done while it is held.
    pub fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().expect("the chain's rules do not panic")
    }

    /// Debts of subscribers.
    pub fn acknowledgements(&self) -> MutexGuard<'_, Acknowledgements> {
        self.acknowledgements.lock().expect("counting does not panic")
    }

    /// Blocks for the archivist.
    pub fn unarchived(&self) -> MutexGuard<'_, VecDeque<Block>> {
        self.unarchived.lock().expect("moving blocks does not panic")
    }

    /// Whether the node pretends to catch up still, or does: with peers it begins no slot before it has tried each.
    pub fn is_syncing(&self) -> bool {
        Instant::now() < self.syncing_until || self.links_untried.load(Ordering::Relaxed) > 0
    }

    /// The first try of a link has ended.
    pub fn link_tried(&self) {
        self.links_untried.fetch_sub(1, Ordering::Relaxed);
    }

    /// The slot behind the newest that has begun.
    pub fn slots_begun(&self) -> u64 {
        let newest = *self.slot.borrow();
        newest.checked_add(u64::from(newest > 0)).unwrap_or(newest)
    }

    /// The pause that was asked for.
    pub fn pausing(&self) -> MutexGuard<'_, Option<Pause>> {
        self.pausing.lock().expect("copying does not panic")
    }

    /// Announces nothing for `slots` slots, then the newest `burst` of them with the one that follows.
    pub fn pause(&self, slots: u64, burst: u64) {
        let until_slot = self.chain().now().saturating_add(slots).saturating_add(1);
        *self.pausing() = Some(Pause { until_slot, burst: burst.saturating_add(1) });
    }

    /// Whether peers are neither heard nor told anything.
    pub fn is_separated(&self) -> bool {
        self.separated_until.load(Ordering::Relaxed) > 0
    }

    /// Neither hears nor tells peers for `slots` slots.
    pub fn separate(&self, slots: u64) {
        let until_slot = self.chain().now().saturating_add(slots).saturating_add(1);
        self.separated_until.store(until_slot, Ordering::Relaxed);
    }

    /// Goes back to peers if it is time.
    pub fn end_separation(&self) {
        let until_slot = self.separated_until.load(Ordering::Relaxed);
        if until_slot > 0 && until_slot <= self.chain().now() {
            self.separated_until.store(0, Ordering::Relaxed);
            self.tell(&Gossip::Sync);
            self.resync.send_replace(());
        }
    }

    /// Tells all peers, without waiting.
    pub fn tell(&self, gossip: &Gossip) {
        if !self.is_separated() {
            self.gossip.publish(&gossip.to_hex());
        }
    }

    /// Who this node is, for peers.
    pub fn hello(&self) -> Hello {
        let genesis = self.store.genesis();
        let chain = self.chain();
        Hello {
            genesis_hash: *chain.genesis_hash(),
            genesis_time_ms: genesis.genesis_time_ms,
            segments_at_start: genesis.segments_at_start,
            node: self.node,
            final_blocks: chain.root().position,
            tip_hash: chain.tip().hash,
        }
    }

    /// What a peer should know beside blocks.
    pub fn all_seen(&self) -> Vec<Gossip> {
        let chain = self.chain();
        let times = chain.time_changes().into_iter().map(Gossip::Time);
        times.chain(Gossip::of_sightings(&chain.sightings())).collect()
    }

    /// Whether this node takes what only `--rpc-methods unsafe` allows.
    pub fn is_unsafe_allowed(&self) -> bool {
        self.rpc_methods == RpcMethods::Unsafe
    }

    /// Answer of `subspace_getFarmerAppInfo`.
    pub fn farmer_app_info(&self) -> FarmerAppInfo {
        let genesis = self.store.genesis();
        let chain = self.chain();
        let info = chain.protocol_info();
        FarmerAppInfo {
            genesis_hash: *chain.genesis_hash(),
            dsn_bootstrap_nodes: Vec::new(),
            syncing: self.is_syncing(),
            farming_timeout: Duration::from_millis(genesis.slot_ms * BLOCK_AUTHORING_DELAY_SLOTS),
            protocol_info: ProtocolInfoJson {
                history_size: NonZeroU64::new(info.history_size).expect("a node begins with a segment"),
                max_pieces_in_sector: info.max_pieces_in_sector,
                recent_segments: info.recent_segments,
                recent_history_fraction: info.recent_history_fraction,
                min_sector_lifetime: info.min_sector_lifetime,
            },
            dev_kzg: self.dev_kzg.clone(),
        }
    }

    /// Whether the node would give out this piece now. Like an archive, it has all of them. Under `--strict-pieces` it has, as the
    /// network's node, the newest segment while somebody owes an acknowledgement for it, else the first one.
    pub fn is_piece_at_hand(&self, index: PieceIndex) -> bool {
        let segment_index = index.segment_index();
        if segment_index >= self.chain().headers().len() as u64 {
            return false;
        }
        !self.strict_pieces || segment_index == self.acknowledgements().pending().unwrap_or(0)
    }

    /// Counts a stored segment and tells subscribers. Each owes an acknowledgement, unless it would not be allowed to make it.
    pub fn announce_segment(&self, header: SegmentHeader) {
        self.chain().add_segment(header);
        // Held, so that nobody acknowledges before it is owed.
        let mut acknowledgements = self.acknowledgements();
        let subscribers = self.segment_subscribers.publish(&SegmentHeaderJson::from(&header));
        let debtors = if self.is_unsafe_allowed() { subscribers } else { Vec::new() };
        acknowledgements.begin(header.segment_index, debtors);
    }
}
