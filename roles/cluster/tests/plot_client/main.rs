//! A plot-client on the in-process bus, with real sockets, disks and proofs; the test is its plot-server and its controllers.

#![allow(clippy::unwrap_used, reason = "tests")]

mod damage;
mod farming;
mod fleet;
mod house;
mod library;
mod staging;
