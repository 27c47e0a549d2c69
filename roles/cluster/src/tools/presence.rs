//! Which caches are there: heard now, as controllers hear them.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::members::MemberWatch;
use bus::{BusError, SharedBus};
use control::ids::InstanceId;
use control::members::Liveness;
use control::messages::{MemberEntry, Role};
use tokio::time::timeout;

/// A member says that it is there every two seconds, and a bit.
pub const HEARD_WITHIN: Duration = Duration::from_secs(6);

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
