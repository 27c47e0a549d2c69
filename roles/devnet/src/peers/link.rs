//! The connection to one peer, made again for ever.
//!
//! | state | left when |
//! |---|---|
//! | away | a connection is made, the peer has our chain, and chains are compared |
//! | linked | the connection breaks, or what the peer says is no use |
//!
//! Each change is one line in the log.

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::ClientError;
use jsonrpsee::ws_client::{PingConfig, WsClient, WsClientBuilder};
use node::HexBytes;
use parity_scale_codec::DecodeAll;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::gossip::Hello;
use super::rpc::{BEHIND_CODE, DevnetRpcClient};
use super::{BLOCKS_MAX, Gossip, HearError, hear};
use crate::chain::Block;
use crate::importing::import_of_peer;
use crate::shared::Shared;
use crate::store::StoreError;

/// Time for a connection to be made, and for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest message from a peer (bytes): blocks in hex have 0.5 MB.
const ANSWER_SIZE_MAX: u32 = 4 << 20;
/// Messages of the peer that wait; behind that the link begins anew.
const MESSAGES_QUEUED_MAX: usize = 256;
const PING_INTERVAL: Duration = Duration::from_secs(2);
const SILENCE_MAX: Duration = Duration::from_secs(6);
/// Pause before the next try, and where trying changes nothing until somebody does something.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// How often chains are compared before they count as apart: both may change meanwhile.
const SYNC_ATTEMPTS: usize = 4;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("it cannot be reached ({0}); tried until it can")]
    Call(#[from] ClientError),
    #[error("the connection was lost; tried until it is back")]
    Lost,
    #[error(
        "it is a node of another chain: its genesis is {theirs}, ours is {ours}; \
         make both from the same files with the same flags, or leave this --peer out"
    )]
    OtherChain { theirs: String, ours: String },
    #[error(
        "its chain began at {theirs_ms} ms with {theirs_segments} segments, ours at {ours_ms} ms with {ours_segments}: \
         give both the same --genesis-time-ms and --segments, or start one with --peer and an empty base path"
    )]
    OtherStart { theirs_ms: u64, theirs_segments: u64, ours_ms: u64, ours_segments: u64 },
    #[error("it is this node itself; leave this --peer out")]
    Itself,
    #[error(
        "it follows a branch that left ours before block {0}, which is final here; \
         start one of both with an empty base path"
    )]
    Apart(u32),
    #[error("what it says is no use: {0}")]
    Useless(#[from] HearError),
    #[error("its blocks cannot be read: {0}")]
    Unreadable(#[from] parity_scale_codec::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a task ended by a panic: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl LinkError {
    fn pause(&self) -> Duration {
        match self {
            Self::Call(_) | Self::Lost => RETRY_PAUSE,
            _ => REFUSED_PAUSE,
        }
    }
}

/// Keeps the link to the peer at `url` up. Ends never.
pub async fn keep(shared: Arc<Shared>, url: String) {
    let mut told = None;
    let mut link = Link { shared: &shared, url: &url, is_first: true };
    loop {
        let error = match link.run(&mut told).await {
            Ok(()) => LinkError::Lost,
            Err(error) => error,
        };
        let line = error.to_string();
        if told.as_ref() != Some(&line) {
            tracing::warn!("no link to peer {url}: {line}");
            told = Some(line);
        }
        link.tried();
        sleep(error.pause()).await;
    }
}

struct Link<'a> {
    shared: &'a Arc<Shared>,
    url: &'a str,
    /// Whether nothing has come of the first try yet: so long the node begins no slot, lest it leave the chain it will find.
    is_first: bool,
}

impl Link<'_> {
    fn tried(&mut self) {
        if std::mem::take(&mut self.is_first) {
            self.shared.link_tried();
        }
    }

    async fn run(&mut self, told: &mut Option<String>) -> Result<(), LinkError> {
        let client = connect(self.url).await?;
        let mut from_peer = client.subscribe_gossip().await?;
        let (_, mut to_peer) = self.shared.gossip.subscribe();
        let mut resync = self.shared.resync.subscribe();
        sync(self.shared, &client).await?;
        self.tried();
        *told = None;
        tracing::info!("linked to peer {}", self.url);
        loop {
            let is_behind = tokio::select! {
                message = from_peer.next() => heard(self.shared, message).await?,
                message = to_peer.recv() => {
                    let message = message.ok_or(LinkError::Lost)?;
                    tell(&client, &serde_json::from_str(message.get()).expect("made here")).await?
                }
                changed = resync.changed() => { changed.map_err(|_| LinkError::Lost)?; true }
            };
            if is_behind && !self.shared.is_separated() {
                sync(self.shared, &client).await?;
            }
        }
    }
}

async fn connect(url: &str) -> Result<WsClient, ClientError> {
    let ping = PingConfig::new().ping_interval(PING_INTERVAL).inactive_limit(SILENCE_MAX);
    WsClientBuilder::new()
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(ANSWER_TIMEOUT)
        .max_response_size(ANSWER_SIZE_MAX)
        .max_buffer_capacity_per_subscription(MESSAGES_QUEUED_MAX)
        .enable_ws_ping(ping)
        .build(url)
        .await
}

