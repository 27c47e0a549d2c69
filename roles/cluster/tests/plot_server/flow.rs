//! A job from the queue to the client's disk, and what may happen on the way.

use crate::client::{FARM, PATIENCE, PlotClient, liveness};
use crate::pieces::{Gap, Library, Nothing, expected, indexes};
use bus::SharedBus;
use bus::cluster::Cluster;
use bus::jobs::Offered;
use bus::local::LocalBus;
use cluster::host::Host;
use cluster::plot_server::{Config, Encoding, Pieces, PlotServer};
use cluster::role::RoleError;
use cluster::shutdown::{KeepRunning, Shutdown};
use control::ids::InstanceId;
use control::messages::{ClusterInfo, PlotJob, PlotPhase, PlotProgress, ProtocolInfo, Role, SectorId};
use engine::threads::ThreadWorkers;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::{TempDir, tempdir};
use tokio::task::JoinHandle;

const PIECES_IN_SECTOR: u16 = 2;

fn protocol_info() -> ProtocolInfo {
    ProtocolInfo {
        history_size: 5,
        max_pieces_in_sector: PIECES_IN_SECTOR,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    }
}

fn config(base_path: &Path) -> Config {
    let mut config = Config::new(base_path.to_owned());
    config.host.liveness = liveness();
    config.encoding = Encoding::Cpu;
    config.threads = ThreadWorkers::unbound(1);
    config.tell_every = Duration::from_millis(100);
    config
}

pub struct Server {
    pub running: JoinHandle<Result<(), RoleError>>,
    keep_running: KeepRunning,
}

impl Server {
    pub fn start(bus: &SharedBus, base_path: &Path, pieces: fn(&Host) -> Arc<dyn Pieces>) -> Self {
        Self::start_on(Encoding::Cpu, bus, base_path, pieces)
    }

    pub fn start_on(
        encoding: Encoding,
        bus: &SharedBus,
        base_path: &Path,
        pieces: fn(&Host) -> Arc<dyn Pieces>,
    ) -> Self {
        let mut config = config(base_path);
        config.with_parity = matches!(encoding, Encoding::Cpu);
        config.encoding = encoding;
        Self::run(config, bus, pieces)
    }

    pub fn run(
        config: Config,
        bus: &SharedBus,
        pieces: impl FnOnce(&Host) -> Arc<dyn Pieces> + Send + 'static,
    ) -> Self {
        let (keep_running, shutdown) = Shutdown::new();
        let bus = bus.clone();
        let running = tokio::spawn(async move {
            let server = PlotServer::start(config, bus, &shutdown).await?.unwrap();
            let pieces = pieces(server.host());
            server.serve(pieces, &shutdown).await
        });
        Self { running, keep_running }
    }

    pub async fn stop(self) {
        drop(self.keep_running);
        tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap().unwrap();
    }
}

pub fn library(host: &Host) -> Arc<dyn Pieces> {
    Arc::new(Library { pool: host.pool().clone(), given: Default::default(), parities: Default::default() })
}

fn nothing(_: &Host) -> Arc<dyn Pieces> {
    Arc::new(Nothing)
}

/// A cluster with a client and a base path, and a job that the client has offered.
pub async fn cluster() -> (SharedBus, PlotClient, TempDir, PlotJob) {
    let bus: SharedBus = Arc::new(LocalBus::new());
    let info = ClusterInfo {
        kzg_setup_sha256: [0; 32],
        genesis_hash: [0; 32],
        protocol_info: protocol_info(),
        is_dev: true,
        farming_timeout_ms: 4000,
    };
    Cluster::open(&*bus).await.unwrap().put_info(&info).await.unwrap();
    let client = PlotClient::start(&bus).await;
    let job = PlotJob {
        sector: SectorId { farm: FARM, sector_index: 3, history_size: 5 },
        public_key: [7; 32],
        pieces_in_sector: PIECES_IN_SECTOR,
        protocol_info: protocol_info(),
        client: client.host.id(),
        staged_on: None,
        attempt: 1,
        avoid: Vec::new(),
    };
    assert_eq!(client.offer(&job).await, Offered::Queued);
    (bus, client, tempdir().unwrap(), job)
}

fn files(base_path: &Path) -> usize {
    std::fs::read_dir(base_path).unwrap().count()
}

