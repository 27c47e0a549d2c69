//! Roles as processes of their own, on a real NATS server, started by the lines operators have.

#![allow(clippy::unwrap_used, reason = "tests")]

mod caches;
#[allow(dead_code, reason = "shared with the tests of the bus")]
#[path = "../../../shared_tests/nats_server.rs"]
mod nats_server;
mod plot_server;
mod process;
mod proof_server;
