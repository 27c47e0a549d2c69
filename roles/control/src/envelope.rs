//! What every message and value on the bus is wrapped in: who wrote it for whom.
//!
//! ```text
//!   magic "AFcb" | oldest reader u8 | writer u8 | length of name u8 | cluster's name | payload
//! ```
//! Owns: whether bytes are for this cluster and can be read by this release. Never: what the payload says.
//!
//! Two adjacent releases run mixed: a release that only appends fields to messages raises [`VERSION`] and leaves
//! [`OLDEST_READER`]; the one before reads what it knows and leaves the rest ([`crate::messages::Control::from_bytes`]).

use crate::messages::{OLDEST_VERSION, VERSION};
use crate::names::valid_token;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use std::str::FromStr;

/// First bytes of everything.
pub const MAGIC: [u8; 4] = *b"AFcb";
/// The oldest release that can read what this one writes.
pub const OLDEST_READER: u8 = 2;
/// Longest name of a cluster, bytes: with the name of a bucket it is one token.
pub const MAX_NAME_BYTES: usize = 32;
/// Bytes an envelope adds at most.
pub const MAX_ENVELOPE_BYTES: usize = FIXED_BYTES + MAX_NAME_BYTES;

const FIXED_BYTES: usize = MAGIC.len() + 3;

/// The name of a cluster: one token of `[A-Za-z0-9_-]`. Clusters of different names share a NATS account and hear nothing of
/// each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName(String);

/// A text that cannot name a cluster.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a cluster is named by 1 to {MAX_NAME_BYTES} letters, digits, - and _")]
pub struct BadClusterName;

impl ClusterName {
    /// The name as it stands in subjects and names of buckets.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("autonomys".to_owned())
    }
}

impl FromStr for ClusterName {
    type Err = BadClusterName;

    fn from_str(text: &str) -> Result<Self, BadClusterName> {
        let fits = text.len() <= MAX_NAME_BYTES && valid_token(text);
        if fits { Ok(Self(text.to_owned())) } else { Err(BadClusterName) }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an envelope is not opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// No envelope, or half of one.
    #[error("{size_bytes} bytes that are no message of a cluster")]
    Garbage {
        /// How many.
        size_bytes: usize,
    },
    /// For others.
    #[error("a message of cluster `{name}`: name this one's by --cluster")]
    OtherCluster {
        /// Which.
        name: String,
    },
    /// Of a release that this one cannot read.
    #[error(
        "written by release version {writer}, which this release ({VERSION}) cannot read: bring all members to one release"
    )]
    OtherRelease {
        /// Version of its writer.
        writer: u8,
    },
}

/// `payload` in an envelope of this release.
pub fn seal(cluster: &ClusterName, payload: &[u8]) -> Bytes {
    seal_as(OLDEST_READER, VERSION, cluster, payload)
}

fn seal_as(oldest_reader: u8, writer: u8, cluster: &ClusterName, payload: &[u8]) -> Bytes {
    let name = cluster.as_str().as_bytes();
    let mut bytes = BytesMut::with_capacity(FIXED_BYTES + name.len() + payload.len());
    bytes.put_slice(&MAGIC);
    bytes.put_slice(&[oldest_reader, writer]);
    bytes.put_u8(u8::try_from(name.len()).expect("a name is bounded when it is made"));
    bytes.put_slice(name);
    bytes.put_slice(payload);
    bytes.freeze()
}

