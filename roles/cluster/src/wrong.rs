//! Items that come with bytes that fail their own hash: told, and told to whoever gave them.
//!
//! ```text
//!   reader ── bytes fail their hash ─▶ another member is asked, this one passed over for a while
//!       └── Invalidation ─▶ the cache that gave them reads its slot ── damaged ─▶ dropped, and refilled
//! ```
//! Owns: that message. Never: whether it is true. A cache believes its disk alone, and nobody can have it drop a piece that is whole; parity it
//! just makes anew.

use control::ids::InstanceId;
use control::messages::{Control, Invalidation, ItemKind, subjects};

use crate::host::{Host, HostError};

/// After each request for an item: tells if what came is wrong, and in the log when the member `begins` to be passed over for it.
pub async fn tell<T>(host: &Host, item: (ItemKind, u64), asked: &Result<T, HostError>, begins: bool) {
    let Err(error @ HostError::Damaged { peer, .. }) = asked else { return };
    if begins {
        let (kind, index) = item;
        let what = if kind == ItemKind::Piece { "piece" } else { "parity of piece" };
        tracing::warn!("{what} {index}: {error}; others are asked, and it is for a while not");
    }
    complain(host, item, *peer).await;
}

/// Tells a cache that it gave an item wrongly.
pub async fn complain(host: &Host, (kind, piece_index): (ItemKind, u64), holder: InstanceId) {
    let Ok(message) = (Invalidation { kind, piece_index, holder }).to_bytes() else { return };
    if let Err(error) = host.bus().publish(subjects::INVALIDATION, message).await {
        tracing::debug!("{error}");
    }
}

/// The item that this cache is said to have given wrongly, if the message says so of this one.
pub fn named(message: &[u8], me: InstanceId) -> Option<(ItemKind, u64)> {
    let Invalidation { kind, piece_index, holder } = Invalidation::from_bytes(message).ok()?;
    (holder == me).then_some((kind, piece_index))
}
