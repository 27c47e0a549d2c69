//! The record layer of TLS 1.3 (RFC 8446, chapter 5), from the end of rustls' handshake on.
//!
//! ```text
//!   slab ── plaintext ─▶ Sealer ─▶ records in the send buffer        AES-GCM reads one memory and writes the other:
//!   slab ◀─ plaintext ── Opener ◀─ records in the receive buffer     no byte is copied besides
//! ```
//!
//! What rustls did for these bytes and is done here: nonces, the length and type of each record, padding, alerts, changes of
//! key. What it still does: the handshake, certificates, and the key that follows a key.
//!
//! A record is opened whole or not at all, in the order it was sealed: one that was changed, left out, repeated or put
//! elsewhere fails, and after one failure nothing more is opened. Owns: the records of one connection. Never: sockets, a
//! clock, a certificate, or what the plaintext means.

mod format;
mod key;
mod opener;
mod sealer;

pub use format::{DATA, RecordError};
pub use key::Key;
pub use opener::{Opened, Opener};
pub use sealer::{RECORDS_A_KEY, Sealer};

pub(super) use format::record_bytes;

#[cfg(test)]
mod tests;
