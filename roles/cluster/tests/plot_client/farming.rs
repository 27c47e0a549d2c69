use crate::house::{Client, PATIENCE, PIECES, REWARD_ADDRESS, cluster, kzg, next, publish};
use crate::staging::{make, stage};
use bus::SharedBus;
use bus::jobs::PlotJobs;
use cluster::plot_client::{FarmSpec, SENT_FILE};
use consensus::identity::is_reward_signature_valid;
use consensus::kzg::Kzg;
use consensus::solution::Solution;
use consensus::verify::{VerifyParameters, verify_solution};
use control::ids::InstanceId;
use control::messages::{
    Control, FarmHeld, PlotJob, PlotPhase, RewardSigningRequest, SigningAnswer, SlotInfo, SolutionAnswer,
    SolutionFound, subjects,
};
use control::solutions::SolutionKey;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub fn farm(path: &Path, sectors: u16) -> FarmSpec {
    format!("path={},sectors={sectors}", path.display()).parse().unwrap()
}

pub async fn take(bus: &SharedBus, wait: Duration) -> Option<PlotJob> {
    let jobs = PlotJobs::open(&**bus).await.unwrap();
    let taken = jobs.take(&["default".to_owned()], wait).await.unwrap()?;
    taken.delivery.ack().await.unwrap();
    Some(taken.job)
}

fn challenge(slot: u64) -> [u8; 32] {
    *blake3::hash(&slot.to_le_bytes()).as_bytes()
}

/// Half of all chunks are within it.
const RANGE: u64 = u64::MAX / 2;

const CONTROLLERS: [InstanceId; 2] = [InstanceId([1; 16]), InstanceId([2; 16])];

/// Announces a slot as two controllers do.
pub async fn announce(bus: &SharedBus, slot: u64) {
    for controller in CONTROLLERS {
        let global_challenge = challenge(slot);
        let (solution_range, voting_solution_range) = (RANGE / 2, RANGE);
        let slot = SlotInfo {
            slot,
            global_challenge,
            solution_range,
            voting_solution_range,
            controller,
            announced_ms: slot * 1000,
        };
        publish(bus, subjects::SLOT, &slot).await;
    }
}

/// Asks as that controller for a signature over a hash of threes, until the farm is held; none when it is refused.
pub async fn sign(bus: &SharedBus, controller: InstanceId, public_key: [u8; 32]) -> Option<[u8; 64]> {
    let request = RewardSigningRequest { controller, hash: [3; 32], public_key };
    let subject = subjects::signature(&public_key);
    let ask = async {
        loop {
            let answer = bus.request(&subject, request.to_bytes().unwrap(), Duration::from_secs(1)).await;
            if let Ok(answer) = answer {
                return answer;
            }
            // Where nobody listens yet the answer comes at once.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, ask).await.unwrap();
    match SigningAnswer::from_bytes(&answer).unwrap() {
        SigningAnswer::Signed { signature } => Some(signature),
        SigningAnswer::Refused { .. } => None,
    }
}

/// Announces slots until one is won, and verifies the solution as the chain would. Gives it, and the controller that was asked to send it.
pub async fn win(bus: &SharedBus, job: &PlotJob, kzg: &Kzg) -> (SolutionKey, InstanceId) {
    let mut solutions = bus.subscribe("solution.*").await.unwrap();
    let (asked, announced) = tokio::select! {
        asked = solutions.next() => (asked.unwrap(), 0),
        announced = async {
            let mut slot = 0;
            loop {
                announce(bus, slot).await;
                slot += 1;
                tokio::time::sleep(Duration::from_millis(700)).await;
                if slot == 150 { return slot }
            }
        } => panic!("none of {announced} slots was won"),
    };
    assert_eq!(announced, 0);
    let queued = SolutionAnswer::Queued.to_bytes().unwrap();
    bus.publish(asked.reply_to.as_ref().unwrap(), queued).await.unwrap();
    let found = SolutionFound::from_bytes(&asked.payload).unwrap();
    let is_asked = |id: &InstanceId| subjects::solution(*id) == asked.subject;
    let controller = CONTROLLERS.into_iter().find(is_asked).unwrap();
    assert_eq!((found.global_challenge, found.farm), (challenge(found.slot), job.sector.farm));
    let solution = Solution::from_bytes(&found.solution).unwrap();
    let of = (solution.public_key, solution.reward_address, solution.sector_index, solution.history_size);
    assert_eq!(of, (job.public_key, REWARD_ADDRESS, job.sector.sector_index, job.sector.history_size));
    let parameters = VerifyParameters {
        global_challenge: found.global_challenge,
        solution_range: RANGE,
        piece_check: None,
    };
    verify_solution(&solution, &parameters, kzg.verifier()).unwrap();
    (SolutionKey::of(found.slot, &solution), controller)
}

/// From now on controllers queue whatever they are asked to send; gives what that is.
async fn queue_all(bus: &SharedBus) -> Arc<Mutex<HashSet<SolutionKey>>> {
    let mut asked = bus.subscribe("solution.*").await.unwrap();
    let (sent, bus) = (Arc::<Mutex<HashSet<_>>>::default(), bus.clone());
    let all = sent.clone();
    tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            let found = SolutionFound::from_bytes(&message.payload).unwrap();
            let solution = Solution::from_bytes(&found.solution).unwrap();
            all.lock().unwrap().insert(SolutionKey::of(found.slot, &solution));
            let queued = SolutionAnswer::Queued.to_bytes().unwrap();
            bus.publish(&message.reply_to.unwrap(), queued).await.unwrap();
        }
    });
    sent
}

