//! The command `dev-node` as a process.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "shared with the tests of the development node")]
#[path = "../../../shared_tests/chain.rs"]
mod chain;
mod process;
#[path = "../../../shared_tests/stored_chain.rs"]
mod stored_chain;
