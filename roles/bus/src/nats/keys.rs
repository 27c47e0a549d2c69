//! A bucket's stream, its keys as subjects, and what marks a deletion: as every NATS client lays out key-value buckets.

use super::streams::{Known, Streams};
use async_nats::HeaderMap;
use std::sync::Arc;

/// Header that marks a deletion, and its values.
pub(super) const OPERATION: &str = "KV-Operation";
pub(super) const DELETED: [&str; 2] = ["DEL", "PURGE"];

/// Where the keys of one bucket lie.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) streams: Streams,
    pub(super) known: Arc<Known>,
    pub(super) name: String,
}

impl Keys {
    /// The subject of a key, or of a filter of keys.
    pub(super) fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// For errors.
    pub(super) fn what(&self, key: &str) -> String {
        format!("bucket `{}`, key `{key}`", self.name)
    }
}

pub(super) fn is_deletion(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some_and(|operation| DELETED.contains(&operation.as_str()))
}
