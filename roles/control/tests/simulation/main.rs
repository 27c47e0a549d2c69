//! Controllers, plot-clients, plot-servers and caches as their machines, in a world of simulated bus, nodes, disks and clocks:
//! one thread, one seed a run.
//!
//! ```text
//!   scenario ─ who is there, when what goes wrong (faults), what must be in the end (rest)
//!      └─ world ─ one queue of what happens next, and the clock
//!           ├─ by_core, by_jetstream (jetstream), by_node (nodes), by_others: what crosses the bus, reaches nodes, disks, other members
//!           ├─ by_books (checks): what must never happen, from what is seen there and not from what a machine says of itself
//!           └─ member ─ controller (keeping, looking), plot_client (plotting), plot_server, cache, each with presence; outsider
//! ```
//! `seeds` runs a thousand seeds; one that fails prints the line that shows it. `mutants` puts faults back that an earlier release had:
//! each must be found. `two_chains`, `restarts` and `rates` are small worlds of their own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod around;
mod by_books;
mod by_core;
mod by_faults;
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
mod kept;
mod looking;
mod member;
mod mutant;
mod mutants;
mod nodes;
mod outsider;
mod plot_client;
mod plot_server;
mod plotting;
mod presence;
mod random;
mod rates;
mod recall;
mod rest;
mod restarts;
mod scenario;
mod seeds;
mod trace;
mod two_chains;
mod world;
