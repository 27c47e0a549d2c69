//! What moves bytes: executors, one pool of aligned buffers, io_uring, files, sockets, and the order in which a disk is asked.
//!
//! ```text
//!   control (tokio) ── Spawner ──▶ executor thread (glommio) ── tasks
//!                                        │
//!        Pool: 2 MiB slabs ◀─────────────┼───────────────▶ TcpStream reads and writes slabs
//!          ▲      ▲                      ▼
//!          │      └── Ring (READ_FIXED, WRITE_FIXED, completions by eventfd) ◀── Disk (who goes first)
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

pub mod pool;
mod sync;

/// Unit in which direct I/O is aligned: offset, length and memory address of every transfer.
pub const BLOCK_BYTES: usize = 4096;
