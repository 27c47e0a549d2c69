//! What a plot-client does, by hand.

use bus::jobs::{Offered, PlotJobs};
use bus::members::Liveness;
use bus::{SharedBus, Subscription};
use cluster::host::{Host, HostConfig, HostError, HostReply, ServesNothing};
use control::ids::FarmId;
use control::messages::{Control, PlotJob, PlotPhase, PlotProgress, Role, SectorId, subjects};
use engine::Local;
use std::rc::Rc;
use std::time::Duration;
use transport::message::{Request, Response};
use transport::transfer::{Received as RangeReceived, SectorPlace, SectorTransfer};

pub const PATIENCE: Duration = Duration::from_secs(120);
const GROUP: &str = "default";
/// The farm it plots.
pub const FARM: FarmId = FarmId([1; 16]);

/// Fast heartbeats; nobody is taken for dead by a slow machine.
pub fn liveness() -> Liveness {
    let interval = Duration::from_millis(50);
    Liveness { interval, suspect_after: PATIENCE, gone_after: 2 * PATIENCE, ..Liveness::default() }
}

pub struct PlotClient {
    pub host: Host,
    bus: SharedBus,
    jobs: PlotJobs,
    progress: Subscription,
}

impl PlotClient {
    pub async fn start(bus: &SharedBus) -> Self {
        let config = HostConfig { slabs: 16, liveness: liveness(), ..HostConfig::new(Role::PlotClient) };
        let host = Host::start(config, bus.clone(), |_: Local| Rc::new(ServesNothing)).await.unwrap();
        let progress = bus.subscribe(&subjects::plot_progress(FARM)).await.unwrap();
        let jobs = PlotJobs::open(&**bus).await.unwrap();
        Self { host, bus: bus.clone(), jobs, progress }
    }

    pub async fn offer(&self, job: &PlotJob) -> Offered {
        self.jobs.offer(GROUP, job).await.unwrap()
    }

    /// Waits until the job has left the queue: then it can be offered again.
    pub async fn until_done(&self, job: &PlotJob) {
        let done = async {
            while self.offer(job).await == Offered::AlreadyThere {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.unwrap();
    }

    /// The next word that fits.
    pub async fn hear(&mut self, fits: impl Fn(&PlotPhase) -> bool) -> PlotProgress {
        let heard = async {
            loop {
                let message = self.progress.next().await.unwrap();
                let progress = PlotProgress::from_bytes(&message.payload).unwrap();
                if fits(&progress.phase) {
                    return progress;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("nothing was heard")
    }

    pub async fn hear_staged(&mut self) -> PlotProgress {
        self.hear(|phase| matches!(phase, PlotPhase::Staged { .. })).await
    }

    /// Answers a word of a server.
    pub async fn say(&self, to: &PlotProgress, phase: PlotPhase) {
        let answer = PlotProgress { phase, ..to.clone() };
        let subject = subjects::plot_answer(answer.server);
        self.bus.publish(&subject, answer.to_bytes().unwrap()).await.unwrap();
    }

    pub async fn ask(&self, from: &PlotProgress, request: Request) -> Result<HostReply, HostError> {
        let mut present = self.host.present();
        let known = present.wait_for(|present| present.contains_key(&from.server));
        drop(tokio::time::timeout(PATIENCE, known).await.unwrap().unwrap());
        let layout = request.response_layout();
        self.host.request(from.server, request, Vec::new(), layout, PATIENCE).await
    }

    /// Asks until it is answered: a server that has just started does not know its clients yet.
    async fn ask_on(&self, from: &PlotProgress, request: Request) -> HostReply {
        let answered = async {
            loop {
                match self.ask(from, request.clone()).await {
                    Ok(reply) => return reply,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("no answer")
    }

    /// Sector and encoded metadata, fetched as if into a plot file, in which the sector begins amid a block.
    pub async fn pull(&self, from: &PlotProgress) -> (Vec<u8>, Vec<u8>) {
        let staging = from.sector.staging();
        let reply = self.ask_on(from, Request::GetSectorMetadata { staging }).await;
        let Response::SectorMetadata { blake3: content, sector_bytes } = reply.response else { panic!() };
        let metadata = reply.payload.unwrap().to_vec();
        let file_offset = u64::from(from.sector.sector_index) * sector_bytes;
        assert_ne!(file_offset % 4096, 0, "the test is about ranges that lie askew");
        let mut transfer = SectorTransfer::new(SectorPlace { file_offset, sector_bytes, content }, 4);
        let mut sector = vec![0; sector_bytes as usize];
        while let Some(range) = transfer.next_range() {
            let (phase, offset, length) = (range.phase, range.offset, range.length);
            let reply = self.ask_on(from, Request::GetSectorRange { staging, phase, offset, length }).await;
            let bytes = reply.payload.unwrap();
            assert_eq!(bytes.phase(), usize::from(phase));
            let hash = reply.response.blake3().unwrap();
            assert_eq!(transfer.received(range.index, &bytes.to_vec(), hash), RangeReceived::Write);
            sector[offset as usize..][..length as usize].copy_from_slice(&bytes);
            transfer.written(range.index);
        }
        assert!(transfer.is_complete());
        (sector, metadata)
    }

    /// What a request past the sector's end, and one for a sector that is not there, are answered.
    pub async fn refusals(&self, from: &PlotProgress, sector_bytes: u64) -> [String; 2] {
        let other = SectorId { sector_index: 9, ..from.sector };
        let [beyond, elsewhere] = [(from.sector, sector_bytes), (other, 0)].map(|(sector, offset)| {
            Request::GetSectorRange { staging: sector.staging(), phase: 0, offset, length: 1 }
        });
        [self.ask(from, beyond).await.unwrap_err(), self.ask(from, elsewhere).await.unwrap_err()]
            .map(|error| error.to_string())
    }
}
