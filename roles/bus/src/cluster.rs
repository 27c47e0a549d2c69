//! What all members agree on: bucket `cluster`, written by controllers, read by everybody.
//!
//! ```text
//!   info              ClusterInfo: network, rules, history size, KZG setup
//!   segment.<index>   SegmentCommitment of every archived segment
//!   placed.<index>    SegmentPlaced, once the caches have its pieces
//! ```
//! Never: who owns which piece (epochs), or who is there (members).

use super::{Bucket, BucketConfig, Bus, BusError, Watch, WatchEvent};
use control::messages::{ClusterInfo, Control, SegmentCommitment, SegmentPlaced};
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

fn placed_key(index: u64) -> String {
    format!("placed.{index}")
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
