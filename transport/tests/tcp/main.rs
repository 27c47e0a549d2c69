//! Clients and servers over real sockets on real executors.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod faults;
mod hostile;
mod house;
mod pull;
mod serve;
mod who;