/// Starts a plot-client again until one has found what was sent for that slot, which leads to the same solution: it works on a slot
/// once, and where other things have the processors it may prove too late.
async fn find_again(bus: &SharedBus, farms: &[FarmSpec], slot: u64) -> Client {
    loop {
        let client = Client::start(bus, farms.to_vec());
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            announce(bus, slot).await;
            if client.counters.unknown.get() > 0 {
                return client;
            }
        }
        client.stop().await;
    }
}

#[tokio::test]
async fn a_farm_is_plotted_wins_slots_and_signs_once() {
    let (bus, kzg, dir) = (cluster().await, kzg(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("file"), "not a folder").unwrap();
    let farms = vec![farm(&dir.path().join("file/farm"), 1), farm(&dir.path().join("farm"), 3)];
    let client = Client::start(&bus, farms.clone());

    // The disk that fails does not stop the other one, which has two jobs open.
    let first = take(&bus, PATIENCE).await.unwrap();
    let second = take(&bus, PATIENCE).await.unwrap();
    assert_eq!((first.sector.sector_index, second.sector.sector_index), (0, 1));
    assert_eq!((first.pieces_in_sector, first.sector.history_size), (PIECES, 9));
    assert_eq!(take(&bus, Duration::from_millis(300)).await, None);

    // What is staged must be whole; then it is taken, and a third job is offered.
    let made = make(&first, &kzg);
    let checksum = *made.bytes.last_chunk().unwrap();
    let answer = stage(&bus, &second, make(&second, &kzg), checksum, 0).await;
    assert!(matches!(answer, PlotPhase::Refused { .. }), "{answer:?}");
    // A range that came damaged is found when the sector is, and fetched again.
    assert_eq!(stage(&bus, &first, made, checksum, 1).await, PlotPhase::Stored);
    assert_eq!(take(&bus, PATIENCE).await.unwrap().sector.sector_index, 2);

    assert_eq!(sign(&bus, CONTROLLERS[0], first.public_key).await, None, "no solution has left");
    let (won, controller) = win(&bus, &first, &kzg).await;
    let signature = sign(&bus, controller, first.public_key).await.unwrap();
    assert!(is_reward_signature_valid(&[3; 32], &signature, &first.public_key));
    assert_eq!(sign(&bus, controller, first.public_key).await, Some(signature));
    // What was refused is ordered again after a pause, of others if there are any.
    let again = take(&bus, PATIENCE).await.unwrap();
    assert_eq!((again.sector, again.attempt, again.avoid.len()), (second.sector, 2, 1));
    let counters = client.counters.clone();
    client.stop().await;
    assert!(counters.slots.get() > won.slot && counters.queued.get() == 1, "{counters:?}");
    assert_eq!(counters.proved.get(), counters.ended(), "each solution has one outcome: {counters:?}");
    assert_eq!((counters.plotted.get(), counters.failed.get(), counters.signed.get()), (1, 0, 1));
    assert!(counters.audit_time(99) >= counters.audit_time(50));

    // All of it is there after a restart: the sector, the one signature, and that the solution was sent.
    let client = Client::start(&bus, farms.clone());
    let offered: HashSet<_> = [take(&bus, PATIENCE).await.unwrap(), take(&bus, PATIENCE).await.unwrap()]
        .map(|job| (job.sector.farm, job.sector.sector_index))
        .into();
    assert_eq!(offered, HashSet::from([1, 2].map(|sector| (first.sector.farm, sector))));
    assert_eq!(sign(&bus, InstanceId([9; 16]), first.public_key).await, None, "a stranger");
    client.stop().await;
    let sent = queue_all(&bus).await;
    let found_again = tokio::time::timeout(PATIENCE, find_again(&bus, &farms, won.slot)).await;
    let client = found_again.expect("it is found again, and known");
    let (_, controller) = win(&bus, &first, &kzg).await;
    assert!(!sent.lock().unwrap().is_empty() && !sent.lock().unwrap().contains(&won));
    assert!(client.counters.unremembered.get() == 0 && dir.path().join("farm").join(SENT_FILE).exists());
    assert_eq!(sign(&bus, controller, first.public_key).await, Some(signature));
    client.stop().await;
}

#[tokio::test]
async fn a_copied_farm_ends_the_second_plot_client_and_not_the_first() {
    let (bus, dir) = (cluster().await, tempfile::tempdir().unwrap());
    let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
    let client = Client::start(&bus, vec![farm(&original, 1)]);
    let job = take(&bus, PATIENCE).await.unwrap();
    let mut words = bus.subscribe(&subjects::farm(&job.public_key)).await.unwrap();
    let held: FarmHeld = next(&mut words).await;
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(&original).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let error = Client::start(&bus, vec![farm(&copy, 1)]).ended().await.unwrap_err().to_string();
    for part in [original.to_str().unwrap(), copy.to_str().unwrap(), &held.host] {
        assert!(error.contains(part), "{error}");
    }
    // After the last word of the copy.
    let mut held: FarmHeld = next(&mut words).await;
    while held.path != original.to_str().unwrap() || held.over.is_some() {
        held = next(&mut words).await;
    }
    client.stop().await;
}
