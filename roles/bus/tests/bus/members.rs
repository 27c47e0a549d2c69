//! Members that come, change, fall silent and leave.

use crate::backends::{Backend, connect};
use crate::nats_server::NatsServer;
use bus::local::LocalBus;
use bus::members::{Announced, Health, Liveness, MemberEvent, MemberWatch};
use bus::{BucketConfig, Fresh, SharedBus, WatchEvent};
use control::ids::InstanceId;
use control::messages::{MemberEntry, Role};
use futures::TryStreamExt;
use std::collections::BTreeSet;
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
        is_full: false,
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

/// Plot-clients are many: they hear of those whom they ask, and not of each other. Everybody else hears of all.
pub async fn a_plot_client_hears_of_whom_it_asks(backend: &Backend) {
    let entries = [Role::PlotClient, Role::ShardedCache, Role::Controller, Role::PlotServer].map(entry);
    let mut announced = Vec::new();
    for entry in &entries {
        announced.push(announce(backend, entry).await);
    }
    let bus = backend.bus().await;
    let bucket = BucketConfig { name: "members".to_owned(), max_age: Some(LIVENESS.entry_max_age()) };
    let mut all = bus.bucket(&bucket).await.unwrap().watch(">").await.unwrap();
    let mut kept = BTreeSet::new();
    while kept.len() < entries.len() {
        if let WatchEvent::Put(entry) = timeout(Duration::from_secs(10), all.next()).await.unwrap() {
            kept.insert(entry.key);
        }
    }
    let keys = entries.each_ref().map(|entry| format!("{}.{}", entry.role.token(), entry.id));
    assert_eq!(kept, BTreeSet::from(keys), "where members of all releases look");

    let mut client = MemberWatch::start_for(bus.clone(), Role::PlotClient, LIVENESS).await.unwrap();
    let [_, cache, _, server] = &entries;
    let mut heard = BTreeSet::new();
    while heard.len() < 2 {
        match next(&mut client).await {
            MemberEvent::Joined(entry) => assert!(heard.insert(entry.id)),
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(heard, BTreeSet::from([cache.id, server.id]));
    announced.push(announce(backend, &entry(Role::PlotClient)).await);
    let prover = entry(Role::ProofServer);
    announced.push(announce(backend, &prover).await);
    assert_eq!(next(&mut client).await, MemberEvent::Joined(prover.clone()));
    assert!(is_quiet(&mut client, LIVENESS.gone_after).await);
    let listed: BTreeSet<_> = client.listed().map(|entry| entry.id).collect();
    assert_eq!(listed, BTreeSet::from([cache.id, server.id, prover.id]), "and these may connect");

    for role in Role::ALL.into_iter().filter(|role| *role != Role::PlotClient) {
        let mut watch = MemberWatch::start_for(bus.clone(), role, LIVENESS).await.unwrap();
        while watch.listed().count() < announced.len() {
            timeout(Duration::from_secs(10), watch.next()).await.expect("it hears of all").unwrap();
        }
    }
}

/// It is the server that passes over the others: they cost nothing on the way to a plot-client.
#[tokio::test]
async fn a_plot_client_is_sent_only_whom_it_asks() {
    let server = NatsServer::start();
    let bus: SharedBus = Arc::new(connect(&server).await);
    let mut announced = Vec::new();
    for role in [[Role::PlotClient; 5].as_slice(), &[Role::PlotServer; 2], &[Role::ProofServer]].concat() {
        announced.push(Announced::start(bus.clone(), entry(role), LIVENESS).await.unwrap());
    }
    let mut delivered = Vec::new();
    for (role, expected) in [(Role::PlotClient, 3), (Role::ProofServer, 8)] {
        let mut watch = MemberWatch::start_for(bus.clone(), role, LIVENESS).await.unwrap();
        while watch.listed().count() < expected {
            timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
        }
        let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
        let stream = context.get_stream("KV_autonomys_members").await.unwrap();
        let consumers: Vec<_> = stream.consumers().try_collect().await.unwrap();
        assert_eq!(consumers.len(), 1, "one for all filters");
        delivered.push(consumers[0].delivered.consumer_sequence);
        drop(watch);
        stream.delete_consumer(&consumers[0].name).await.unwrap();
    }
    assert_eq!(delivered, [3, 8]);
}

/// Without a store a plot-client notices in the same time that a server is gone.
#[tokio::test(start_paused = true)]
async fn a_death_is_noticed_without_a_store() {
    let bus = LocalBus::new();
    let (server, another) = (entry(Role::PlotServer), |bus: &LocalBus| Arc::new(bus.another()));
    let announced = Announced::start(another(&bus), server.clone(), LIVENESS).await.unwrap();
    let mut client = MemberWatch::start_for(another(&bus), Role::PlotClient, LIVENESS).await.unwrap();
    assert_eq!(next(&mut client).await, MemberEvent::Joined(server.clone()));
    bus.set_store(false);
    assert!(is_quiet(&mut client, LIVENESS.gone_after * 5).await, "it lives");
    drop(announced);
    let silent_at = Instant::now();
    assert_eq!(next(&mut client).await, MemberEvent::Suspect(server.id));
    assert_eq!(next(&mut client).await, MemberEvent::Gone(server.id));
    assert!(silent_at.elapsed() < LIVENESS.gone_after + LIVENESS.interval);
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
