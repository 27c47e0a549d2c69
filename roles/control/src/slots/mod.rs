//! Slots on their way from nodes to farms.
//!
//! ```text
//!   node ─ slot ─▶ Announcer (controller) ─ SlotInfo ─▶ bus ─▶ Listener (plot-client) ─▶ work, once a (slot, challenge)
//!                   └─ away from bus or node: withheld, for good       └─ too old by number or by age: refused
//! ```
//! Owns: which slots are announced, which are worked on and until when. Never: what the work is, or a solution.

mod announcer;
mod lateness;
mod listener;
mod recent;

pub use announcer::{Announcer, AnnouncerAction, AnnouncerEvent, NodeSlot};
pub use listener::{
    Listener, ListenerAction, ListenerEvent, MAX_CONTROLLERS, MAX_HOLD, ON_TIME, Refusal, SETTLE,
};
pub use recent::{REMEMBERED_BY_NODE, RecentSlots, SlotKey};
