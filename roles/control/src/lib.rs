//! What a cluster decides, and the words in which its members speak: no socket, no file, no clock, no randomness, no `async`.
//!
//! ```text
//!   bus message, disk answer, time ─▶ event ─▶ machine ─▶ actions ─▶ bus, node, disk          (the runners translate)
//! ```
//!
//! Owns: the decisions of every flow as a machine (events in, actions out), the control messages and their envelope, ids, and who owns which item.
//! Never: waits, or does anything.
#![deny(missing_docs)]

pub mod envelope;
pub mod epochs;
pub mod fleet;
pub mod holder;
pub mod holdings;
pub mod ids;
pub mod lease;
pub mod members;
pub mod messages;
pub mod moves;
pub mod names;
pub mod plot_jobs;
pub mod plot_server;
pub mod rebuild;
pub mod refill;
pub mod rendezvous;
mod retry;
pub mod segments;
pub mod settings;
pub mod signing;
pub mod slots;
pub mod solutions;
pub mod store;
