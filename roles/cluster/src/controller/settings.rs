//! Keeps what the cluster has agreed on, by [`control::settings`].

use std::collections::VecDeque;
use std::time::Duration;

use bus::SharedBus;
use bus::cluster::Cluster;
use consensus::kzg::Kzg;
use control::ids::InstanceId;
use control::messages::{ClusterInfo, Control, ProtocolInfo, SettingsWanted, subjects};
use control::settings::{Action, Event, NEW_PATIENCE, Refusal, Settings};
use control::store::Wrote;
use node::FarmerAppInfo;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::WrongNode;
use crate::role::RoleError;

/// How long a controller waits for the cluster's settings before it works without them: a slot that is announced in vain costs
/// less than one that is not announced.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the own node says, as settings.
pub fn of_node(app_info: &FarmerAppInfo, kzg: &Kzg) -> ClusterInfo {
    let rules = app_info.protocol_info;
    ClusterInfo {
        kzg_setup_sha256: *kzg.id(),
        genesis_hash: app_info.genesis_hash,
        protocol_info: ProtocolInfo {
            history_size: rules.history_size.get(),
            max_pieces_in_sector: rules.max_pieces_in_sector,
            recent_segments: rules.recent_segments,
            recent_history_fraction: rules.recent_history_fraction,
            min_sector_lifetime: rules.min_sector_lifetime,
        },
        is_dev: app_info.dev_kzg.is_some(),
        farming_timeout_ms: u32::try_from(app_info.farming_timeout.as_millis()).unwrap_or(u32::MAX),
    }
}

/// What others see of the settings, and say about them.
#[derive(Debug, Clone)]
pub struct Known {
    /// What is agreed on, once it is.
    pub agreed: watch::Receiver<Option<ClusterInfo>>,
    /// So many segments, from the first on, are placed.
    pub placed: watch::Sender<u64>,
}

impl Known {
    /// Ready when this controller belongs to the cluster, or nobody could tell for a while.
    pub async fn belongs(&self) {
        let mut agreed = self.agreed.clone();
        let is_known = agreed.wait_for(Option::is_some);
        if tokio::time::timeout(PATIENCE, is_known).await.is_err() {
            tracing::warn!("the cluster's settings cannot be read now; slots are announced without them");
        }
    }
}

/// The keeper's end of [`Known`].
pub struct Ends {
    agreed: watch::Sender<Option<ClusterInfo>>,
    placed: watch::Receiver<u64>,
}

/// Both ends.
pub fn known() -> (Known, Ends) {
    let (agreed_here, agreed) = watch::channel(None);
    let (placed, placed_here) = watch::channel(0);
    (Known { agreed, placed }, Ends { agreed: agreed_here, placed: placed_here })
}

/// Keeps the settings until this controller, `me`, turns out not to belong to the cluster.
pub async fn keep(
    bus: &SharedBus,
    me: InstanceId,
    url: &str,
    mut settings: Settings,
    ends: Ends,
) -> Result<(), RoleError> {
    let Ends { agreed, mut placed } = ends;
    // Before anybody is asked.
    let mut told = bus.subscribe(&subjects::settings_known(me)).await?;
    let (cluster, start) = (Cluster::open(&**bus).await?, Instant::now());
    let mut actions = VecDeque::from(settings.on(Event::Tick, start.elapsed()));
    loop {
        while let Some(action) = actions.pop_front() {
            let event = match action {
                Action::Read => match cluster.find_info().await {
                    Ok(found) => Event::Read(found),
                    Err(_) => Event::NotRead,
                },
                Action::Write { info, expect } => {
                    Event::Wrote(cluster.write_info(&info, expect).await.unwrap_or(Wrote::Unknown))
                }
                Action::Ask => {
                    ask(bus, me).await;
                    continue;
                }
                Action::Agreed(info) => {
                    agreed.send_replace(Some(info));
                    continue;
                }
                Action::Refused(refusal) => return Err(refused(refusal, url, &settings)),
                Action::Listening | Action::Emptied | Action::Unreadable => {
                    tell_people(&action);
                    continue;
                }
            };
            actions.extend(settings.on(event, start.elapsed()));
        }
        let wake_at = settings.wake_at().map_or(PATIENCE, |at| at.saturating_sub(start.elapsed()));
        let event = tokio::select! {
            () = tokio::time::sleep(wake_at) => Event::Tick,
            Ok(()) = placed.changed() => Event::Placed(*placed.borrow_and_update()),
            Some(message) = told.next() => match ClusterInfo::from_bytes(&message.payload) {
                Ok(info) => Event::Told(info),
                Err(error) => {
                    tracing::debug!("settings that cannot be read: {error}");
                    continue;
                }
            },
        };
        actions.extend(settings.on(event, start.elapsed()));
    }
}

