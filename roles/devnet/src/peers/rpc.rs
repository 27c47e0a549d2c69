//! Methods of nodes for each other and for tests, beside those of a real node. All are in namespace `devnet`.

use std::sync::Arc;

use jsonrpsee::PendingSubscriptionSink;
use jsonrpsee::core::{RpcResult, SubscriptionResult, async_trait};
use jsonrpsee::proc_macros::rpc;
use jsonrpsee::types::ErrorObjectOwned;
use node::{ERROR_CODE, HexBytes};
use parity_scale_codec::Encode;
use tokio::task::spawn_blocking;

use super::gossip::{BLOCKS_MAX, Hello};
use super::hear;
use crate::chain::Report;
use crate::clock;
use crate::pause::ANNOUNCED_AGAIN_MAX;
use crate::shared::Shared;

/// Code of the error for blocks whose parents must be told first.
pub const BEHIND_CODE: i32 = 9002;

/// Slots that anything asked for by a test may last.
const DEMAND_SLOTS_MAX: u64 = 1024;

/// What a development node can do beside a real one.
#[rpc(server, client, namespace = "devnet")]
pub trait DevnetRpc {
    /// Who this is.
    #[method(name = "hello")]
    async fn hello(&self) -> RpcResult<Hello>;

    /// SCALE of the list of blocks behind the first `before` ones, at most `count`.
    #[method(name = "blocks")]
    async fn blocks(&self, before: u32, count: u32) -> RpcResult<HexBytes>;

    /// SCALE of the list of everything that was seen of the newest slots' solutions, and of changes of time.
    #[method(name = "seen")]
    async fn seen(&self) -> RpcResult<Vec<HexBytes>>;

    /// Hears a message, as the subscription gives them.
    #[method(name = "tell")]
    async fn tell(&self, message: HexBytes) -> RpcResult<()>;

    /// Messages of this node to its peers.
    #[subscription(name = "subscribeGossip" => "gossip", unsubscribe = "unsubscribeGossip", item = HexBytes)]
    async fn subscribe_gossip(&self) -> SubscriptionResult;

    /// The report as it is now.
    #[method(name = "report")]
    async fn report(&self) -> RpcResult<Report>;

    /// Announces nothing for `slots` slots, then the newest `burst` of them at once.
    #[method(name = "pause")]
    async fn pause(&self, slots: u64, burst: u64) -> RpcResult<()>;

    /// Announces the last `slots` slots, at most four, once more as they were.
    #[method(name = "announceAgain")]
    async fn announce_again(&self, slots: u64) -> RpcResult<()>;

    /// A reorganisation of the proof of time: the last `back` slots (at most four) are announced once more with another challenge, and
    /// all that follow differ too. Peers do the same. With `ahead` it is a fork of this node alone, for as many further slots;
    /// then the last slots are announced as all others have them.
    #[method(name = "changeTime")]
    async fn change_time(&self, back: u64, ahead: Option<u64>) -> RpcResult<()>;

    /// Neither hears peers nor tells them anything for `slots` slots: a fork, if farms win on both sides.
    #[method(name = "separate")]
    async fn separate(&self, slots: u64) -> RpcResult<()>;
}

/// The server's side.
#[derive(Debug)]
pub struct DevnetServer(pub Arc<Shared>);

fn error(code: i32, text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, text, None::<()>)
}

fn at_most(value: u64, most: u64) -> RpcResult<u64> {
    if value <= most { Ok(value) } else { Err(error(ERROR_CODE, format!("{value} slots; at most {most}"))) }
}

impl DevnetServer {
    fn check_reachable(&self) -> RpcResult<()> {
        if self.0.is_separated() { Err(error(ERROR_CODE, "this node is separated")) } else { Ok(()) }
    }
}

#[async_trait]
impl DevnetRpcServer for DevnetServer {
    async fn hello(&self) -> RpcResult<Hello> {
        self.check_reachable()?;
        Ok(self.0.hello())
    }

    async fn blocks(&self, before: u32, count: u32) -> RpcResult<HexBytes> {
        self.check_reachable()?;
        let shared = Arc::clone(&self.0);
        let read = move || shared.store.read_blocks(before as usize, BLOCKS_MAX.min(count as usize));
        let blocks = spawn_blocking(read).await.expect("reading does not panic");
        blocks.map(|blocks| HexBytes(blocks.encode())).map_err(|failure| {
            tracing::error!(%failure, before, "cannot serve blocks");
            error(ERROR_CODE, failure.to_string())
        })
    }

    async fn seen(&self) -> RpcResult<Vec<HexBytes>> {
        self.check_reachable()?;
        Ok(self.0.all_seen().iter().map(super::Gossip::to_hex).collect())
    }

    async fn tell(&self, message: HexBytes) -> RpcResult<()> {
        // In a task of its own: what has begun to change the chain must end, whether the caller is still there or not.
        let shared = Arc::clone(&self.0);
        let heard = tokio::spawn(async move { hear(&shared, &message.0).await });
        let heard = heard.await.map_err(|failure| error(ERROR_CODE, failure.to_string()))?;
        heard.map(drop).map_err(|failure| {
            let code = if failure.is_behind() { BEHIND_CODE } else { ERROR_CODE };
            error(code, failure.to_string())
        })
    }

    async fn subscribe_gossip(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        self.0.gossip.serve(pending).await;
        Ok(())
    }

    async fn report(&self) -> RpcResult<Report> {
        Ok(self.0.chain().report().clone())
    }

    async fn pause(&self, slots: u64, burst: u64) -> RpcResult<()> {
        let slots = at_most(slots, DEMAND_SLOTS_MAX)?;
        self.0.pause(slots, at_most(burst, slots)?);
        Ok(())
    }

    async fn announce_again(&self, slots: u64) -> RpcResult<()> {
        clock::announce_newest(&self.0, at_most(slots, ANNOUNCED_AGAIN_MAX)?);
        Ok(())
    }

    async fn change_time(&self, back: u64, ahead: Option<u64>) -> RpcResult<()> {
        let ahead = ahead.map(|ahead| at_most(ahead, DEMAND_SLOTS_MAX)).transpose()?;
        clock::change_time(&self.0, at_most(back, ANNOUNCED_AGAIN_MAX)?, ahead);
        Ok(())
    }

    async fn separate(&self, slots: u64) -> RpcResult<()> {
        self.0.separate(at_most(slots, DEMAND_SLOTS_MAX)?);
        Ok(())
    }
}
