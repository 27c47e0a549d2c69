//! A plot-server with its real encoder and sockets; the test gives it pieces and plays the plot-client.

#![allow(clippy::unwrap_used, reason = "tests")]

mod client;
mod flow;
#[cfg(feature = "kernel-shim")]
mod gpus;
mod pieces;
