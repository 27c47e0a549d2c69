use super::*;
use bus::local::LocalBus;
use control::messages::subjects;
use std::collections::HashMap;
use std::time::Duration;

const KEY: [u8; 32] = [7; 32];
const CONTROLLER: InstanceId = InstanceId([1; 16]);

/// What is on disk, and how long it takes.
#[derive(Clone, Default)]
struct TestDisk {
    signatures: Arc<Mutex<HashMap<[u8; 32], [u8; 64]>>>,
    delay: Duration,
}

impl TestDisk {
    fn store(&self) -> Store {
        let disk = self.clone();
        Box::new(move |hash, may_be_new| {
            let disk = disk.clone();
            Box::pin(async move {
                tokio::time::sleep(disk.delay).await;
                let mut signatures = disk.signatures.lock().unwrap();
                if let Some(signature) = signatures.get(&hash) {
                    return Stored::Known(*signature);
                }
                if !may_be_new {
                    return Stored::Absent;
                }
                let signature = [signatures.len() as u8 + 1; 64];
                signatures.insert(hash, signature);
                Stored::Fresh(signature)
            })
        })
    }
}

struct House {
    bus: SharedBus,
    windows: Windows,
    counters: Arc<Counters>,
}

impl House {
    async fn start(disk: &TestDisk) -> Self {
        Self::after_a_restart(disk, &[]).await
    }

    /// An earlier run handed solutions over, so many seconds ago.
    async fn after_a_restart(disk: &TestDisk, recalled: &[(InstanceId, u64)]) -> Self {
        let bus: SharedBus = Arc::new(LocalBus::new());
        let (windows, counters) = (Windows::new(), Arc::<Counters>::default());
        let requests = bus.subscribe(&subjects::signature(&KEY)).await.unwrap();
        for (controller, age_s) in recalled {
            windows.recall(KEY, *controller, Duration::from_secs(*age_s));
        }
        windows.serve(KEY);
        let signing = Signing {
            bus: bus.clone(),
            public_key: KEY,
            store: disk.store(),
            windows: windows.clone(),
            counters: counters.clone(),
        };
        tokio::spawn(signing.run(requests));
        Self { bus, windows, counters }
    }

    /// None when it is refused.
    async fn ask(&self, controller: InstanceId, hash: u8, patience_ms: u64) -> Option<[u8; 64]> {
        let request = RewardSigningRequest { controller, hash: [hash; 32], public_key: KEY };
        let patience = Duration::from_millis(patience_ms);
        let answer =
            self.bus.request(&subjects::signature(&KEY), request.to_bytes().unwrap(), patience).await;
        match SigningAnswer::from_bytes(&answer.unwrap()).unwrap() {
            SigningAnswer::Signed { signature } => Some(signature),
            SigningAnswer::Refused { .. } => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_client_of_the_bus_gets_nothing_and_a_controller_what_its_solution_needs() {
    let disk = TestDisk::default();
    let house = House::start(&disk).await;
    let stranger = InstanceId([9; 16]);
    for hash in 0..20 {
        assert_eq!(house.ask(stranger, hash, 500).await, None);
    }
    house.windows.handed_over(KEY, CONTROLLER);
    assert_eq!(house.ask(stranger, 1, 500).await, None);
    let first = house.ask(CONTROLLER, 1, 500).await.unwrap();
    assert_eq!(house.ask(CONTROLLER, 1, 500).await, Some(first), "the same again");
    let second = house.ask(CONTROLLER, 2, 500).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(house.ask(CONTROLLER, 3, 500).await, None, "a third new one");
    assert_eq!((disk.signatures.lock().unwrap().len(), house.counters.signed.get()), (2, 2));
    house.windows.handed_over(KEY, CONTROLLER);
    house.windows.not_taken(KEY, CONTROLLER);
    assert_eq!(house.ask(CONTROLLER, 3, 500).await, None, "that solution was not taken");
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(house.ask(CONTROLLER, 1, 500).await, Some(first));
    // After a restart the same is given, once there is a solution again.
    let house = House::start(&disk).await;
    assert_eq!(house.ask(CONTROLLER, 1, 500).await, None);
    house.windows.handed_over(KEY, CONTROLLER);
    assert_eq!(house.ask(CONTROLLER, 2, 500).await, Some(second));
    assert_eq!(house.ask(CONTROLLER, 1, 500).await, Some(first));
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_was_given_a_solution_before_a_restart_gets_its_signatures() {
    let disk = TestDisk::default();
    let house = House::start(&disk).await;
    house.windows.handed_over(KEY, CONTROLLER);
    let first = house.ask(CONTROLLER, 1, 500).await.unwrap();
    let (late, stranger) = (InstanceId([2; 16]), InstanceId([9; 16]));
    let house = House::after_a_restart(&disk, &[(late, 15), (CONTROLLER, 5)]).await;
    assert_eq!(house.ask(CONTROLLER, 1, 500).await, Some(first), "the same");
    assert!(house.ask(CONTROLLER, 2, 500).await.is_some());
    assert_eq!((house.ask(late, 3, 500).await, house.ask(stranger, 3, 500).await), (None, None));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(house.ask(CONTROLLER, 3, 500).await, None, "its time is over");
}

#[tokio::test(start_paused = true)]
async fn on_a_slow_disk_all_who_ask_meanwhile_get_the_one_signature() {
    let disk = TestDisk { delay: Duration::from_millis(350), ..TestDisk::default() };
    let house = House::start(&disk).await;
    house.windows.handed_over(KEY, CONTROLLER);
    let asked_at = Instant::now();
    let tries = (0..4).map(|n| {
        let house = &house;
        async move {
            tokio::time::sleep(Duration::from_millis(100 * n)).await;
            house.ask(CONTROLLER, 1, 500 - 100 * n).await
        }
    });
    let signatures = futures::future::join_all(tries).await;
    assert_eq!(signatures, [Some([1; 64]); 4]);
    assert_eq!(asked_at.elapsed().as_millis(), 350);
    assert_eq!(house.counters.signed.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_while_a_disk_works_does_not_leave() {
    let disk = TestDisk { delay: Duration::from_millis(200), ..TestDisk::default() };
    let house = House::start(&disk).await;
    house.windows.handed_over(KEY, CONTROLLER);
    let (answer, ()) = tokio::join!(house.ask(CONTROLLER, 1, 500), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        house.windows.lose(KEY, &house.bus).await;
    });
    assert_eq!(answer, None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(house.ask(CONTROLLER, 1, 500).await, None);
}

#[tokio::test(start_paused = true)]
async fn garbage_and_other_keys_on_the_subject_are_passed_over() {
    let disk = TestDisk::default();
    let house = House::start(&disk).await;
    house.windows.serve([8; 32]);
    house.windows.handed_over(KEY, CONTROLLER);
    house.windows.handed_over([8; 32], CONTROLLER);
    let subject = subjects::signature(&KEY);
    for garbage in [&b""[..], b"xx", &[0xff; 300]] {
        house.bus.publish(&subject, bytes::Bytes::copy_from_slice(garbage)).await.unwrap();
    }
    let other = RewardSigningRequest { controller: CONTROLLER, hash: [1; 32], public_key: [8; 32] };
    let patience = Duration::from_millis(100);
    assert!(house.bus.request(&subject, other.to_bytes().unwrap(), patience).await.is_err());
    assert!(disk.signatures.lock().unwrap().is_empty(), "signed by another's key");
    assert!(house.ask(CONTROLLER, 1, 500).await.is_some());
}