/// Asks everybody what the settings were. Who does not hear it is asked again in a moment.
async fn ask(bus: &SharedBus, me: InstanceId) {
    let asked = match (SettingsWanted { controller: me }).to_bytes() {
        Ok(bytes) => bus.publish(subjects::SETTINGS_WANTED, bytes).await,
        Err(error) => return tracing::error!("{error}"),
    };
    if let Err(error) = asked {
        tracing::debug!("nobody could be asked for the settings: {error}");
    }
}

fn tell_people(action: &Action) {
    match action {
        Action::Listening => tracing::info!(
            seconds = NEW_PATIENCE.as_secs(),
            "there are no settings, and this controller remembers none: for so long it listens whether anybody knows what they were, \
             then a new cluster begins"
        ),
        Action::Emptied => tracing::warn!("the cluster's settings were lost, and are written again"),
        Action::Unreadable => tracing::error!(
            "the cluster's settings cannot be read: they are of a release that is too far from this one, or damaged"
        ),
        _ => {}
    }
}

fn refused(refusal: Refusal, url: &str, settings: &Settings) -> RoleError {
    let own = settings.own();
    match refusal {
        Refusal::OtherChain(cluster) => {
            RoleError::own(WrongNode::OtherChain { url: url.to_owned(), node: own.genesis_hash, cluster })
        }
        Refusal::OtherSetup(cluster) => RoleError::OtherSetup { cluster, ours: own.kzg_setup_sha256 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_settings::settings;
    use bus::Fresh;
    use bus::local::LocalBus;
    use std::sync::Arc;

    fn own(genesis: u8, history_size: u64) -> ClusterInfo {
        settings([genesis; 32], history_size)
    }

    fn start(bus: &SharedBus, own: ClusterInfo) -> (Known, tokio::task::JoinHandle<Result<(), RoleError>>) {
        start_remembering(bus, own, None)
    }

    fn start_remembering(
        bus: &SharedBus,
        own: ClusterInfo,
        remembered: Option<&ClusterInfo>,
    ) -> (Known, tokio::task::JoinHandle<Result<(), RoleError>>) {
        let ((known, ends), bus) = (known(), bus.clone());
        let settings = Settings::new(own, None, remembered);
        let me = InstanceId::generate();
        (known, tokio::spawn(async move { keep(&bus, me, "ws://node", settings, ends).await }))
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_chains_on_an_empty_cluster_exactly_one_stays() {
        let bus: SharedBus = Arc::new(LocalBus::new());
        let (first, one) = start(&bus, own(1, 3));
        let (_second, two) = start(&bus, own(2, 9));
        let ended = tokio::select! { ended = one => ended, ended = two => ended };
        let error = ended.unwrap().unwrap_err().to_string();
        assert!(error.contains("ws://node") && error.contains("genesis hash"), "{error}");
        tokio::time::sleep(Duration::from_secs(20)).await;
        let cluster = Cluster::open(&*bus).await.unwrap();
        let info = cluster.info().await.unwrap().unwrap();
        assert!(first.agreed.borrow().is_none() || info.genesis_hash == [1; 32]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_store_gets_its_settings_back_and_history_never_shrinks() {
        let local = LocalBus::new();
        let bus: SharedBus = Arc::new(local.clone());
        let (known, _running) = start(&bus, own(1, 3));
        let mut agreed = known.agreed.clone();
        agreed.wait_for(Option::is_some).await.unwrap();
        known.placed.send_replace(5);
        let is_five = |info: &Option<ClusterInfo>| {
            info.as_ref().is_some_and(|info| info.protocol_info.history_size == 5)
        };
        agreed.wait_for(is_five).await.unwrap();
        local.lose_store();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let cluster = Cluster::open(&*bus).await.unwrap();
        assert_eq!(cluster.info().await.unwrap(), Some(own(1, 5)));
        known.placed.send_replace(4);
        // Another controller, whose node is behind.
        let (late, _late) = start(&bus, own(1, 2));
        late.belongs().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(cluster.info().await.unwrap(), Some(own(1, 5)));
    }

    /// The store is lost while no controller runs; one starts that remembers, and one that does not but is told.
    #[tokio::test(start_paused = true)]
    async fn a_cluster_is_born_again_with_what_is_remembered_or_told() {
        for is_remembered in [true, false] {
            let bus: SharedBus = Arc::new(LocalBus::new());
            let (remembered, told) =
                if is_remembered { (Some(own(1, 5)), None) } else { (None, Some(own(1, 5))) };
            let telling = bus.clone();
            tokio::spawn(async move { crate::recall::tell(&telling, || told.clone()).await });
            let (known, _running) = start_remembering(&bus, own(1, 9), remembered.as_ref());
            let mut agreed = known.agreed.clone();
            let begun = tokio::time::Instant::now();
            agreed.wait_for(Option::is_some).await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            assert_eq!(*agreed.borrow(), Some(own(1, 5)));
        }
    }
}
