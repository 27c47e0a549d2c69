//! Messages to bytes and back: `version u8 | kind u8 | SCALE`.

use super::{OLDEST_VERSION, VERSION};
use crate::messages::MAX_MESSAGE_BYTES;
use bytes::Bytes;
use std::cmp::Ordering;

use parity_scale_codec::{DecodeWithMemLimit, DecodeWithMemTracking, Encode};

/// Memory a message may claim while it is decoded.
const DECODE_MEMORY_BYTES: usize = 4 * MAX_MESSAGE_BYTES;

/// Bytes that a release appends to a message at most.
const APPENDED_BYTES_MAX: usize = 16;

/// Why bytes are not a message, or a message cannot become bytes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    /// A release speaks here that is older than any this one can read.
    #[error("message version {found}, this release speaks {VERSION}: bring all members to one release")]
    Version {
        /// As received.
        found: u8,
    },
    /// Another message than expected.
    #[error("message kind {found}, expected {expected}")]
    Kind {
        /// As received.
        found: u8,
        /// As expected here.
        expected: u8,
    },
    /// Bytes that are no message.
    #[error("malformed message of {size_bytes} bytes")]
    Malformed {
        /// How many.
        size_bytes: usize,
    },
    /// A well-formed message with impossible content.
    #[error("impossible message: {0}")]
    Impossible(&'static str),
}

/// A control message.
pub trait Control: Encode + DecodeWithMemTracking {
    /// Its number, never used for another.
    const KIND: u8;

    /// What the layout alone does not rule out.
    fn check(&self) -> Result<(), MessageError> {
        Ok(())
    }

    /// The message as bytes, version and kind first.
    fn to_bytes(&self) -> Result<Bytes, MessageError> {
        self.check()?;
        let mut bytes = vec![VERSION, Self::KIND];
        self.encode_to(&mut bytes);
        if bytes.len() >= MAX_MESSAGE_BYTES {
            return Err(MessageError::Malformed { size_bytes: bytes.len() });
        }
        Ok(bytes.into())
    }

    /// The message in `bytes`, which may be anything. Of a newer release's message the fields that this release knows; of an older one's those
    /// that it lacks are zero.
    fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let malformed = MessageError::Malformed { size_bytes: bytes.len() };
        let &[version, found, ref body @ ..] = bytes else { return Err(malformed) };
        if version < OLDEST_VERSION {
            return Err(MessageError::Version { found: version });
        }
        if found != Self::KIND {
            return Err(MessageError::Kind { found, expected: Self::KIND });
        }
        if bytes.len() >= MAX_MESSAGE_BYTES {
            return Err(malformed);
        }
        // What a release before this one had not yet is zero.
        let padded;
        let mut rest = body;
        if version < VERSION {
            padded = [body, &[0; APPENDED_BYTES_MAX]].concat();
            rest = &padded;
        }
        let decoded = Self::decode_with_mem_limit(&mut rest, DECODE_MEMORY_BYTES);
        let is_whole = match version.cmp(&VERSION) {
            // What a newer release has appended is not for us.
            Ordering::Greater => true,
            Ordering::Equal => rest.is_empty(),
            Ordering::Less => rest.len() <= APPENDED_BYTES_MAX,
        };
        match decoded {
            Ok(message) if is_whole => message.check().map(|()| message),
            _ => Err(malformed),
        }
    }
}
