//! What a farmer and its node say to each other: JSON-RPC over WebSocket.
//!
//! ```text
//!  node ── slot info ───────────────────▶ farmer          farmer ── solution ──▶ node   (null: queued, not accepted)
//!  node ── hash to sign ────────────────▶ farmer          farmer ── signature ─▶ node   (within half a second)
//!  node ── header of a new segment ─────▶ farmer          farmer ── acknowledgement ─▶ node
//! ```
//!
//! Hex has no `0x`; numbers are JSON numbers, up to 64 bits of them.
//!
//! Owns: names of methods, shapes of their JSON, codes of their errors, and where the KZG setup of the node's chain lies. The network's node fixed all of them.
//! Never: what a node or a farmer does with them.

pub mod client;
pub mod kzg_setup;
mod types;

use jsonrpsee::core::{RpcResult, SubscriptionResult};
use jsonrpsee::proc_macros::rpc;

pub use types::{
    FarmerAppInfo, HexBytes, InvalidSolution, ProtocolInfoJson, RewardSignature, RewardSignatureAnswer,
    RewardSigning, SegmentHeaderJson, SlotInfo, SolutionJson, SolutionResponse,
};

/// Code of every error that these methods make themselves; the text tells which.
pub const ERROR_CODE: i32 = 9001;

/// Text of the error for a solution that was not even queued.
pub const SOLUTION_IGNORED: &str = "Solution was ignored";

/// Code of the error for a method that needs `--rpc-methods unsafe` on a node without it.
pub const UNSAFE_ERROR_CODE: i32 = -32601;
/// Code with which a server refuses a connection's subscription that is one too many.
pub const TOO_MANY_SUBSCRIPTIONS_CODE: i32 = -32006;

/// Text of that error.
pub const UNSAFE_ERROR: &str = "RPC call is unsafe to be called externally";

/// Most segment headers asked for at a time.
pub const SEGMENT_HEADERS_MAX: usize = 1000;

/// Most requests for pieces a farmer keeps in flight on a connection.
pub const PIECES_IN_FLIGHT_MAX: usize = 10;

/// The methods of a node that farmers use.
#[rpc(server, client, namespace = "subspace")]
pub trait NodeRpc {
    /// What a farmer needs to know before anything else.
    #[method(name = "getFarmerAppInfo")]
    async fn farmer_app_info(&self) -> RpcResult<FarmerAppInfo>;

    /// Hands in a solution. An answer without error says that it is queued; whether it is accepted is never told.
    #[method(name = "submitSolutionResponse")]
    async fn submit_solution_response(&self, response: SolutionResponse) -> RpcResult<()>;

    /// Every slot as it begins.
    #[subscription(name = "subscribeSlotInfo" => "slot_info", unsubscribe = "unsubscribeSlotInfo", item = SlotInfo)]
    async fn subscribe_slot_info(&self) -> SubscriptionResult;

    /// Hashes of blocks and votes that await the signature of a farm.
    #[subscription(
        name = "subscribeRewardSigning" => "reward_signing",
        unsubscribe = "unsubscribeRewardSigning",
        item = RewardSigning,
    )]
    async fn subscribe_reward_signing(&self) -> SubscriptionResult;

    /// Hands in the signature of a hash, or the word that there is none.
    #[method(name = "submitRewardSignature")]
    async fn submit_reward_signature(&self, signature: RewardSignatureAnswer) -> RpcResult<()>;

    /// Headers of segments as they are archived. Each one wants to be acknowledged on the same node.
    #[subscription(
        name = "subscribeArchivedSegmentHeader" => "archived_segment_header",
        unsubscribe = "unsubscribeArchivedSegmentHeader",
        item = SegmentHeaderJson,
    )]
    async fn subscribe_archived_segment_header(&self) -> SubscriptionResult;

    /// Says that the header of a segment was handled.
    #[method(name = "acknowledgeArchivedSegmentHeader")]
    async fn acknowledge_archived_segment_header(&self, segment_index: u64) -> RpcResult<()>;

    /// Headers of segments by index, in the order asked for, null where there is none.
    #[method(name = "segmentHeaders")]
    async fn segment_headers(&self, segment_indexes: Vec<u64>) -> RpcResult<Vec<Option<SegmentHeaderJson>>>;

    /// Headers of the newest segments, oldest first.
    #[method(name = "lastSegmentHeaders")]
    async fn last_segment_headers(&self, limit: u32) -> RpcResult<Vec<Option<SegmentHeaderJson>>>;

    /// A piece of the newest segment or of the first one, null when the node has it not at hand.
    #[method(name = "piece")]
    async fn piece(&self, piece_index: u64) -> RpcResult<Option<HexBytes>>;
}
