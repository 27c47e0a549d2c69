//! What a command finds when it starts: what the cluster has agreed on, and which caches are there, heard now, as controllers hear them.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::cluster::Cluster;
use bus::members::MemberWatch;
use bus::{BusError, SharedBus};
use control::ids::InstanceId;
use control::members::Liveness;
use control::messages::{ClusterInfo, MemberEntry, Role};
use tokio::time::{Instant, sleep, timeout};

/// A member says that it is there every two seconds, and a bit.
pub const HEARD_WITHIN: Duration = Duration::from_secs(6);

/// How long a store may take that has just lost a server, or has just been made: it chooses who leads it.
const STORE_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks at it.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// What the cluster has agreed on; none where no controller has been yet.
pub async fn info(bus: &SharedBus) -> Result<Option<ClusterInfo>, BusError> {
    let cluster = Cluster::open(&**bus).await?;
    let give_up_at = Instant::now() + STORE_WITHIN;
    loop {
        match cluster.info().await {
            Err(BusError::Unavailable { .. } | BusError::Timeout { .. }) if Instant::now() < give_up_at => {
                sleep(STORE_PAUSE).await;
            }
            found => return found,
        }
    }
}

/// Listens so long, and gives the caches of both kinds that were heard.
pub async fn caches(
    bus: &SharedBus,
    listen: Duration,
) -> Result<BTreeMap<InstanceId, MemberEntry>, BusError> {
    let mut watch = MemberWatch::start_for(bus.clone(), Role::Controller, Liveness::default()).await?;
    let hearing = async { while watch.next().await.is_some() {} };
    // What is to be heard has been heard then.
    let _ = timeout(listen, hearing).await;
    let is_cache = |entry: &&MemberEntry| matches!(entry.role, Role::ShardedCache | Role::FullPieceCache);
    let heard = watch.present().map(|(entry, _)| entry).filter(is_cache);
    Ok(heard.map(|entry| (entry.id, entry.clone())).collect())
}
