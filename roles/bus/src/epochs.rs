//! Who owns what, as it changes: bucket `epochs`, key `current`, written by controllers, read by everybody.
//!
//! Several controllers may want to write the next epoch; revisions let exactly one of them do it. Never: when an epoch
//! should change, or who owns an item ([`control::rendezvous`]).

use super::{Bucket, BucketConfig, Bus, BusError, Expect, Watch, WatchEvent, kept};
use control::messages::{Control, Epoch};
use control::store::{self, Found, Wrote};
use std::sync::Arc;

const BUCKET: &str = "epochs";
const CURRENT_KEY: &str = "current";

/// The epochs of the cluster; clones are handles to the same bucket.
#[derive(Clone)]
pub struct Epochs {
    bucket: Arc<dyn Bucket>,
}

impl Epochs {
    /// Opens the bucket, made if it is not there.
    pub async fn open(bus: &dyn Bus) -> Result<Self, BusError> {
        let bucket = bus.bucket(&BucketConfig { name: BUCKET.to_owned(), max_age: None }).await?;
        Ok(Self { bucket })
    }

    /// The current epoch as a controller needs it to write on what it has read.
    pub async fn find(&self) -> Result<Found<Epoch>, BusError> {
        kept::find(&*self.bucket, CURRENT_KEY).await
    }

    /// Writes an epoch if that holds.
    pub async fn write(&self, epoch: &Epoch, expect: store::Expect) -> Result<Wrote, BusError> {
        kept::put(&*self.bucket, CURRENT_KEY, Some(epoch), expect).await
    }

    /// The current epoch and the revision that wrote it; none before the first.
    pub async fn current(&self) -> Result<Option<(Epoch, u64)>, BusError> {
        let Some(entry) = self.bucket.get(CURRENT_KEY).await? else { return Ok(None) };
        let epoch =
            Epoch::from_bytes(&entry.value).map_err(|error| BusError::unavailable(CURRENT_KEY, &error))?;
        Ok(Some((epoch, entry.revision)))
    }

    /// Writes the epoch that follows the one of `revision` (none: the first). [`BusError::Conflict`] when another
    /// controller was faster: read it, and see whether there is still something to change.
    pub async fn replace(&self, epoch: &Epoch, revision: Option<u64>) -> Result<u64, BusError> {
        let bytes = epoch.to_bytes().map_err(|error| BusError::unavailable(CURRENT_KEY, &error))?;
        let expect = revision.map_or(Expect::Absent, Expect::Revision);
        self.bucket.write(CURRENT_KEY, Some(bytes), expect).await
    }

    /// The epochs from now on: the present one first, as soon as there is one.
    pub async fn watch(&self) -> Result<EpochWatch, BusError> {
        Ok(EpochWatch(self.bucket.watch(CURRENT_KEY).await?))
    }
}

/// Epochs as they change.
pub struct EpochWatch(Watch);

impl EpochWatch {
    /// The next epoch; waits for ever while nothing changes. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> Epoch {
        loop {
            let WatchEvent::Put(entry) = self.0.next().await else { continue };
            match Epoch::from_bytes(&entry.value) {
                Ok(epoch) => return epoch,
                Err(error) => tracing::error!("the epoch cannot be read: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalBus;
    use control::ids::InstanceId;
    use control::messages::EpochMember;

    #[tokio::test]
    async fn one_controller_writes_the_next_epoch() {
        let epochs = Epochs::open(&LocalBus::new()).await.unwrap();
        assert_eq!(epochs.current().await.unwrap(), None);
        let mut watch = epochs.watch().await.unwrap();
        let epoch = |number| Epoch {
            number,
            members: vec![EpochMember { id: InstanceId([1; 16]), weight: number }],
            copies: 1,
        };
        let first = epochs.replace(&epoch(1), None).await.unwrap();
        assert!(matches!(epochs.replace(&epoch(1), None).await, Err(BusError::Conflict { .. })));
        assert_eq!(watch.next().await, epoch(1));
        epochs.replace(&epoch(2), Some(first)).await.unwrap();
        assert!(matches!(epochs.replace(&epoch(3), Some(first)).await, Err(BusError::Conflict { .. })));
        assert_eq!(watch.next().await, epoch(2));
        assert_eq!(epochs.current().await.unwrap().unwrap().0, epoch(2));
    }
}
