//! The protocol over TCP on the engine's executors: a [`Client`] for one peer, a [`Server`] for any number.
//!
//! ```text
//!   Client::request ─▶ Link ─▶ TLS ─▶ socket ═══ socket ─▶ TLS ─▶ Link ─▶ Handler
//!        reply ◀───────┘  payloads in slabs of the pool, both sides  └──▶ response
//! ```
//! Owns: sockets, tasks, reconnection. Never: what a request means, retries of requests, or which peer to ask.
//! Everything here stays on the executor where it was made.

mod asking;
mod client;
mod line;
mod link;
mod notify;
mod payload;
mod peer;
mod reply;
mod server;
mod tasks;
mod wire;

pub use client::Client;
pub use link::Received;
pub use payload::{PIECE_POINTS_AT, PIECE_RECORD_AT, SlabPayload};
pub use peer::{ClientConfig, ServerPin};
pub use reply::{ClientError, Reply};
pub use server::{Answer, Handler, MAX_CONNECTIONS, PeerInfo, ServeError, Server, ServerConfig, ServerLock};
