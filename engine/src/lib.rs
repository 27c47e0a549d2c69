//! What moves bytes: executors, one pool of aligned buffers, io_uring, files, sockets, and the order in which a disk is asked.
//!
//! ```text
//!   control (tokio) ── Spawner ──▶ executor thread (glommio) ── tasks
//!                                        │
//!        Pool: 2 MiB slabs ◀─────────────┼───────────────▶ TcpStream reads and writes slabs
//!          ▲      ▲                      ▼
//!          │      └── Ring, one a disk (READ_FIXED, WRITE_FIXED, completions by eventfd) ◀── Disk (who goes first)
//!        CUDA                            ▼
//!                                   DirectFile (O_DIRECT)
//! ```
//!
//! Owns: glommio (no other crate imports it), the buffer pool, the rings, open files and the order of requests to a disk.
//! Never: what the bytes mean. Formats and rules belong to `consensus`, frames to `transport`.
//!
//! Model checking of the pool's core: `RUSTFLAGS="--cfg loom" cargo test -p engine --lib --release --target-dir target/loom`.
#![deny(missing_docs)]
#![deny(unsafe_code)]

#[cfg(not(loom))]
pub mod checks;
#[cfg(not(loom))]
mod core_set;
#[cfg(not(loom))]
pub mod disk;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
pub mod executor;
#[cfg(not(loom))]
pub mod farm;
#[cfg(not(loom))]
mod file;
#[cfg(not(loom))]
pub mod files;
#[cfg(not(loom))]
pub mod net;
#[cfg(all(test, not(loom)))]
mod on_disk;
#[cfg(not(loom))]
mod parts;
#[cfg(not(loom))]
pub mod piece_layout;
#[cfg(not(loom))]
pub mod piece_store;
pub mod pool;
#[cfg(all(any(test, feature = "power"), not(loom)))]
#[doc(hidden)]
#[allow(missing_docs, reason = "tests")]
pub mod power;
#[cfg(not(loom))]
mod ring;
mod sync;
#[cfg(not(loom))]
pub mod task;
#[cfg(not(loom))]
pub mod threads;

#[cfg(not(loom))]
pub use self::{
    disk::{Class, Disk, FileWriter, Health, HealthCell, Limits},
    error::{Action, IoError},
    executor::{Executors, ExecutorsConfig, Local, Remote, Spawner},
    file::{Access, DirectFile, lock_exclusive, sync_directory},
    ring::{MAX_DEPTH, Ring, RingError},
};

/// Unit in which direct I/O is aligned: offset, length and memory address of every transfer.
pub const BLOCK_BYTES: usize = 4096;
