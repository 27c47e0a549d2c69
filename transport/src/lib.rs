//! How pieces, sectors and proofs travel between the members of a cluster.
//!
//! ```text
//!   caller ── request(message, payload) ─▶ ┌────────────┐ ─▶ frames: prefix 32 B │ rkyv header │ payload
//!                                          │ Connection │
//!   caller ◀── events ── answers, payloads └────────────┘ ◀─ bytes, payload straight into the caller's buffer
//! ```
//!
//! Owns: the frame format ([`frame`]), the messages ([`message`]), the protocol between two members
//! ([`connection`]), what a peer may hold ([`budget`]), who is let in ([`places`]), who may ask what ([`rights`]), when a peer is dialled ([`dialing`]) and the resumable pull of a whole sector ([`transfer`]).
//! Never: the content of a piece or sector, or who owns which item. The core has no sockets, no clock and no
//! async code: time comes in as milliseconds since any fixed moment, and one seed replays a run.
#![deny(missing_docs)]

pub mod budget;
pub mod connection;
pub mod dialing;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod health;
pub mod limits;
pub mod message;
pub mod parse;
pub mod payload;
pub mod places;
pub mod rights;
pub mod role;
pub mod tcp;
pub mod tls;
pub mod transfer;
