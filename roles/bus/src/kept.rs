//! A message kept under a key, as its owner reads and writes it: what cannot be decoded is as good as absent.

use super::{Bucket, BusError, Expect};
use control::messages::Control;
use control::store::{self, Found, Wrote};

/// What is kept under a key, and what a write that replaces exactly this has to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<M> {
    /// The message, if there is one that can be decoded.
    pub message: Option<M>,
    /// For [`write`]: nothing there, or exactly what was found, decoded or not.
    pub expect: Expect,
}

/// Reads `key`. A value that is no message of this kind is told and taken for absent; its owner replaces it.
pub async fn read<M: Control>(bucket: &dyn Bucket, key: &str) -> Result<Kept<M>, BusError> {
    let Some(entry) = bucket.get(key).await? else {
        return Ok(Kept { message: None, expect: Expect::Absent });
    };
    let expect = Expect::Revision(entry.revision);
    match M::from_bytes(&entry.value) {
        Ok(message) => Ok(Kept { message: Some(message), expect }),
        Err(error) => {
            tracing::warn!(key, "what is kept there is taken for absent: {error}");
            Ok(Kept { message: None, expect })
        }
    }
}

/// Writes `message` under `key` if what is there is as expected, else [`BusError::Conflict`]; returns its revision.
pub async fn write<M: Control>(
    bucket: &dyn Bucket,
    key: &str,
    message: &M,
    expect: Expect,
) -> Result<u64, BusError> {
    let bytes = message.to_bytes().map_err(|error| BusError::unavailable(key, &error))?;
    bucket.write(key, Some(bytes), expect).await
}

/// Reads `key` for a machine.
pub async fn find<M: Control>(bucket: &dyn Bucket, key: &str) -> Result<Found<M>, BusError> {
    let Some(entry) = bucket.get(key).await? else { return Ok(Found::Nothing) };
    match M::from_bytes(&entry.value) {
        Ok(message) => Ok(Found::Value(message, entry.revision)),
        Err(error) => {
            tracing::debug!(key, "what is kept there cannot be read: {error}");
            Ok(Found::Unreadable(entry.revision))
        }
    }
}

/// Writes `message` under `key` for a machine, or deletes it.
pub async fn put<M: Control>(
    bucket: &dyn Bucket,
    key: &str,
    message: Option<&M>,
    expect: store::Expect,
) -> Result<Wrote, BusError> {
    let bytes = message.map(Control::to_bytes).transpose();
    let bytes = bytes.map_err(|error| BusError::unavailable(key, &error))?;
    let expect = match expect {
        store::Expect::Absent => Expect::Absent,
        store::Expect::Revision(revision) => Expect::Revision(revision),
    };
    match bucket.write(key, bytes, expect).await {
        Ok(revision) => Ok(Wrote::Done(revision)),
        Err(BusError::Conflict { .. }) => Ok(Wrote::Conflict),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalBus;
    use crate::{BucketConfig, Bus};
    use control::messages::SegmentPlaced;

    #[tokio::test]
    async fn rubbish_is_replaced_by_its_owner() {
        let config = BucketConfig { name: "b".to_owned(), max_age: None };
        let bucket = LocalBus::new().bucket(&config).await.unwrap();
        let absent = read::<SegmentPlaced>(&*bucket, "k").await.unwrap();
        assert_eq!(absent, Kept { message: None, expect: Expect::Absent });
        let revision = bucket.put("k", "rubbish".into()).await.unwrap();
        let rubbish = read::<SegmentPlaced>(&*bucket, "k").await.unwrap();
        assert_eq!(rubbish, Kept { message: None, expect: Expect::Revision(revision) });
        let message = SegmentPlaced { epoch: 7 };
        write(&*bucket, "k", &message, rubbish.expect).await.unwrap();
        assert_eq!(read(&*bucket, "k").await.unwrap().message, Some(message));
        assert!(matches!(
            write(&*bucket, "k", &message, rubbish.expect).await,
            Err(BusError::Conflict { .. })
        ));
    }
}
