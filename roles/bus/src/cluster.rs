//! What all members agree on: bucket `cluster`, written by controllers, read by everybody.
//!
//! ```text
//!   info              ClusterInfo: network, rules, history size, KZG setup
//!   segment.<index>   SegmentCommitment of every archived segment
//!   held.<index>      SegmentHeld, while a controller has the segment on its disk and the caches have not
//!   placed.<index>    SegmentPlaced, once the caches have its pieces
//! ```
//! Never: who owns which piece (epochs), or who is there (members).

use super::{Bucket, BucketConfig, Bus, BusError, Entry, Watch, WatchEvent, kept};
use control::ids::InstanceId;
use control::messages::{ClusterInfo, Control, SegmentCommitment, SegmentHeld, SegmentPlaced};
use control::segments::Word;
use control::store::{Expect, Found, Wrote};
use std::sync::Arc;

const BUCKET: &str = "cluster";
const INFO_KEY: &str = "info";

/// The cluster's settings; clones are handles to the same bucket.
#[derive(Clone)]
pub struct Cluster {
    bucket: Arc<dyn Bucket>,
}

impl Cluster {
    /// Opens the bucket, made if it is not there.
    pub async fn open(bus: &dyn Bus) -> Result<Self, BusError> {
        let bucket = bus.bucket(&BucketConfig { name: BUCKET.to_owned(), max_age: None }).await?;
        Ok(Self { bucket })
    }

    /// Writes the settings, whatever they were.
    pub async fn put_info(&self, info: &ClusterInfo) -> Result<(), BusError> {
        self.put(INFO_KEY, info).await
    }

    /// The settings, once a controller has written them.
    pub async fn info(&self) -> Result<Option<ClusterInfo>, BusError> {
        self.get(INFO_KEY).await
    }

    /// The settings as a controller needs them to write on what it has read.
    pub async fn find_info(&self) -> Result<Found<ClusterInfo>, BusError> {
        kept::find(&*self.bucket, INFO_KEY).await
    }

    /// Writes the settings if that holds.
    pub async fn write_info(&self, info: &ClusterInfo, expect: Expect) -> Result<Wrote, BusError> {
        kept::put(&*self.bucket, INFO_KEY, Some(info), expect).await
    }

    /// The settings from now on: the present ones first, as soon as there are any.
    pub async fn watch_info(&self) -> Result<InfoWatch, BusError> {
        Ok(InfoWatch(self.bucket.watch(INFO_KEY).await?))
    }

    /// Notes what a segment commits to.
    pub async fn put_segment(&self, index: u64, commitment: &[u8; 48]) -> Result<(), BusError> {
        self.put(&segment_key(index), &SegmentCommitment { commitment: *commitment }).await
    }

    /// What a segment commits to; none while no controller has noted it.
    pub async fn segment(&self, index: u64) -> Result<Option<[u8; 48]>, BusError> {
        let found = self.get::<SegmentCommitment>(&segment_key(index)).await?;
        Ok(found.map(|segment| segment.commitment))
    }

    /// Notes that the caches have a segment since `epoch`.
    pub async fn put_placed(&self, index: u64, epoch: u64) -> Result<(), BusError> {
        self.put(&placed_key(index), &SegmentPlaced { epoch }).await
    }

    /// Whether a controller has brought a segment into the caches.
    pub async fn is_placed(&self, index: u64) -> Result<bool, BusError> {
        Ok(self.get::<SegmentPlaced>(&placed_key(index)).await?.is_some())
    }

    /// Notes that `controller` holds a segment on its disk.
    pub async fn put_held(&self, index: u64, controller: InstanceId) -> Result<(), BusError> {
        self.put(&held_key(index), &SegmentHeld { controller }).await
    }

    /// Withdraws that, if it is still `controller`'s word.
    pub async fn withdraw_held(&self, index: u64, controller: InstanceId) -> Result<(), BusError> {
        let key = held_key(index);
        let Found::Value(SegmentHeld { controller: holder }, revision) =
            kept::find(&*self.bucket, &key).await?
        else {
            return Ok(());
        };
        if holder == controller {
            // A conflict: somebody else has said so meanwhile.
            kept::put::<SegmentHeld>(&*self.bucket, &key, None, Expect::Revision(revision)).await?;
        }
        Ok(())
    }

    /// What is known of segments that are held or placed: all that is there, then every change.
    pub async fn watch_segments(&self) -> Result<SegmentWatch, BusError> {
        Ok(SegmentWatch { watch: self.bucket.watch(">").await?, is_opened: false })
    }

