//! Reward signatures: a node wants a hash signed, within half a second, by a key whose solution it was given.
//!
//! ```text
//!   node ─▶ Asking (controller) ─ RewardSigningRequest, again and again ─▶ Signatory (plot-client) ─▶ the key's store on disk
//!   node ◀─ Asking ◀──────────────── SigningAnswer ─────────────────────── Signatory ◀─ durable ────┘
//! ```
//! Both sides keep to the same window, each for itself: a hash is asked for, and signed, only while a solution of that key
//! may be with that node. So a controller gets no more signatures than its solutions can need, and who cannot name a controller
//! that has one gets none. Whoever reads the bus can: it is NATS that must keep strangers out.

mod asking;
mod signatory;

pub use asking::{
    ASK_EVERY, Action as AskingAction, Asking, Event as AskingEvent, NODE_PATIENCE, Outcome, Wanted,
};
pub use signatory::{
    Action as SignatoryAction, Event as SignatoryEvent, HASHES_PER_SOLUTION, Signatory, Stored,
};

use std::time::Duration;

/// How long after a solution was handed over its key may be asked for signatures. A node signs 4 to 8 s after the slot began, and a
/// solution is at most one farming timeout, 4 s, old when it is handed over.
pub const WINDOW: Duration = Duration::from_secs(15);
/// So long after a solution was handed over its signature is no longer expected by whoever is to end.
pub const QUIET_AFTER: Duration = Duration::from_secs(10);
/// A block's hash follows its vote's within this, once the block is proposed: whoever is to end waits for it.
pub const SECOND_HASH_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod asking_tests;
#[cfg(test)]
mod signatory_tests;
