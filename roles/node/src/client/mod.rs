//! A farmer's side of the node's methods: one WebSocket that is made again whenever it breaks.
//!
//! ```text
//!   NodeClient ── connection() ──▶ Connection: calls, each with its NodeError
//!       └──────── slots(), … ────▶ Feed: Began, Item, Item, … Lost, Began, Item …      (never ends)
//! ```
//! A node restart is normal: calls fail at once while the node is away, feeds subscribe anew when it is back and say so
//! by [`FeedEvent::Began`], after which whoever must not miss anything asks for what it missed. An outage is logged when it
//! begins and when it ends.
//!
//! Owns: the connection, when to try again, what the node's errors mean. Never: retries of a call, since a solution must
//! be sent at most once.

mod backoff;
mod error;
mod feed;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use consensus::piece::Piece;
use consensus::segment::SegmentHeader;
use jsonrpsee::core::ClientError;
use jsonrpsee::ws_client::{PingConfig, WsClient, WsClientBuilder};
use tokio::time::{Instant, sleep, sleep_until};

use super::{FarmerAppInfo, NodeRpcClient, RewardSignature, SolutionResponse};
pub use backoff::Backoff;
pub use error::NodeError;
pub use feed::{Feed, FeedEvent};

/// Time for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer; a piece on a slow line takes some.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer (bytes): a piece in hex has 2 MB, a thousand headers less.
const ANSWER_SIZE_MAX: u32 = 4 << 20;
/// Notifications that wait for their reader; a feed that is further behind is subscribed anew.
const NOTIFICATIONS_QUEUED_MAX: usize = 256;
/// How often the node is asked for a sign of life, and how long it may owe one.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often a syncing node is asked whether it is done.
const SYNC_POLL: Duration = Duration::from_secs(2);

/// A node, there or not; clones share the connection.
#[derive(Debug, Clone)]
pub struct NodeClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    url: Arc<str>,
    /// Held while a connection is made: whoever comes meanwhile waits for that one.
    link: tokio::sync::Mutex<Link>,
    /// When [`Link::backoff`] allows the next try, to be read without waiting.
    retry_at: Mutex<Instant>,
}

#[derive(Debug)]
struct Link {
    client: Option<Arc<WsClient>>,
    backoff: Backoff,
    /// Why the last try failed; none after a good one.
    outage: Option<NodeError>,
}

impl NodeClient {
    /// A client of the node at `url`, `ws://HOST:PORT`. Connects when first used.
    pub fn new(url: &str) -> Self {
        let backoff = Backoff::new();
        let retry_at = Mutex::new(backoff.retry_at());
        let link = tokio::sync::Mutex::new(Link { client: None, backoff, outage: None });
        Self(Arc::new(Shared { url: url.into(), link, retry_at }))
    }

    /// The connection, made if there is none. Fails at once while the pause after a failed try lasts.
    pub async fn connection(&self) -> Result<Connection, NodeError> {
        let mut link = self.0.link.lock().await;
        if let Some(client) = link.client.as_ref().filter(|client| client.is_connected()) {
            return Ok(Connection { url: self.0.url.clone(), client: client.clone() });
        }
        link.client = None;
        if let Some(outage) = &link.outage
            && Instant::now() < link.backoff.retry_at()
        {
            return Err(outage.clone());
        }
        let made = connect(&self.0.url).await;
        link.note(&self.0.url, &made);
        *self.0.retry_at.lock().expect("copying does not panic") = link.backoff.retry_at();
        let connection = made?;
        link.client = Some(connection.client.clone());
        Ok(connection)
    }

    /// The connection, however long it takes.
    pub async fn connected(&self) -> Connection {
        loop {
            if let Ok(connection) = self.connection().await {
                return connection;
            }
            let retry_at = *self.0.retry_at.lock().expect("copying does not panic");
            sleep_until(retry_at).await;
        }
    }

    /// Makes a new connection when next asked for one. Subscriptions that hold on to the old one keep it until they end.
    async fn leave(&self, connection: &Connection) {
        let mut link = self.0.link.lock().await;
        link.client = link.client.take().filter(|client| !Arc::ptr_eq(client, &connection.client));
    }

    /// What the node says of its chain, as soon as it is there and has caught up with it.
    pub async fn ready(&self) -> FarmerAppInfo {
        let mut is_told = false;
        loop {
            match self.connected().await.farmer_app_info().await {
                Ok(info) if !info.syncing => return info,
                Ok(_) if is_told => {}
                Ok(_) => {
                    is_told = true;
                    tracing::info!(node = %self.0.url, "the node is syncing, waiting for it");
                }
                Err(error) => tracing::warn!("{error}"),
            }
            sleep(SYNC_POLL).await;
        }
    }
}