/// What is in the envelope; the bytes may be anything.
pub fn open(cluster: &ClusterName, bytes: &Bytes) -> Result<Bytes, EnvelopeError> {
    let garbage = EnvelopeError::Garbage { size_bytes: bytes.len() };
    let Some((head, rest)) = bytes.split_at_checked(FIXED_BYTES) else { return Err(garbage) };
    let &[m0, m1, m2, m3, oldest_reader, writer, name_len] = head else { return Err(garbage) };
    if [m0, m1, m2, m3] != MAGIC || oldest_reader > writer {
        return Err(garbage);
    }
    // Before the name: how that is written is also the release's affair.
    if oldest_reader > VERSION || writer < OLDEST_VERSION {
        return Err(EnvelopeError::OtherRelease { writer });
    }
    let Some((name, _)) = rest.split_at_checked(name_len.into()) else { return Err(garbage) };
    if name == cluster.as_str().as_bytes() {
        return Ok(bytes.slice(FIXED_BYTES + name.len()..));
    }
    match std::str::from_utf8(name).ok().and_then(|name| name.parse::<ClusterName>().ok()) {
        Some(other) => Err(EnvelopeError::OtherCluster { name: other.0 }),
        None => Err(garbage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_tokens_of_bounded_length() {
        let (longest, too_long) = ("n".repeat(MAX_NAME_BYTES), "n".repeat(MAX_NAME_BYTES + 1));
        for good in ["autonomys", "a-B_9", &longest] {
            assert_eq!(name(good).to_string(), good);
        }
        for bad in ["", "a.b", "a b", "*", ">", "ü", &too_long] {
            assert_eq!(bad.parse::<ClusterName>(), Err(BadClusterName), "{bad:?}");
        }
    }

    #[test]
    fn what_is_sealed_is_opened_in_the_same_cluster_only() {
        let (here, there) = (name("here"), name("there"));
        let sealed = seal(&here, b"payload");
        assert_eq!(sealed[..], *b"AFcb\x02\x03\x04herepayload");
        assert_eq!(open(&here, &sealed).unwrap(), "payload");
        assert_eq!(open(&there, &sealed), Err(EnvelopeError::OtherCluster { name: "here".to_owned() }));
        assert_eq!(open(&here, &seal(&here, b"")).unwrap(), "");
        let longest = name(&"n".repeat(MAX_NAME_BYTES));
        assert_eq!(seal(&longest, b"").len(), MAX_ENVELOPE_BYTES);
    }

    /// Bytes of other releases, by hand.
    #[test]
    fn adjacent_releases_are_read_others_are_named() {
        let here = name("h");
        let of = |oldest_reader: u8, writer: u8| {
            open(&here, &Bytes::from([&b"AFcb"[..], &[oldest_reader, writer], b"\x01hx"].concat()))
        };
        assert_eq!(of(2, 2).unwrap(), "x", "the one before, which lacks what was appended");
        assert_eq!(of(2, 3).unwrap(), "x");
        assert_eq!(of(2, 4).unwrap(), "x", "the next one, which only appends");
        assert_eq!(of(4, 4), Err(EnvelopeError::OtherRelease { writer: 4 }));
        assert_eq!(of(1, 1), Err(EnvelopeError::OtherRelease { writer: 1 }));
        assert_eq!(of(2, 1), Err(EnvelopeError::Garbage { size_bytes: 9 }), "read by none, not even its own");
        // Before there were envelopes: version and kind first.
        assert_eq!(
            open(&here, &Bytes::from_static(b"\x01\x09\x00")),
            Err(EnvelopeError::Garbage { size_bytes: 3 })
        );
    }

    proptest! {
        #[test]
        fn anything_is_opened_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), begin in any::<bool>()) {
            let bytes = if begin { [&b"AFcb\x02\x03"[..], &bytes].concat() } else { bytes };
            let bytes = Bytes::from(bytes);
            if let Ok(payload) = open(&ClusterName::default(), &bytes) {
                prop_assert_eq!(seal(&ClusterName::default(), &payload), bytes);
            }
        }

        #[test]
        fn half_an_envelope_is_garbage(cut in 0usize..16) {
            let sealed = seal(&ClusterName::default(), b"x");
            prop_assert_eq!(
                open(&ClusterName::default(), &sealed.slice(..cut)),
                if cut == 16 { Ok(Bytes::new()) } else { Err(EnvelopeError::Garbage { size_bytes: cut }) }
            );
        }
    }
}
