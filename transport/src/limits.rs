//! What a peer may cost: every limit of the wire in one place, with its reason.
//!
//! | what | limit | why this much |
//! |---|---|---|
//! | header of a frame | 4 KiB | [`crate::frame::MAX_HEADER_BYTES`]: the longest message has 2 KiB of text |
//! | payload of a frame | 2 MiB | [`crate::frame::MAX_PAYLOAD_BYTES`]: one slab |
//! | requests of a connection at once | 64 | [`crate::connection::Config`]: a window for 20 ms of path at 3 GiB/s; 64 headers are 256 KiB |
//! | slabs of all peers together | [`crate::tcp::ServerConfig::slabs`] | what the role keeps for serving |
//! | slabs of one peer | as many as are left free | so one takes half at most, two a third each, and somebody new always finds one |
//! | slabs of peers on trial together | half | peers that have not yet taken [`TRIAL_PAYLOADS`]: however many hang, half is left for those that do not |
//! | a payload, either way | [`PAYLOAD_GRACE_MS`] and its bytes at [`LEAST_BYTES_PER_S`] | 13 s for 2 MiB; who is slower is retired |
//! | wait for a slab for a request's payload | [`SLAB_WAIT_MS`] | then it is read past and refused: what is behind it goes on |
//! | work for a request | [`REQUEST_MAX_MS`] | requests without an end of their own end too |
//! | answer to a cancel | [`CANCEL_MS`] | longer than any payload that may be on its way before it |
//! | slabs of a request taken back at work | [`CANCEL_LINGER_MS`] | a read that a disk has begun goes on without the request |
//! | unanswered requests of a connection | [`TIMEOUTS_MAX`], [`TIMEOUTS_APART_MS`] apart | once is bad luck; then it is retired |
//! | connections before their hello | [`STRANGERS_MAX`], [`STRANGER_MS`] each | 160 KiB each: 10 MiB, whoever comes |
//! | connections of one peer | [`CONNECTIONS_PER_PEER`] | one an executor today, four by bandwidth later; the older go |
//! | connections of all peers | [`CONNECTIONS_MAX`] | each is 160 KiB and three tasks: 160 MiB |
//!
//! A connection is closed when it breaks a limit, and nobody else notices.

/// Time for a payload beyond that of its bytes: a few lost packets, a busy machine.
pub const PAYLOAD_GRACE_MS: u64 = 5000;
/// Least rate of a payload: 2 Mbit/s, far below any link that a sector of 1 GiB is carried over.
pub const LEAST_BYTES_PER_S: u64 = 256 << 10;
/// A payload that comes with a request waits so long for memory: longer than others need to give a slab back on a good day.
pub const SLAB_WAIT_MS: u64 = 250;
/// Longest work for one request: a controller rebuilds a segment for three minutes.
pub const REQUEST_MAX_MS: u64 = 600_000;
/// A peer that does not end a request taken back is wedged.
pub const CANCEL_MS: u64 = 30_000;
/// What a request at work has keeps counting for so long after it was taken back: a read of 2 MiB from a busy hard disk.
pub const CANCEL_LINGER_MS: u64 = 100;
/// Requests in a row that ran out of time before their connection is retired.
pub const TIMEOUTS_MAX: u32 = 3;
/// Requests that run out of time within this time count as one.
pub const TIMEOUTS_APART_MS: u64 = 500;
/// Connections that have not said who they are.
pub const STRANGERS_MAX: usize = 64;
/// Time for saying it: TLS takes three trips and milliseconds of CPU.
pub const STRANGER_MS: u64 = 2000;
/// Connections of one peer.
pub const CONNECTIONS_PER_PEER: usize = 8;
/// Connections of all peers.
pub const CONNECTIONS_MAX: usize = 1024;
/// Payloads that a peer takes on trial: more than the 10 MiB that the kernel's buffers take for one that reads nothing.
pub const TRIAL_PAYLOADS: u32 = 16;
/// The same for one that was retired for its slowness.
pub const TRIAL_AFTER_RETIREMENT: u32 = 64;
/// Peers whose standing is remembered while they have nothing.
pub const PEERS_MAX: usize = 4096;
/// What an address has before the next one is tried beside it (RFC 8305).
pub const HEAD_START_MS: u64 = 250;
/// A tick that comes so late says that this machine stood still, and nothing about the peer.
pub const STOOD_STILL_MS: u64 = 1000;

/// Time that a payload of `bytes` may take.
pub const fn payload_ms(bytes: u64, grace_ms: u64, bytes_per_s: u64) -> u64 {
    grace_ms + bytes.saturating_mul(1000) / bytes_per_s
}

// A cancel's answer may wait behind a payload.
const _: () = assert!(
    CANCEL_MS > payload_ms(crate::frame::MAX_PAYLOAD_BYTES as u64, PAYLOAD_GRACE_MS, LEAST_BYTES_PER_S)
);
