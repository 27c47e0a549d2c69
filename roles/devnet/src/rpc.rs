//! Answers to farmers.

use std::net::SocketAddr;
use std::sync::Arc;

use consensus::piece::PieceIndex;
use jsonrpsee::PendingSubscriptionSink;
use jsonrpsee::core::{RpcResult, SubscriptionResult, async_trait};
use jsonrpsee::server::{BatchRequestConfig, Server, ServerConfig, ServerHandle};
use jsonrpsee::types::ErrorObjectOwned;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::peers::gossip::Gossip;
use super::peers::rpc::{DevnetRpcServer, DevnetServer};
use super::shared::Shared;
use node::{
    ERROR_CODE, FarmerAppInfo, HexBytes, NodeRpcServer, PIECES_IN_FLIGHT_MAX, RewardSignatureAnswer,
    SEGMENT_HEADERS_MAX, SegmentHeaderJson, SolutionResponse, UNSAFE_ERROR, UNSAFE_ERROR_CODE,
};

const CONNECTIONS_MAX: u32 = 128;
const SUBSCRIPTIONS_PER_CONNECTION_MAX: u32 = 16;
/// Longest request (bytes): a solution has 2 KB, a thousand segment indexes 22 KB.
const REQUEST_SIZE_MAX: u32 = 1 << 20;
/// Longest answer (bytes): a piece in hex has 2 MB.
const RESPONSE_SIZE_MAX: u32 = 4 << 20;
/// Messages that wait for a connection; while they do, no request is read from it.
const MESSAGES_QUEUED_MAX: u32 = 64;

/// The server's side of the node's methods.
#[derive(Debug)]
struct Rpc {
    shared: Arc<Shared>,
    /// Pieces in memory.
    pieces: Semaphore,
}

/// Serves farmers on `listen` until the handle says to stop. Gives the address too, whose port the system may have chosen.
pub async fn serve(listen: SocketAddr, shared: Arc<Shared>) -> std::io::Result<(SocketAddr, ServerHandle)> {
    let config = ServerConfig::builder()
        .max_connections(CONNECTIONS_MAX)
        .max_subscriptions_per_connection(SUBSCRIPTIONS_PER_CONNECTION_MAX)
        .max_request_body_size(REQUEST_SIZE_MAX)
        .max_response_body_size(RESPONSE_SIZE_MAX)
        .set_message_buffer_capacity(MESSAGES_QUEUED_MAX)
        .set_batch_request_config(BatchRequestConfig::Disabled)
        .set_tcp_no_delay(true)
        .build();
    let server = Server::builder().set_config(config).build(listen).await?;
    let address = server.local_addr()?;
    let peers = DevnetServer(Arc::clone(&shared)).into_rpc();
    let mut methods = Rpc { shared, pieces: Semaphore::new(PIECES_IN_FLIGHT_MAX) }.into_rpc();
    methods.merge(peers).expect("names of methods differ");
    Ok((address, server.start(methods)))
}

fn error(text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(ERROR_CODE, text, None::<()>)
}

impl Rpc {
    fn check_unsafe(&self) -> RpcResult<()> {
        if self.shared.is_unsafe_allowed() {
            Ok(())
        } else {
            Err(ErrorObjectOwned::owned(UNSAFE_ERROR_CODE, UNSAFE_ERROR, None::<()>))
        }
    }
}

#[async_trait]
impl NodeRpcServer for Rpc {
    async fn farmer_app_info(&self) -> RpcResult<FarmerAppInfo> {
        Ok(self.shared.farmer_app_info())
    }

    async fn submit_solution_response(&self, response: SolutionResponse) -> RpcResult<()> {
        self.check_unsafe()?;
        let SolutionResponse { slot_number, solution } = response;
        let outcome = self.shared.chain().submit(slot_number, solution.into());
        let sighting = outcome.map_err(|ignored| error(ignored.to_string()))?;
        self.shared.submitted.notify_one();
        if let Some(sighting) = sighting {
            self.shared.tell(&Gossip::Sightings(vec![sighting]));
        }
        Ok(())
    }

    async fn subscribe_slot_info(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        self.shared.slot_subscribers.serve(pending).await;
        Ok(())
    }

    async fn subscribe_reward_signing(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        // The network's node drops the request unanswered, which its server makes an internal error of.
        if self.shared.is_unsafe_allowed() {
            self.shared.signing_subscribers.serve(pending).await;
        }
        Ok(())
    }

    async fn submit_reward_signature(&self, answer: RewardSignatureAnswer) -> RpcResult<()> {
        self.check_unsafe()?;
        // Without a signature it says that this farmer has none; another may.
        if let Some(signature) = answer.signature {
            self.shared.chain().sign(&answer.hash, &signature);
            self.shared.signed.notify_one();
        }
        Ok(())
    }

    async fn subscribe_archived_segment_header(
        &self,
        pending: PendingSubscriptionSink,
    ) -> SubscriptionResult {
        if let Some(subscriber) = self.shared.segment_subscribers.serve(pending).await {
            self.shared.acknowledgements().forget(subscriber);
            self.shared.acknowledged.notify_one();
        }
        Ok(())
    }

    async fn acknowledge_archived_segment_header(&self, segment_index: u64) -> RpcResult<()> {
        self.check_unsafe()?;
        self.shared.acknowledgements().acknowledge(segment_index);
        self.shared.acknowledged.notify_one();
        Ok(())
    }

    async fn segment_headers(&self, segment_indexes: Vec<u64>) -> RpcResult<Vec<Option<SegmentHeaderJson>>> {
        if segment_indexes.len() > SEGMENT_HEADERS_MAX {
            return Err(error(format!("segment_indexes length exceed the limit {SEGMENT_HEADERS_MAX}")));
        }
        let chain = self.shared.chain();
        let header = |index: u64| chain.headers().get(usize::try_from(index).ok()?);
        Ok(segment_indexes.into_iter().map(|index| header(index).map(Into::into)).collect())
    }

    async fn last_segment_headers(&self, limit: u32) -> RpcResult<Vec<Option<SegmentHeaderJson>>> {
        if limit as usize > SEGMENT_HEADERS_MAX {
            return Err(error(format!(
                "Request limit ({limit}) exceed the server limit: {SEGMENT_HEADERS_MAX} "
            )));
        }
        let chain = self.shared.chain();
        let headers = chain.headers();
        let newest = &headers[headers.len().saturating_sub(limit as usize)..];
        Ok(newest.iter().map(|header| Some(header.into())).collect())
    }

    async fn piece(&self, piece_index: u64) -> RpcResult<Option<HexBytes>> {
        self.check_unsafe()?;
        let index = PieceIndex(piece_index);
        if !self.shared.is_piece_at_hand(index) {
            return Ok(None);
        }
        let _permit = self.pieces.acquire().await.expect("never closed");
        let shared = Arc::clone(&self.shared);
        let piece =
            spawn_blocking(move || shared.store.read_piece(index)).await.expect("reading does not panic");
        piece.map(|bytes| Some(HexBytes(bytes))).map_err(|failure| {
            tracing::error!(%failure, piece_index, "cannot serve a piece");
            error(failure.to_string())
        })
    }
}
