//! Bad input as an operator meets it: the real binary must say in clear words what is wrong, and lose nothing.
//! `docs/BAD_INPUT.md` lists every kind of bad input with its test.

#![allow(clippy::unwrap_used, reason = "tests")]

mod caches;
#[allow(dead_code, reason = "shared with the tests of the development node")]
#[path = "../../../shared_tests/chain.rs"]
mod chain;
mod cluster;
mod confined;
mod disks;
mod farm;
mod farms;
mod flags;
mod kzg;
#[allow(dead_code, reason = "shared with the foul days")]
#[path = "../../../shared_tests/loop_disk.rs"]
mod loop_disk;
mod nats;
#[allow(dead_code, reason = "shared with the tests of the bus")]
#[path = "../../../shared_tests/nats_cluster.rs"]
mod nats_cluster;
#[allow(dead_code, reason = "shared with the tests of the bus")]
#[path = "../../../shared_tests/nats_server.rs"]
mod nats_server;
mod node;
#[path = "../../../shared_tests/plotted.rs"]
mod plotted;
mod process;
#[path = "../../../shared_tests/stored_chain.rs"]
mod stored_chain;
mod tools;
