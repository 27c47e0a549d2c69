//! A node whose chain grows when a test says so. All its segments have the pieces of one that was really archived.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consensus::constants::SEGMENT_PIECES;
use consensus::kzg::insecure;
use consensus::segment::SegmentHeader;
use jsonrpsee::PendingSubscriptionSink;
use jsonrpsee::core::{RpcResult, SubscriptionResult, async_trait};
use jsonrpsee::server::{Server, ServerConfig, ServerHandle};
use node::{
    FarmerAppInfo, HexBytes, NodeRpcServer, ProtocolInfoJson, RewardSignatureAnswer, SegmentHeaderJson,
    SolutionResponse,
};
use tokio::sync::broadcast;

/// How long the node takes to accept a subscription: longer than anything else that comes up meanwhile.
const ACCEPTS_AFTER: Duration = Duration::from_millis(2500);

/// A segment as a node gives it out.
pub struct Archived {
    pub header: SegmentHeader,
    pub pieces: Vec<Vec<u8>>,
}

struct Chain {
    headers: Vec<SegmentHeader>,
    /// The newest segment, while its acknowledgement is owed.
    held: Option<u64>,
    acknowledged: Vec<u64>,
}

/// Clones are the same node.
#[derive(Clone)]
pub struct ScriptedNode {
    archived: Arc<Archived>,
    chain: Arc<Mutex<Chain>>,
    announced: broadcast::Sender<SegmentHeaderJson>,
    subscribers: Arc<AtomicUsize>,
    /// Whether the first segment is given out.
    has_first: Arc<AtomicBool>,
}

impl ScriptedNode {
    /// Starts a node with one segment.
    pub async fn start(archived: Archived) -> (Self, SocketAddr, ServerHandle) {
        let chain = Chain { headers: vec![archived.header], held: None, acknowledged: Vec::new() };
        let node = Self {
            archived: Arc::new(archived),
            chain: Arc::new(Mutex::new(chain)),
            announced: broadcast::channel(16).0,
            subscribers: Arc::default(),
            has_first: Arc::new(true.into()),
        };
        let config = ServerConfig::builder().max_response_body_size(4 << 20).build();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::builder().set_config(config).build(listen).await.unwrap();
        let address = server.local_addr().unwrap();
        let handle = server.start(node.clone().into_rpc());
        (node, address, handle)
    }

    /// Archives another segment, which is held until one subscriber acknowledges it, and announces it.
    pub fn archive(&self) -> u64 {
        let mut chain = self.chain.lock().unwrap();
        let before = *chain.headers.last().unwrap();
        let segment_index = before.segment_index + 1;
        let header = SegmentHeader { segment_index, prev_segment_header_hash: before.hash(), ..before };
        chain.headers.push(header);
        chain.held = Some(segment_index);
        // Without subscribers nobody hears of it.
        let _ = self.announced.send((&header).into());
        segment_index
    }

    /// Segments acknowledged so far.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.chain.lock().unwrap().acknowledged.clone()
    }

    /// Subscriptions to segments, ever.
    pub fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// Whether it gives out its first segment from now on.
    pub fn set_first(&self, is_given: bool) {
        self.has_first.store(is_given, Ordering::Relaxed);
    }
}

#[async_trait]
impl NodeRpcServer for ScriptedNode {
    async fn farmer_app_info(&self) -> RpcResult<FarmerAppInfo> {
        let history_size = self.chain.lock().unwrap().headers.len() as u64;
        Ok(FarmerAppInfo {
            genesis_hash: [9; 32],
            dsn_bootstrap_nodes: Vec::new(),
            syncing: false,
            farming_timeout: Duration::from_secs(4),
            protocol_info: ProtocolInfoJson {
                history_size: history_size.try_into().unwrap(),
                max_pieces_in_sector: 10,
                recent_segments: 5,
                recent_history_fraction: (1, 10),
                min_sector_lifetime: 4,
            },
            dev_kzg: Some(insecure::NAME.to_owned()),
        })
    }

    async fn submit_solution_response(&self, _: SolutionResponse) -> RpcResult<()> {
        Ok(())
    }

    async fn subscribe_slot_info(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        let sink = pending.accept().await?;
        sink.closed().await;
        Ok(())
    }

    async fn subscribe_reward_signing(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        let sink = pending.accept().await?;
        sink.closed().await;
        Ok(())
    }

    async fn submit_reward_signature(&self, _: RewardSignatureAnswer) -> RpcResult<()> {
        Ok(())
    }

    async fn subscribe_archived_segment_header(
        &self,
        pending: PendingSubscriptionSink,
    ) -> SubscriptionResult {
        tokio::time::sleep(ACCEPTS_AFTER).await;
        let sink = pending.accept().await?;
        let mut announced = self.announced.subscribe();
        self.subscribers.fetch_add(1, Ordering::Relaxed);
        loop {
            let header = tokio::select! {
                header = announced.recv() => header?,
                () = sink.closed() => return Ok(()),
            };
            sink.send(serde_json::value::to_raw_value(&header)?).await?;
        }
    }

    async fn acknowledge_archived_segment_header(&self, segment_index: u64) -> RpcResult<()> {
        let mut chain = self.chain.lock().unwrap();
        // Each connection begins with one for a segment that never was.
        if segment_index < chain.headers.len() as u64 {
            chain.acknowledged.push(segment_index);
        }
        chain.held.take_if(|held| *held == segment_index);
        Ok(())
    }

    async fn segment_headers(&self, segment_indexes: Vec<u64>) -> RpcResult<Vec<Option<SegmentHeaderJson>>> {
        let chain = self.chain.lock().unwrap();
        let header = |index: u64| chain.headers.get(usize::try_from(index).ok()?).map(Into::into);
        Ok(segment_indexes.into_iter().map(header).collect())
    }

    async fn last_segment_headers(&self, _: u32) -> RpcResult<Vec<Option<SegmentHeaderJson>>> {
        Ok(Vec::new())
    }

    async fn piece(&self, piece_index: u64) -> RpcResult<Option<HexBytes>> {
        let (segment, position) =
            (piece_index / SEGMENT_PIECES as u64, piece_index as usize % SEGMENT_PIECES);
        let is_at_hand = match self.chain.lock().unwrap().held {
            Some(held) => segment == held,
            None => segment == 0 && self.has_first.load(Ordering::Relaxed),
        };
        Ok(is_at_hand.then(|| HexBytes(self.archived.pieces[position].clone())))
    }
}
