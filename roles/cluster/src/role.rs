//! What every role does before its own work: learn what the cluster agreed on, and take that KZG setup and no other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use consensus::kzg::Kzg;

use crate::host::HostError;
use bus::cluster::Cluster;
use bus::{Bus, BusError};
use control::messages::ClusterInfo;
use node::kzg_setup::{self, KzgSetupError};
use tokio::time::Instant;

/// How long what the cluster agreed on may take to come, once there is any, before it is said that it is waited for.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Why a role ended other than by a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The member could not start.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No KZG setup.
    #[error(transparent)]
    KzgSetup(#[from] KzgSetupError),
    /// The cluster uses another setup than the one of its chain.
    #[error(
        "the cluster's KZG setup has SHA-256 {cluster}, this release has {ours}: \
         run one release in the whole cluster, against one network",
        cluster = hex::encode(cluster), ours = hex::encode(ours)
    )]
    OtherSetup {
        /// As the controller wrote it.
        cluster: [u8; 32],
        /// As found here.
        ours: [u8; 32],
    },
    /// A task of the role ended by a panic, which is in the log.
    #[error("a task ended by a panic: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    /// What is the role's own; the text says what to do.
    #[error(transparent)]
    Own(Box<dyn std::error::Error + Send + Sync>),
}

impl RoleError {
    /// An error of the role's own kind.
    pub fn own(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Own(error.into())
    }
}

/// What the cluster agreed on, as soon as a controller has written it and JetStream can tell it. An error is one that no waiting
/// mends.
pub async fn await_cluster(bus: &dyn Bus) -> Result<ClusterInfo, BusError> {
    let mut infos = Cluster::open(bus).await?.watch_info().await?;
    if let Ok(info) = tokio::time::timeout(TELL_AFTER, infos.next()).await {
        return Ok(info);
    }
    let since = Instant::now();
    // No warning: roles may be started in any order.
    tracing::info!(
        "no controller of a cluster `{}` has been here yet: start one, or correct --cluster; \
         waiting for the first controller of this cluster",
        bus.cluster()
    );
    let info = infos.next().await;
    tracing::info!("the first controller of this cluster is there after {} s", since.elapsed().as_secs());
    Ok(info)
}

/// The KZG setup of the cluster: `insecure-v1` for a development chain, else the ceremony's, from `ceremony_file` or from
/// the usual place. Any other than the cluster's is refused.
pub async fn cluster_kzg(info: &ClusterInfo, ceremony_file: Option<PathBuf>) -> Result<Arc<Kzg>, RoleError> {
    let is_dev = info.is_dev;
    let load =
        move || if is_dev { kzg_setup::insecure() } else { kzg_setup::ceremony(ceremony_file.as_deref()) };
    let kzg = tokio::task::spawn_blocking(load).await??;
    let (cluster, ours) = (info.kzg_setup_sha256, *kzg.id());
    if cluster == ours { Ok(Arc::new(kzg)) } else { Err(RoleError::OtherSetup { cluster, ours }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_settings::settings;
    use bus::local::LocalBus;
    use consensus::kzg::insecure;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_role_waits_for_the_cluster_and_takes_its_setup_only() {
        let bus = LocalBus::new();
        assert_eq!(await_cluster(&bus).now_or_never().map(|info| info.is_ok()), None);
        let kzg_setup_sha256 = insecure::PARAMETERS_SHA256;
        let mut info = ClusterInfo { kzg_setup_sha256, ..settings([2; 32], 1) };
        Cluster::open(&bus).await.unwrap().put_info(&info).await.unwrap();
        assert_eq!(await_cluster(&bus).await.unwrap(), info);
        assert_eq!(*cluster_kzg(&info, None).await.unwrap().id(), insecure::PARAMETERS_SHA256);
        info.kzg_setup_sha256[0] ^= 1;
        assert!(matches!(cluster_kzg(&info, None).await, Err(RoleError::OtherSetup { .. })));
    }
}
