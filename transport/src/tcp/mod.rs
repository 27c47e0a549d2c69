//! The protocol over TCP on the engine's executors: a [`Client`] for one peer, a [`Server`] for any number.
//!
//! ```text
//!   Client::request ─▶ Link ─▶ TLS ─▶ socket ═══ socket ─▶ TLS ─▶ Link ─▶ Handler
//!        reply ◀───────┘  payloads in slabs of the pool, both sides  └──▶ response
//! ```
//! Owns: sockets, tasks, reconnection, what a peer may hold. Never: what a request means, or which peer to ask.
//! Everything here stays on the executor where it was made.

mod answering;
mod asking;
mod client;
mod handler;
mod line;
mod link;
mod memory;
mod notify;
mod payload;
mod peer;
mod plain;
mod reply;
mod secure;
mod server;
mod serving;
mod tasks;
mod told;
mod wire;

pub use client::Client;
pub use handler::{Answer, Handler, PeerInfo};
pub use link::Received;
pub use memory::Memory;
pub use payload::{PIECE_POINTS_AT, PIECE_RECORD_AT, SlabPayload};
pub use peer::{ClientConfig, ServerPin};
pub use reply::{ClientError, Reply};
pub use server::{ServeError, Server, ServerConfig, ServerLock};
