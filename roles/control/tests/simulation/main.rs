//! Controllers, plot-clients, plot-servers and caches as their machines, in a world of simulated bus, nodes, disks and clocks:
//! one thread, one seed a run.
#![allow(clippy::unwrap_used, reason = "tests")]

mod by_books;
mod by_core;
mod by_jetstream;
mod by_node;
mod by_others;
mod cache;
mod checks;
mod controller;
mod disk;
mod faults;
mod jetstream;
mod keeping;
mod member;
mod mutants;
mod nodes;
mod outsider;
mod plot_client;
mod plot_server;
mod plotting;
mod presence;
mod random;
mod rest;
mod scenario;
mod seeds;
mod trace;
mod two_chains;
mod world;