    async fn put(&self, key: &str, message: &impl Control) -> Result<(), BusError> {
        let bytes = message.to_bytes().map_err(|error| BusError::unavailable(key, &error))?;
        self.bucket.put(key, bytes).await.map(drop)
    }

    async fn get<M: Control>(&self, key: &str) -> Result<Option<M>, BusError> {
        let Some(entry) = self.bucket.get(key).await? else { return Ok(None) };
        M::from_bytes(&entry.value).map(Some).map_err(|error| BusError::unavailable(key, &error))
    }
}

fn segment_key(index: u64) -> String {
    format!("segment.{index}")
}

fn held_key(index: u64) -> String {
    format!("held.{index}")
}

fn placed_key(index: u64) -> String {
    format!("placed.{index}")
}

/// What a [`SegmentWatch`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfSegments {
    /// The bucket is read from its start: what is not heard before [`OfSegments::Read`] is not there.
    Opened,
    /// Something about one of them.
    Word(Word),
    /// All that was there has come.
    Read,
}

/// Words about segments as they come.
pub struct SegmentWatch {
    /// Of the whole bucket: one stream, so that it is clear when all has been heard.
    watch: Watch,
    is_opened: bool,
}

impl SegmentWatch {
    /// The next; waits for ever while nothing changes. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> OfSegments {
        if !std::mem::replace(&mut self.is_opened, true) {
            return OfSegments::Opened;
        }
        loop {
            match self.watch.next().await {
                WatchEvent::Put(entry) => {
                    if let Some(word) = put_word(&entry) {
                        return OfSegments::Word(word);
                    }
                }
                WatchEvent::Delete { key, .. } => {
                    if let Some(index) = index_in(&key, "held.") {
                        return OfSegments::Word(Word::NotHeld(index));
                    }
                }
                WatchEvent::Renewed => return OfSegments::Opened,
                WatchEvent::Ready => return OfSegments::Read,
            }
        }
    }
}

fn index_in(key: &str, prefix: &str) -> Option<u64> {
    key.strip_prefix(prefix)?.parse().ok()
}

fn put_word(entry: &Entry) -> Option<Word> {
    if let Some(index) = index_in(&entry.key, "placed.") {
        return Some(Word::Placed(index));
    }
    let index = index_in(&entry.key, "held.")?;
    match SegmentHeld::from_bytes(&entry.value) {
        Ok(SegmentHeld { controller }) => Some(Word::Held { index, by: controller }),
        Err(error) => {
            tracing::warn!(key = entry.key, "{error}");
            None
        }
    }
}

/// Settings as they change.
pub struct InfoWatch(Watch);

impl InfoWatch {
    /// The next settings; waits for ever while nothing changes. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> ClusterInfo {
        loop {
            let WatchEvent::Put(entry) = self.0.next().await else { continue };
            match ClusterInfo::from_bytes(&entry.value) {
                Ok(info) => return info,
                Err(error) => tracing::error!("cluster settings cannot be read: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalBus;
    use control::messages::ProtocolInfo;

    fn info(history_size: u64) -> ClusterInfo {
        let protocol_info = ProtocolInfo {
            history_size,
            max_pieces_in_sector: 10,
            recent_segments: 5,
            recent_history_fraction: (1, 10),
            min_sector_lifetime: 4,
        };
        let (kzg_setup_sha256, genesis_hash) = ([1; 32], [2; 32]);
        ClusterInfo { kzg_setup_sha256, genesis_hash, protocol_info, is_dev: true, farming_timeout_ms: 4000 }
    }

    #[tokio::test]
    async fn settings_and_segments_are_read_back() {
        let cluster = Cluster::open(&LocalBus::new()).await.unwrap();
        assert_eq!(cluster.info().await.unwrap(), None);
        assert_eq!(cluster.segment(3).await.unwrap(), None);
        let mut watch = cluster.watch_info().await.unwrap();
        cluster.put_info(&info(1)).await.unwrap();
        assert_eq!(watch.next().await, info(1));
        cluster.put_info(&info(2)).await.unwrap();
        assert_eq!(watch.next().await, info(2));
        assert_eq!(cluster.info().await.unwrap(), Some(info(2)));
        cluster.put_segment(3, &[7; 48]).await.unwrap();
        assert_eq!(cluster.segment(3).await.unwrap(), Some([7; 48]));
        assert!(!cluster.is_placed(3).await.unwrap());
        cluster.put_placed(3, 1).await.unwrap();
        assert!(cluster.is_placed(3).await.unwrap());
        assert!(cluster.put_info(&info(0)).await.is_err(), "no history");
    }
}
