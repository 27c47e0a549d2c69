//! What the parts of a running node share.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use consensus::kzg::KzgVerifier;
use consensus::piece::PieceIndex;
use consensus::segment::SegmentHeader;
use tokio::sync::{Notify, watch};

use super::acknowledgements::Acknowledgements;
use super::chain::{BLOCK_AUTHORING_DELAY_SLOTS, Block, Chain};
use super::store::Store;
use super::subscribers::Subscribers;
use super::{DevNodeConfig, RpcMethods};
use node::{FarmerAppInfo, ProtocolInfoJson, SegmentHeaderJson};

/// State and connections of a running node.
#[derive(Debug)]
pub struct Shared {
    chain: Mutex<Chain>,
    pub store: Arc<Store>,
    pub verifier: KzgVerifier,
    dev_kzg: Option<String>,
    pub rpc_methods: RpcMethods,
    strict_pieces: bool,
    syncing_until: Instant,
    /// The newest slot.
    pub slot: watch::Sender<u64>,
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
        store: Arc<Store>,
        verifier: KzgVerifier,
        chain: Chain,
        unarchived: VecDeque<Block>,
    ) -> Self {
        Self {
            chain: Mutex::new(chain),
            store,
            verifier,
            dev_kzg: config.kzg.dev_name().map(str::to_owned),
            rpc_methods: config.rpc_methods,
            strict_pieces: config.strict_pieces,
            syncing_until: Instant::now() + config.syncing_for,
            slot: watch::Sender::new(0),
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

    /// Whether the node pretends to catch up still.
    pub fn is_syncing(&self) -> bool {
        Instant::now() < self.syncing_until
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
