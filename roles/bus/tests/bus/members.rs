//! Members that come, change, fall silent and leave.

use crate::backends::{Backend, connect};
use crate::nats_server::NatsServer;
use bus::Fresh;
use bus::SharedBus;
use bus::local::LocalBus;
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

/// The next event that is about a life.
async fn next(watch: &mut MemberWatch) -> MemberEvent {
    loop {
        let event = timeout(Duration::from_secs(10), watch.next()).await.expect("an event comes").unwrap();
        if !matches!(event, MemberEvent::Listed(_) | MemberEvent::Unlisted(_)) {
            return event;
        }
    }
}

/// Whether nothing is said of any life for so long.
async fn is_quiet(watch: &mut MemberWatch, time: Duration) -> bool {
    timeout(time, next(watch)).await.is_err()
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
    assert!(is_quiet(&mut members, liveness.gone_after + Duration::from_millis(500)).await);
    server.start_again();
    assert!(is_quiet(&mut members, liveness.gone_after * 2).await);
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
    announced.update(|entry| entry.capacity = 2);
    assert_eq!(next(&mut caches).await, MemberEvent::Updated(cache.clone()));
    assert!(is_quiet(&mut caches, LIVENESS.gone_after * 2).await, "alive is no event");
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
    assert!(is_quiet(&mut servers, LIVENESS.gone_after * 2).await);
    assert_eq!(servers.present().map(|(entry, _)| entry.id).collect::<Vec<_>>(), [living.id]);
}

/// Of a role that is not heard the entry alone tells: it is present as soon as it is listed.
pub async fn roles_that_are_not_heard_are_listed(backend: &Backend) {
    let client = entry(Role::PlotClient);
    let announced = announce(backend, &client).await;
    let mut all = MemberWatch::start_for(backend.bus().await, Role::ProofServer, LIVENESS).await.unwrap();
    assert_eq!(next(&mut all).await, MemberEvent::Joined(client.clone()));
    assert_eq!(all.present().collect::<Vec<_>>(), [(&client, Health::Listed)]);
    announced.leave().await.unwrap();
    assert_eq!(next(&mut all).await, MemberEvent::Gone(client.id));
    assert_eq!(all.listed().count(), 0);
}

/// Members start, and hear each other's lives, while nothing can be stored; their entries follow when it can.
#[tokio::test(start_paused = true)]
async fn without_a_store_members_start_and_follow_later() {
    let bus = LocalBus::new();
    bus.set_store(false);
    let server = entry(Role::PlotServer);
    let mut watch = watch(Arc::new(bus.another()), None).await;
    let _announced = Announced::start(Arc::new(bus.another()), server.clone(), LIVENESS).await.unwrap();
    assert!(is_quiet(&mut watch, LIVENESS.gone_after * 5).await);
    bus.set_store(true);
    assert_eq!(next(&mut watch).await, MemberEvent::Joined(server));
}

/// The store is emptied: members put themselves there again at once, and who joins after that sees them.
#[tokio::test(start_paused = true)]
async fn a_lost_bucket_is_filled_again_by_its_members() {
    let bus = LocalBus::new();
    let server = entry(Role::PlotServer);
    let _announced = Announced::start(Arc::new(bus.another()), server.clone(), LIVENESS).await.unwrap();
    let mut before = watch(Arc::new(bus.another()), None).await;
    assert_eq!(next(&mut before).await, MemberEvent::Joined(server.clone()));
    bus.lose_store();
    let mut after = watch(Arc::new(bus.another()), None).await;
    assert_eq!(next(&mut after).await, MemberEvent::Joined(server));
    assert!(is_quiet(&mut before, LIVENESS.gone_after * 2).await, "for others nothing happened");
}

/// The same with a real server.
#[tokio::test]
async fn an_emptied_server_is_filled_again_by_its_members() {
    let mut nats = NatsServer::start();
    let server = entry(Role::PlotServer);
    let announced = Announced::start(Arc::new(connect(&nats).await), server.clone(), LIVENESS).await.unwrap();
    nats.kill();
    nats.lose_store();
    nats.start_again();
    let mut after = watch(Arc::new(connect(&nats).await), None).await;
    assert_eq!(next(&mut after).await, MemberEvent::Joined(server.clone()));
    announced.leave().await.unwrap();
    assert_eq!(next(&mut after).await, MemberEvent::Gone(server.id));
}