/// What the peer says of its chain, if it can be asked at once.
pub async fn hello(url: &str) -> Option<Hello> {
    connect(url).await.ok()?.hello().await.ok()
}

/// Takes a message of the peer; whether chains should be compared.
async fn heard(
    shared: &Arc<Shared>,
    message: Option<Result<HexBytes, serde_json::Error>>,
) -> Result<bool, LinkError> {
    let Some(Ok(HexBytes(bytes))) = message else { return Err(LinkError::Lost) };
    match hear(shared, &bytes).await {
        Err(error) if error.is_behind() => Ok(true),
        heard => Ok(heard?),
    }
}

/// Tells the peer; whether chains should be compared first.
async fn tell(client: &WsClient, message: &HexBytes) -> Result<bool, LinkError> {
    match client.tell(message.clone()).await {
        Err(ClientError::Call(error)) if error.code() == BEHIND_CODE => Ok(true),
        told => Ok(told.map(|()| false)?),
    }
}

/// Brings both sides to the same branch, and to know of the same solutions.
async fn sync(shared: &Arc<Shared>, client: &WsClient) -> Result<(), LinkError> {
    for _ in 0..SYNC_ATTEMPTS {
        let (ours, theirs) = (shared.hello(), client.hello().await?);
        check(&ours, &theirs)?;
        for HexBytes(message) in client.seen().await? {
            hear(shared, &message).await?;
        }
        for message in shared.all_seen() {
            client.tell(message.to_hex()).await?;
        }
        if ours.tip_hash == theirs.tip_hash
            || (pull(shared, client).await? && push(shared, client, theirs.final_blocks).await?)
        {
            return Ok(());
        }
    }
    Err(LinkError::Apart(shared.hello().final_blocks))
}

fn check(ours: &Hello, theirs: &Hello) -> Result<(), LinkError> {
    if ours.genesis_hash != theirs.genesis_hash {
        let [theirs, ours] = [theirs, ours].map(|hello| hex::encode(hello.genesis_hash));
        return Err(LinkError::OtherChain { theirs, ours });
    }
    let start = |hello: &Hello| (hello.genesis_time_ms, hello.segments_at_start);
    let ((theirs_ms, theirs_segments), (ours_ms, ours_segments)) = (start(theirs), start(ours));
    if (theirs_ms, theirs_segments) != (ours_ms, ours_segments) {
        return Err(LinkError::OtherStart { theirs_ms, theirs_segments, ours_ms, ours_segments });
    }
    if ours.node == theirs.node { Err(LinkError::Itself) } else { Ok(()) }
}

/// Takes the peer's blocks behind our final ones. False when they do not continue those: somebody has gone on meanwhile, or both
/// are apart.
async fn pull(shared: &Arc<Shared>, client: &WsClient) -> Result<bool, LinkError> {
    let mut before = shared.hello().final_blocks;
    loop {
        let HexBytes(bytes) = client.blocks(before, BLOCKS_MAX as u32).await?;
        let blocks = Vec::<Block>::decode_all(&mut &bytes[..])?;
        let count = blocks.len();
        if count > BLOCKS_MAX {
            return Err(HearError::TooMany(count).into());
        }
        match import_of_peer(shared, blocks).await.map_err(HearError::from) {
            Err(error) if error.is_behind() => return Ok(false),
            imported => imported?,
        }
        before = before.saturating_add(count as u32);
        if count < BLOCKS_MAX {
            return Ok(true);
        }
    }
}

/// Gives our blocks behind the peer's final ones. False when they do not continue those.
async fn push(shared: &Arc<Shared>, client: &WsClient, final_blocks: u32) -> Result<bool, LinkError> {
    let mut before = final_blocks as usize;
    loop {
        let reader = Arc::clone(shared);
        let blocks = spawn_blocking(move || reader.store.read_blocks(before, BLOCKS_MAX)).await??;
        let count = blocks.len();
        if count > 0 && tell(client, &Gossip::Blocks(blocks).to_hex()).await? {
            return Ok(false);
        }
        before += count;
        if count < BLOCKS_MAX {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_another_chain_is_told_so() {
        let ours = Hello {
            genesis_hash: [1; 32],
            genesis_time_ms: 5,
            segments_at_start: 1,
            node: 1,
            final_blocks: 0,
            tip_hash: [2; 32],
        };
        let refusal = |theirs: &Hello| check(&ours, theirs).unwrap_err().to_string();
        let peer = Hello { node: 2, tip_hash: [3; 32], final_blocks: 9, ..ours.clone() };
        assert!(check(&ours, &peer).is_ok());
        let other = refusal(&Hello { genesis_hash: [7; 32], ..peer.clone() });
        assert!(other.contains(&"07".repeat(32)) && other.contains("another chain"), "{other}");
        let other = refusal(&Hello { genesis_time_ms: 6, ..peer.clone() });
        assert!(other.contains("at 6 ms") && other.contains("--genesis-time-ms"), "{other}");
        assert!(refusal(&ours).contains("this node itself"));
    }
}
