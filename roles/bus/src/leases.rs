//! Who does what one member alone should do: bucket `leases`, a key for each such work.
//!
//! Never: when a lease is taken or has lapsed ([`control::lease`]).

use super::{Bucket, BucketConfig, Bus, BusError, kept};
use control::messages::Lease;
use control::store::{Expect, Found, Wrote};
use std::sync::Arc;

const BUCKET: &str = "leases";
/// The lease of who fetches new segments.
pub const SEGMENTS: &str = "segments";

/// The leases of the cluster; clones are handles to the same bucket.
#[derive(Clone)]
pub struct Leases {
    bucket: Arc<dyn Bucket>,
}

impl Leases {
    /// Opens the bucket, made if it is not there.
    pub async fn open(bus: &dyn Bus) -> Result<Self, BusError> {
        let bucket = bus.bucket(&BucketConfig { name: BUCKET.to_owned(), max_age: None }).await?;
        Ok(Self { bucket })
    }

    /// A lease as it was read.
    pub async fn find(&self, key: &str) -> Result<Found<Lease>, BusError> {
        kept::find(&*self.bucket, key).await
    }

    /// Writes a lease if that holds.
    pub async fn write(&self, key: &str, lease: &Lease, expect: Expect) -> Result<Wrote, BusError> {
        kept::put(&*self.bucket, key, Some(lease), expect).await
    }
}
