//! A sector: the pieces of history that a farm stores, each encoded with its own proof of space (PROTOCOL section 5).
//!
//! ```text
//! contents map: n x 8192 B, hash │ chunks by s-bucket, then piece offset: n x 1 MiB │ record metadata: n x 128 B │ hash
//! ```
//! Nothing in it is aligned: sector i of a farm starts at byte i x sector size.

mod contents;
mod decode;
mod encode;
mod id;
mod metadata;

pub use contents::{Bitfield, ContentsMap, ContentsMapError};
pub use decode::{DecodeError, ProvedChunk, RecordDecoder, prove_decoded};
pub use encode::{RecordEncoder, SectorAssembler};
pub use id::{ProtocolInfo, SectorId, expiration_check_history_size, public_key_hash};
pub use metadata::{RecordMetadata, SectorMetadata, SectorMetadataError};
