//! Members that come, change, fall silent and leave.

use crate::backends::{Backend, connect};
use crate::nats_server::NatsServer;
use bus::Fresh;
use bus::SharedBus;
use bus::members::{Announced, Health, Liveness, MemberEvent, MemberWatch};
use control::ids::InstanceId;
use control::messages::{MemberEntry, Role};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const LIVENESS: Liveness = Liveness {
    interval: Duration::from_millis(100),
    suspect_after: Duration::from_millis(500),
    gone_after: Duration::from_millis(1000),
    refresh: Duration::from_secs(60),
};

fn entry(role: Role) -> MemberEntry {
    MemberEntry {
        role,
        id: InstanceId::generate(),
        addresses: vec!["127.0.0.1:1".to_owned()],
        certificate_sha256: [1; 32],
        group: "default".to_owned(),
        host: "host".to_owned(),
        capacity: 1,
        version: "0.1.0".to_owned(),
    }
}

async fn next(watch: &mut MemberWatch) -> MemberEvent {
    timeout(Duration::from_secs(10), watch.next()).await.expect("an event comes").unwrap()
}

/// The bus is away for longer than any member may be silent: nobody is blamed for that.
#[tokio::test]
async fn an_outage_of_the_bus_is_nobodys_death() {
    let liveness = Liveness {
        suspect_after: Duration::from_millis(1500),
        gone_after: Duration::from_millis(2000),
        ..LIVENESS
    };
    let mut server = NatsServer::start();
    let (watching, living) = (Arc::new(connect(&server).await), Arc::new(connect(&server).await));
    let mut members = MemberWatch::start(watching, None, liveness).await.unwrap();
    let member = entry(Role::PlotClient);
    let _announced = Announced::start(living, member.clone(), liveness).await.unwrap();
    assert_eq!(next(&mut members).await, MemberEvent::Joined(member.clone()));
    server.kill();
    let outage = timeout(liveness.gone_after + Duration::from_millis(500), members.next()).await;
    assert!(outage.is_err(), "{outage:?}");
    server.start_again();
    let afterwards = timeout(liveness.gone_after * 2, members.next()).await;
    assert!(afterwards.is_err(), "{afterwards:?}");
    assert_eq!(members.present().map(|(_, health)| health).collect::<Vec<_>>(), [Health::Alive]);
}

async fn watch(bus: SharedBus, role: Option<Role>) -> MemberWatch {
    MemberWatch::start(bus, role, LIVENESS).await.unwrap()
}

async fn announce(backend: &Backend, entry: &MemberEntry) -> Announced {
    Announced::start(backend.bus().await, entry.clone(), LIVENESS).await.unwrap()
}

pub async fn join_update_silence_and_return(backend: &Backend) {
    let mut caches = watch(backend.bus().await, Some(Role::ShardedCache)).await;
    let _other_role = announce(backend, &entry(Role::PlotServer)).await;
    let mut cache = entry(Role::ShardedCache);
    let announced = announce(backend, &cache).await;
    assert_eq!(next(&mut caches).await, MemberEvent::Joined(cache.clone()));
    cache.capacity = 2;
    announced.update(|entry| entry.capacity = 2).await.unwrap();
    assert_eq!(next(&mut caches).await, MemberEvent::Updated(cache.clone()));
    assert!(timeout(LIVENESS.gone_after * 2, caches.next()).await.is_err(), "alive is no event");
    drop(announced);
    let silent_at = Instant::now();
    assert_eq!(next(&mut caches).await, MemberEvent::Suspect(cache.id));
    assert_eq!(caches.present().map(|(_, health)| health).collect::<Vec<_>>(), [Health::Suspect]);
    assert_eq!(next(&mut caches).await, MemberEvent::Gone(cache.id));
    assert!(silent_at.elapsed() >= LIVENESS.gone_after - LIVENESS.interval * 2);
    assert_eq!(caches.present().count(), 0);
    let _again = announce(backend, &cache).await;
    assert_eq!(next(&mut caches).await, MemberEvent::Joined(cache));
}

pub async fn leaving_is_told_at_once(backend: &Backend) {
    let mut all = watch(backend.bus().await, None).await;
    let server = entry(Role::ProofServer);
    let announced = announce(backend, &server).await;
    assert_eq!(next(&mut all).await, MemberEvent::Joined(server.clone()));
    let left_at = Instant::now();
    announced.leave().await.unwrap();
    assert_eq!(next(&mut all).await, MemberEvent::Gone(server.id));
    assert!(left_at.elapsed() < LIVENESS.suspect_after);
}

pub async fn an_old_entry_is_no_sign_of_life(backend: &Backend) {
    let (dead, living) = (entry(Role::PlotServer), entry(Role::PlotServer));
    drop(announce(backend, &dead).await);
    let _announced = announce(backend, &living).await;
    tokio::time::sleep(LIVENESS.interval).await;
    let mut servers = watch(backend.bus().await, Some(Role::PlotServer)).await;
    assert_eq!(next(&mut servers).await, MemberEvent::Joined(living.clone()));
    assert!(timeout(LIVENESS.gone_after * 2, servers.next()).await.is_err());
    assert_eq!(servers.present().map(|(entry, _)| entry.id).collect::<Vec<_>>(), [living.id]);
}
