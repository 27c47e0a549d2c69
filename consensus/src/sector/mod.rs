//! A sector: the pieces of history that a farm stores, each encoded with its own proof of space (PROTOCOL section 5).

mod id;

pub use id::{ProtocolInfo, SectorId, expiration_check_history_size, public_key_hash};
