//! The protocol between two connections over a simulated stream. One seed replays a run.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod faults;
mod net;
mod pace;
mod pull;
mod traffic;