impl Link {
    /// Keeps what a try to connect came to and logs a change.
    fn note(&mut self, url: &str, made: &Result<Connection, NodeError>) {
        match made {
            Ok(_) => {
                self.backoff.succeeded();
                self.outage = None;
                tracing::info!(node = url, "connected to the node");
            }
            Err(error) => {
                let same = |old: &NodeError| std::mem::discriminant(old) == std::mem::discriminant(error);
                if !self.outage.as_ref().is_some_and(same) {
                    tracing::warn!("{error}");
                }
                self.backoff.failed(Instant::now());
                self.outage = Some(error.clone());
            }
        }
    }
}

/// Connects, and tries a method that needs `--rpc-methods unsafe` and, with this index, does nothing.
async fn connect(url: &Arc<str>) -> Result<Connection, NodeError> {
    let ping = PingConfig::new().ping_interval(PING_INTERVAL).inactive_limit(SILENCE_MAX);
    let built = WsClientBuilder::new()
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(ANSWER_TIMEOUT)
        .max_response_size(ANSWER_SIZE_MAX)
        .max_buffer_capacity_per_subscription(NOTIFICATIONS_QUEUED_MAX)
        .enable_ws_ping(ping)
        .build(&**url)
        .await;
    let unreachable = |reason: String| NodeError::Unreachable { url: url.to_string(), reason };
    let client = Arc::new(built.map_err(|error| unreachable(error.to_string()))?);
    let connection = Connection { url: url.clone(), client };
    match connection.acknowledge_archived_segment_header(u64::MAX).await {
        Ok(()) | Err(NodeError::Refused { .. }) => Ok(connection),
        Err(NodeError::Unanswered { reason, .. }) => Err(unreachable(reason)),
        Err(error) => Err(error),
    }
}

/// A connection that held a moment ago. Calls on it are made once.
#[derive(Debug, Clone)]
pub struct Connection {
    url: Arc<str>,
    client: Arc<WsClient>,
}

impl Connection {
    /// The node's view of its chain.
    pub async fn farmer_app_info(&self) -> Result<FarmerAppInfo, NodeError> {
        let method = "subspace_getFarmerAppInfo";
        self.explain(method, self.client.farmer_app_info().await)
    }

    /// Hands in a solution. Success says that it is queued, not that it is accepted. [`NodeError::NotSent`] when this connection is
    /// gone, whatever others there are.
    pub async fn submit_solution(&self, response: SolutionResponse) -> Result<(), NodeError> {
        let method = "subspace_submitSolutionResponse";
        if !self.client.is_connected() {
            return Err(NodeError::NotSent { url: self.url.to_string(), method });
        }
        self.explain(method, self.client.submit_solution_response(response).await)
    }

    /// Hands in a signature.
    pub async fn submit_reward_signature(&self, signature: RewardSignature) -> Result<(), NodeError> {
        let method = "subspace_submitRewardSignature";
        self.explain(method, self.client.submit_reward_signature(signature.into()).await)
    }

    /// Says that a segment was handled.
    pub async fn acknowledge_archived_segment_header(&self, segment_index: u64) -> Result<(), NodeError> {
        let method = "subspace_acknowledgeArchivedSegmentHeader";
        self.explain(method, self.client.acknowledge_archived_segment_header(segment_index).await)
    }

    /// Headers of segments from `first` on, at most `count` (at most [`crate::SEGMENT_HEADERS_MAX`]), up to the first that the node has not.
    pub async fn segment_headers(&self, first: u64, count: u64) -> Result<Vec<SegmentHeader>, NodeError> {
        let method = "subspace_segmentHeaders";
        let indexes = (first..first.saturating_add(count)).collect();
        let found = self.explain(method, self.client.segment_headers(indexes).await)?;
        Ok(found.into_iter().map_while(|header| header.map(Into::into)).collect())
    }

    /// A piece, if the node has it at hand.
    pub async fn piece(&self, piece_index: u64) -> Result<Option<Piece>, NodeError> {
        let method = "subspace_piece";
        let Some(bytes) = self.explain(method, self.client.piece(piece_index).await)? else {
            return Ok(None);
        };
        let bad = |reason: String| NodeError::BadAnswer { url: self.url.to_string(), method, reason };
        Piece::from_bytes(bytes.0.into()).map(Some).map_err(|error| bad(error.to_string()))
    }

    fn explain<T>(&self, method: &'static str, result: Result<T, ClientError>) -> Result<T, NodeError> {
        result.map_err(|error| NodeError::of_call(&self.url, method, error))
    }
}

#[cfg(test)]
mod tests;