/// Waits until only the lock is left.
pub async fn until_empty(base_path: &Path) {
    let empty = async {
        while files(base_path) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.expect("the staging is not deleted");
}

#[tokio::test]
async fn a_sector_goes_from_the_queue_to_the_client_and_its_staging_ends() {
    let (bus, mut client, folder, job) = cluster().await;
    let server = Server::start(&bus, folder.path(), library);
    client.hear(|phase| matches!(phase, PlotPhase::Downloading { .. })).await;
    let staged = client.hear_staged().await;
    let (sector, metadata) = client.pull(&staged).await;
    let expected = expected(&job);
    assert!(metadata == expected.1 && sector == expected.0, "other bytes than those of consensus");
    let checksum = *sector.last_chunk().unwrap();
    assert_eq!(staged.phase, PlotPhase::Staged { sector_size_bytes: sector.len() as u64, checksum });
    let [beyond, elsewhere] = client.refusals(&staged, sector.len() as u64).await;
    assert!(beyond.contains("Invalid") && elsewhere.contains("NotFound"), "{beyond}; {elsewhere}");
    // Told until it is answered, and the job is kept meanwhile.
    client.hear_staged().await;
    assert_eq!(client.offer(&job).await, Offered::AlreadyThere);
    for _ in 0..2 {
        client.say(&staged, PlotPhase::Stored).await;
    }
    client.until_done(&job).await;
    // That was an offer too: a server that makes again what is stored already hears so and stops.
    let making = client.hear(|phase| matches!(phase, PlotPhase::Downloading { .. })).await;
    client.say(&making, PlotPhase::Stored).await;
    client.until_done(&job).await;
    server.stop().await;
    until_empty(folder.path()).await;
}

#[tokio::test]
async fn a_sector_larger_than_all_that_may_be_staged_does_not_keep_the_others_waiting() {
    let (bus, mut client, folder, job) = cluster().await;
    // Of whoever may write to the queue.
    let pieces_in_sector = u16::MAX;
    let huge = PlotJob {
        sector: SectorId { sector_index: 4, ..job.sector },
        protocol_info: ProtocolInfo { max_pieces_in_sector: pieces_in_sector, ..protocol_info() },
        pieces_in_sector,
        ..job.clone()
    };
    let jobs = bus::jobs::PlotJobs::open(&*bus).await.unwrap();
    let first = jobs.take(&["default".to_owned()], PATIENCE).await.unwrap().unwrap();
    assert_eq!(client.offer(&huge).await, Offered::Queued);
    let server = Server::start(&bus, folder.path(), library);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    first.delivery.nak(Duration::ZERO).await.unwrap();
    assert_eq!(client.hear_staged().await.sector, job.sector);
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_server_offers_what_it_had_staged() {
    let (bus, mut client, folder, job) = cluster().await;
    let server = Server::start(&bus, folder.path(), library);
    let first = client.hear_staged().await;
    server.stop().await;
    assert_eq!(files(folder.path()), 3, "lock, sector and manifest");
    // It could not make a sector now.
    let server = Server::start(&bus, folder.path(), nothing);
    let mut again = client.hear_staged().await;
    while again.server == first.server {
        again = client.hear_staged().await;
    }
    assert_eq!(again.phase, first.phase);
    assert!(client.pull(&again).await.0 == expected(&job).0);
    client.say(&again, PlotPhase::Stored).await;
    until_empty(folder.path()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_refused_sector_is_over_and_made_anew_when_it_is_offered_again() {
    let (bus, mut client, folder, mut job) = cluster().await;
    let server = Server::start(&bus, folder.path(), library);
    let staged = client.hear_staged().await;
    client.say(&staged, PlotPhase::Refused { reason: "it does not please".into() }).await;
    client.hear(|phase| matches!(phase, PlotPhase::Failed { .. })).await;
    until_empty(folder.path()).await;
    // There is no other server: this one takes it though it is to be avoided.
    (job.attempt, job.avoid) = (2, vec![staged.server]);
    assert_eq!(client.offer(&job).await, Offered::Queued);
    let anew = client.hear_staged().await;
    assert_eq!(anew.phase, staged.phase);
    client.pull(&anew).await;
    client.say(&anew, PlotPhase::Stored).await;
    until_empty(folder.path()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_while_it_works_leaves_nothing_and_the_job_to_others() {
    let (bus, mut client, folder, job) = cluster().await;
    let server = Server::start(&bus, folder.path(), nothing);
    client.hear(|phase| matches!(phase, PlotPhase::Downloading { .. })).await;
    server.stop().await;
    assert_eq!(files(folder.path()), 1, "the lock");
    let other = tempdir().unwrap();
    let server = Server::start(&bus, other.path(), library);
    let staged = client.hear_staged().await;
    client.say(&staged, PlotPhase::Stored).await;
    until_empty(other.path()).await;
    server.stop().await;
    assert_eq!(client.offer(&job).await, Offered::Queued);
}

#[tokio::test]
async fn a_piece_that_nobody_has_frees_its_place_and_its_client_hears_why() {
    let (bus, mut client, folder, job) = cluster().await;
    let sector = SectorId { sector_index: 4, ..job.sector };
    let next = PlotJob { sector, ..job.clone() };
    let missing = *indexes(&job).iter().find(|index| !indexes(&next).contains(index)).unwrap();
    let mut config = config(folder.path());
    config.concurrency = Some(1);
    let server = Server::run(config, &bus, move |host| {
        let library =
            Library { pool: host.pool().clone(), given: Default::default(), parities: Default::default() };
        Arc::new(Gap { library, missing })
    });
    let first = client.hear(|phase| matches!(phase, PlotPhase::Downloading { .. })).await;
    assert_eq!((first.sector, client.offer(&next).await), (job.sector, Offered::Queued));
    // From here on there is nothing to do but to wait, for as long as the piece is waited for.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let failed = client.hear(|phase| matches!(phase, PlotPhase::Failed { .. })).await;
    tokio::time::resume();
    let PlotPhase::Failed { reason } = failed.phase else { unreachable!() };
    assert_eq!(failed.sector, job.sector);
    assert!(
        reason.contains(&format!("piece {missing} did not come")) && reason.contains("not here"),
        "{reason}"
    );
    let waited = begun.elapsed();
    assert!((Duration::from_secs(50)..Duration::from_secs(80)).contains(&waited), "{waited:?}");
    // Its place is free, and its job is the client's to offer again.
    let staged = client.hear_staged().await;
    assert_eq!(staged.sector, next.sector);
    client.say(&staged, PlotPhase::Stored).await;
    client.until_done(&job).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_to_be_avoided_leaves_the_job_to_another() {
    let (bus, mut client, folder, job) = cluster().await;
    let avoided = Server::start(&bus, folder.path(), library);
    let staged = client.hear_staged().await;
    client.say(&staged, PlotPhase::Stored).await;
    until_empty(folder.path()).await;
    let other = tempdir().unwrap();
    // Of another group: the one to be avoided sees the job first.
    let mut far = config(other.path());
    far.host.group = "far".into();
    let server = Server::run(far, &bus, library);
    let mut present = client.host.present();
    let are_two = |present: &cluster::host::Present| {
        present.values().filter(|entry| entry.role == Role::PlotServer).count() == 2
    };
    tokio::time::timeout(PATIENCE, present.wait_for(are_two)).await.unwrap().unwrap();
    let sector = SectorId { sector_index: 4, ..job.sector };
    let job = PlotJob { sector, attempt: 2, avoid: vec![staged.server], ..job };
    assert_eq!(client.offer(&job).await, Offered::Queued);
    // It lies in the queue for a while first, and nobody has anything to do.
    tokio::time::pause();
    let next = client.hear(|phase| matches!(phase, PlotPhase::Downloading { .. })).await;
    tokio::time::resume();
    assert_eq!((next.sector, next.server == staged.server), (sector, false));
    client.say(&next, PlotPhase::Stored).await;
    until_empty(other.path()).await;
    avoided.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_made_for_a_client_that_is_not_there_until_it_answers() {
    let (bus, mut client, folder, job) = cluster().await;
    let sector = SectorId { sector_index: 4, ..job.sector };
    let departed = PlotJob { sector, client: InstanceId([9; 16]), ..job.clone() };
    assert_eq!(client.offer(&departed).await, Offered::Queued);
    let server = Server::start(&bus, folder.path(), library);
    let staged = client.hear_staged().await;
    assert_eq!(staged.sector, job.sector);
    // Another id, after a start.
    client.say(&PlotProgress { sector, ..staged.clone() }, PlotPhase::Wanted).await;
    client.say(&staged, PlotPhase::Stored).await;
    assert_eq!(client.hear_staged().await.sector, sector);
    client.say(&PlotProgress { sector, ..staged }, PlotPhase::Stored).await;
    until_empty(folder.path()).await;
    server.stop().await;
}
