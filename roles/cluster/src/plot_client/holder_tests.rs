use super::*;
use async_trait::async_trait;
use bus::local::LocalBus;
use bus::{Bucket, BucketConfig, Bus, Queue, QueueConfig, Subscription};
use bytes::Bytes;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

const KEY: [u8; 32] = [7; 32];

/// One member's way to the bus: without JetStream, and cut off at times.
struct Wire {
    bus: LocalBus,
    is_cut: AtomicBool,
}

impl Wire {
    fn unavailable<T>() -> Result<T, BusError> {
        Err(BusError::Unavailable { what: "jetstream".to_owned(), reason: "no leader".to_owned() })
    }
}

#[async_trait]
impl Bus for Wire {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        if self.is_cut.load(Ordering::Relaxed) { Ok(()) } else { self.bus.publish(subject, payload).await }
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, BusError> {
        self.bus.subscribe(filter).await
    }

    async fn request(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.bus.request(subject, payload, timeout).await
    }

    async fn queue(&self, _: &QueueConfig) -> Result<Arc<dyn Queue>, BusError> {
        Self::unavailable()
    }

    async fn bucket(&self, _: &BucketConfig) -> Result<Arc<dyn Bucket>, BusError> {
        Self::unavailable()
    }

    fn is_connected(&self) -> bool {
        !self.is_cut.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct TestFarm(Mutex<Option<Stopped>>);

impl TestFarm {
    fn stopped(&self) -> Option<Stopped> {
        self.0.lock().unwrap().clone()
    }
}

impl Stop for TestFarm {
    fn stop(&self, why: &Stopped) {
        *self.0.lock().unwrap() = Some(why.clone());
    }
}

/// A plot-client with some farms.
struct Client {
    wire: Arc<Wire>,
    held: Held,
    farms: Vec<Arc<TestFarm>>,
    holds: Holds,
    running: JoinHandle<()>,
}

impl Client {
    async fn start(bus: &LocalBus, n: u8, keys: &[[u8; 32]]) -> Self {
        let wire = Arc::new(Wire { bus: bus.clone(), is_cut: AtomicBool::new(false) });
        let id = InstanceId([n; 16]);
        let (holding, holds, held) = Holding::new(wire.clone(), id, &format!("host-{n}"), Windows::new());
        let mut farms = Vec::new();
        for key in keys {
            farms.push(Arc::new(TestFarm::default()));
            let path = format!("/disk-{n}/{}", key[0]);
            holds.open(*key, path, farms.last().unwrap().clone()).await.unwrap();
        }
        Self { wire, held, farms, holds, running: tokio::spawn(holding.run()) }
    }

    fn cut(&self, is_cut: bool) {
        self.wire.is_cut.store(is_cut, Ordering::Relaxed);
    }

    fn may_farm(&self) -> bool {
        self.held.may_farm(&KEY)
    }

    fn is_stopped(&self) -> bool {
        self.farms[0].stopped().is_some()
    }
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_farm_begins_after_its_claim() {
    let client = Client::start(&LocalBus::new(), 1, &[KEY]).await;
    pass(900).await;
    assert!(!client.may_farm());
    pass(200).await;
    assert!(client.may_farm() && !client.held.may_farm(&[8; 32]));
}

#[tokio::test(start_paused = true)]
async fn the_later_of_two_ends_with_both_hosts_named_and_the_earlier_goes_on() {
    // Whichever id is the lower one.
    for (earlier, later) in [(1, 2), (2, 1)] {
        let bus = LocalBus::new();
        let first = Client::start(&bus, earlier, &[KEY]).await;
        pass(3000).await;
        let second = Client::start(&bus, later, &[KEY]).await;
        pass(3000).await;
        let stopped = second.farms[0].stopped().unwrap().to_string();
        for part in [
            format!("/disk-{earlier}/7 on host host-{earlier}"),
            format!("/disk-{later}/7 on host host-{later}"),
        ] {
            assert!(stopped.contains(&part), "{stopped}");
        }
        assert!(!second.held.may_farm(&KEY) && !second.running.is_finished());
        pass(10_000).await;
        assert!(first.may_farm() && !first.is_stopped() && !first.running.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_partition_heals_one_goes_on_within_five_seconds() {
    for (earlier, later) in [(1, 2), (2, 1)] {
        let bus = LocalBus::new();
        let first = Client::start(&bus, earlier, &[KEY]).await;
        pass(1500).await;
        first.cut(true);
        let second = Client::start(&bus, later, &[KEY]).await;
        pass(30_000).await;
        assert!(first.may_farm() && second.may_farm(), "neither hears of the other");
        first.cut(false);
        pass(5000).await;
        assert!(first.may_farm() && !second.may_farm() && second.is_stopped());
        assert!(!first.running.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn a_farm_that_was_let_go_begins_elsewhere_and_may_come_back() {
    let bus = LocalBus::new();
    let first = Client::start(&bus, 1, &[KEY]).await;
    pass(3000).await;
    first.holds.close(KEY).await;
    assert!(!first.may_farm());
    let second = Client::start(&bus, 2, &[KEY]).await;
    pass(1500).await;
    assert!(second.may_farm() && !second.is_stopped());
    second.holds.close(KEY).await;
    let again = Arc::new(TestFarm::default());
    first.holds.open(KEY, "/disk-1/7".to_owned(), again.clone()).await.unwrap();
    pass(1500).await;
    assert!(first.may_farm() && again.stopped().is_none());
    assert!(!first.running.is_finished() && !second.running.is_finished(), "without a farm it waits");
}

#[tokio::test(start_paused = true)]
async fn only_the_copied_farm_stops_where_there_are_others() {
    let bus = LocalBus::new();
    let first = Client::start(&bus, 1, &[KEY]).await;
    pass(100).await;
    let second = Client::start(&bus, 2, &[KEY, [8; 32]]).await;
    pass(5000).await;
    assert!(first.may_farm() && second.is_stopped() && !second.may_farm());
    assert!(second.held.may_farm(&[8; 32]) && !second.running.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_connection_waits_and_garbage_stops_nobody() {
    let bus = LocalBus::new();
    let client = Client::start(&bus, 1, &[KEY]).await;
    client.cut(true);
    pass(5000).await;
    assert!(!client.may_farm(), "nobody could object");
    client.cut(false);
    pass(1500).await;
    assert!(client.may_farm());
    let word = FarmHeld {
        client: InstanceId([0; 16]),
        public_key: [9; 32],
        host: String::new(),
        path: String::new(),
        held_ms: u64::MAX,
        over: Some(InstanceId([1; 16])),
    };
    for payload in [Bytes::new(), Bytes::from_static(&[0xff; 90]), word.to_bytes().unwrap()] {
        bus.publish(&subjects::farm(&KEY), payload).await.unwrap();
    }
    pass(100).await;
    assert!(client.may_farm());
}
