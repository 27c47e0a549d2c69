//! A controller between a scripted node and a bus that comes and goes.

use super::*;
use crate::shutdown::KeepRunning;
use crate::test_bus::TestBus;
use bus::Subscription;
use control::ids::FarmId;
use jsonrpsee::server::{RpcModule, Server, ServerHandle};
use jsonrpsee::types::ErrorObjectOwned;
use node::{ERROR_CODE, SOLUTION_IGNORED};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

const ME: InstanceId = InstanceId([6; 16]);
const PATIENCE: Duration = Duration::from_secs(60);
/// Time in which something that must not happen would.
const A_MOMENT: Duration = Duration::from_millis(200);

/// What the node says to a solution.
#[derive(Debug, Clone, Copy)]
enum Says {
    Queued,
    Ignored,
    Nonsense,
    Nothing,
}

/// A node that says what it is told.
struct Script {
    slots: broadcast::Sender<(u64, u8)>,
    says: Mutex<Says>,
    /// Chunks of the solutions that came.
    came: Mutex<Vec<u8>>,
}

async fn serve(script: &Arc<Script>, address: SocketAddr) -> (SocketAddr, ServerHandle) {
    let mut module = RpcModule::new(script.clone());
    module.register_method("subspace_acknowledgeArchivedSegmentHeader", |_, _, _| ()).unwrap();
    module
        .register_async_method("subspace_submitSolutionResponse", |params, script, _| async move {
            let response: node::SolutionResponse = params.one().unwrap();
            let solution = Solution::from(response.solution);
            script.came.lock().unwrap().push(solution.chunk[0]);
            let says = *script.says.lock().unwrap();
            let error = |text: &str| Err(ErrorObjectOwned::owned(ERROR_CODE, text, None::<()>));
            match says {
                Says::Queued => Ok(()),
                Says::Ignored => error(SOLUTION_IGNORED),
                Says::Nonsense => error("this is no solution"),
                Says::Nothing => std::future::pending().await,
            }
        })
        .unwrap();
    let name = ["subspace_subscribeSlotInfo", "subspace_slot_info", "subspace_unsubscribeSlotInfo"];
    module
        .register_subscription(name[0], name[1], name[2], |_, pending, script, _| async move {
            let mut slots = script.slots.subscribe();
            let Ok(sink) = pending.accept().await else { return };
            while let Ok((slot, challenge)) = slots.recv().await {
                let json = json!({"slotNumber": slot, "globalChallenge": hex::encode([challenge; 32]),
                    "solutionRange": 1, "votingSolutionRange": 2});
                let sent = sink.send(serde_json::value::to_raw_value(&json).unwrap());
                if sent.await.is_err() {
                    return;
                }
            }
        })
        .unwrap();
    let server = loop {
        // A restarted server may find its address still held by the one before.
        match Server::builder().build(address).await {
            Ok(server) => break server,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    (server.local_addr().unwrap(), server.start(module))
}

/// A node's process: it ends as one that is killed does, in the midst of whatever it does.
struct Process {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Process {
    async fn start(script: &Arc<Script>, address: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let script = script.clone();
        let started = runtime.spawn(async move {
            let (address, server) = serve(&script, address).await;
            tokio::spawn(server.stopped());
            address
        });
        Self { address: started.await.unwrap(), runtime: Some(runtime) }
    }

    fn kill(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Default)]
struct Handed(Mutex<Vec<[u8; 32]>>);

impl HandedToNode for Handed {
    fn handed_to_node(&self, public_key: [u8; 32]) {
        self.0.lock().unwrap().push(public_key);
    }

    /// Nobody signs here: what was handed over is waited for until the desk ends.
    fn is_quiet(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

struct Scene {
    script: Arc<Script>,
    process: Process,
    bus: TestBus,
    heard: Subscription,
    counts: Arc<Counts>,
    handed: Arc<Handed>,
    keep_running: KeepRunning,
    running: JoinHandle<()>,
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// Looks until it is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

impl Scene {
    async fn new() -> Self {
        let (slots, _) = broadcast::channel(64);
        let script = Arc::new(Script { slots, says: Mutex::new(Says::Queued), came: Mutex::default() });
        let process = Process::start(&script, SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let address = process.address;
        let (bus, counts, handed) = (TestBus::default(), Arc::<Counts>::default(), Arc::<Handed>::default());
        let heard = bus.others().subscribe(subjects::SLOT).await.unwrap();
        let (keep_running, shutdown) = Shutdown::new();
        let running = tokio::spawn({
            let (bus, counts, handed) = (bus.clone(), counts.clone(), handed.clone());
            let node = NodeClient::new(&format!("ws://{address}"));
            async move {
                let between = Between { me: ME, node: &node, bus: &bus, counts: &counts, handed: &*handed };
                pass(&between, &shutdown).await.unwrap();
            }
        });
        let scene = Self { script, process, bus, heard, counts, handed, keep_running, running };
        scene.subscribed().await;
        scene
    }

    /// The controller has its subscription.
    async fn subscribed(&self) {
        until(|| self.script.slots.receiver_count() > 0).await;
    }

    fn says(&self, says: Says) {
        *self.script.says.lock().unwrap() = says;
    }

    /// The node announces a slot, and the cluster hears of it.
    async fn announced(&mut self, slot: u64, challenge: u8) -> SlotInfo {
        self.script.slots.send((slot, challenge)).unwrap();
        self.next_heard().await
    }

    async fn next_heard(&mut self) -> SlotInfo {
        SlotInfo::from_bytes(&within(self.heard.next()).await.unwrap().payload).unwrap()
    }

    /// A finder asks for solution number `n` to be sent.
    fn ask(&self, slot: u64, challenge: u8, n: u8) -> impl Future<Output = SolutionAnswer> + use<> {
        let bus = self.bus.others().clone();
        let mut solution = Solution::from_bytes(&[1; 412]).unwrap();
        solution.chunk = [n; 32];
        let (global_challenge, finder, farm) = ([challenge; 32], InstanceId([7; 16]), FarmId([8; 16]));
        let found = SolutionFound { slot, global_challenge, finder, farm, solution: solution.to_bytes() };
        async move {
            let asked = bus.request(&subjects::solution(ME), found.to_bytes().unwrap(), PATIENCE).await;
            SolutionAnswer::from_bytes(&asked.unwrap()).unwrap()
        }
    }

    async fn is_not_sent(&self, slot: u64, challenge: u8, n: u8) -> bool {
        matches!(within(self.ask(slot, challenge, n)).await, SolutionAnswer::NotSent { .. })
    }

    fn came(&self) -> Vec<u8> {
        self.script.came.lock().unwrap().clone()
    }

    async fn kill_node(&mut self) {
        self.process.kill();
        until(|| self.script.slots.receiver_count() == 0).await;
    }
}

#[tokio::test]
async fn a_solution_goes_to_the_node_that_announced_exactly_its_slot_and_once() {
    let mut scene = Scene::new().await;
    let first = scene.announced(5, 0).await;
    assert_eq!((first.controller, first.voting_solution_range), (ME, 2));
    assert!(scene.is_not_sent(5, 1, 1).await, "the node has another challenge");
    assert!(scene.is_not_sent(4, 0, 1).await, "never announced");
    let (one, other) = (scene.ask(5, 0, 1), scene.ask(5, 0, 1));
    let answers = within(async { tokio::join!(one, other) }).await;
    assert_eq!(answers, (SolutionAnswer::Queued, SolutionAnswer::Queued));
    assert_eq!(within(scene.ask(5, 0, 1)).await, SolutionAnswer::Queued);
    assert_eq!((scene.came(), &scene.handed.0.lock().unwrap()[..]), (vec![1], &[[1; 32]][..]));
    for (n, says) in [(2, Says::Ignored), (3, Says::Nonsense)] {
        scene.says(says);
        assert!(within(scene.ask(5, 0, n)).await.is_not_taken());
    }
    let count = |outcome| scene.counts.of(outcome);
    let counts = [Outcome::Queued, Outcome::Refused, Outcome::NotSent, Outcome::Repeated].map(count);
    assert_eq!(counts, [1, 1, 3, 2]);
    assert_eq!(scene.handed.0.lock().unwrap().len(), 1, "nothing to be signed for the others");
    let second = scene.announced(6, 0).await;
    assert!(second.announced_ms >= first.announced_ms);
}

#[tokio::test]
async fn bytes_that_are_no_request_are_not_sent() {
    let scene = Scene::new().await;
    let asked = scene.bus.others().request(&subjects::solution(ME), bytes::Bytes::new(), PATIENCE).await;
    let answer = SolutionAnswer::from_bytes(&asked.unwrap()).unwrap();
    assert!(matches!(answer, SolutionAnswer::NotSent { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_node_that_restarts_between_slot_and_solution_gets_nothing() {
    let mut scene = Scene::new().await;
    scene.announced(5, 0).await;
    scene.kill_node().await;
    // Noticed or not: the connection over which the slot came is gone.
    assert!(scene.is_not_sent(5, 0, 1).await);
    scene.process = Process::start(&scene.script, scene.process.address).await;
    scene.subscribed().await;
    assert!(scene.is_not_sent(5, 0, 1).await, "it does not know the slot");
    scene.announced(6, 0).await;
    assert_eq!(within(scene.ask(6, 0, 2)).await, SolutionAnswer::Queued);
    assert_eq!(scene.came(), [2]);
}

#[tokio::test]
async fn a_node_that_dies_over_a_solution_may_have_it() {
    let mut scene = Scene::new().await;
    scene.announced(5, 0).await;
    scene.says(Says::Nothing);
    let asked = tokio::spawn(scene.ask(5, 0, 1));
    until(|| scene.came() == [1]).await;
    scene.kill_node().await;
    let answer = within(asked).await.unwrap();
    assert!(matches!(answer, SolutionAnswer::Unknown { .. }), "{answer:?}");
    assert_eq!(scene.handed.0.lock().unwrap().len(), 1, "so it may want a signature");
    assert!(matches!(within(scene.ask(5, 0, 1)).await, SolutionAnswer::Unknown { .. }), "for ever");
}

#[tokio::test]
async fn a_slot_that_comes_while_the_bus_is_away_is_never_announced() {
    let mut scene = Scene::new().await;
    scene.announced(5, 0).await;
    scene.bus.set_away(true);
    for slot in 6..10 {
        scene.script.slots.send((slot, 0)).unwrap();
    }
    until(|| scene.counts.withheld() == 4).await;
    scene.bus.set_away(false);
    assert_eq!(scene.announced(10, 0).await.slot, 10, "the next one is heard, and none of those before");
    assert_eq!((scene.counts.announced(), scene.counts.withheld()), (2, 4));
}

#[tokio::test]
async fn told_to_end_it_takes_no_more_and_stays_while_the_node_may_want_signatures() {
    let mut scene = Scene::new().await;
    scene.announced(5, 0).await;
    assert_eq!(within(scene.ask(5, 0, 1)).await, SolutionAnswer::Queued);
    let (keep_running, _) = Shutdown::new();
    drop(std::mem::replace(&mut scene.keep_running, keep_running));
    tokio::time::sleep(A_MOMENT).await;
    assert!(scene.is_not_sent(5, 0, 2).await);
    scene.script.slots.send((6, 0)).unwrap();
    assert!(timeout(A_MOMENT, scene.heard.next()).await.is_err(), "its slots would be for nothing");
    assert!(!scene.running.is_finished());
    // With the node goes what it had queued.
    scene.kill_node().await;
    within(&mut scene.running).await.unwrap();
}

#[tokio::test]
async fn with_nothing_to_sign_the_end_is_at_once() {
    let mut scene = Scene::new().await;
    scene.announced(5, 0).await;
    drop(scene.keep_running);
    within(&mut scene.running).await.unwrap();
    assert_eq!(scene.counts.withheld(), 0);
}
