//! The roles of the farming cluster and what they share.
//!
//! ```text
//!   node ── JSON-RPC ── controller ─┐                       ┌─ plot-client (disks)
//!                                   ├─ bus (control, < 64 KiB) ─┼─ plot-server, proof-server (GPUs)
//!            caches (pieces) ───────┘                       └─ util, web, metrics
//! ```
//!
//! Owns: everything that has a name in the operator's supervisor file. Pieces and sectors never pass the bus.
#![deny(missing_docs)]

pub mod cache;
pub mod cards;
pub mod controller;
pub mod host;
mod nearness;
mod parity;
pub mod pieces;
pub mod placement;
pub mod plot_client;
pub mod plot_server;
pub mod proof_server;
mod recall;
pub mod role;
pub mod shutdown;
mod silence;
pub mod sizes;
#[cfg(test)]
mod test_bus;
#[cfg(test)]
#[path = "../../shared_tests/settings.rs"]
mod test_settings;
pub mod tools;
mod wrong;
