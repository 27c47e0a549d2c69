//! A plot-client's part in plotting: the jobs of its farm, and their translation.

use super::disk::Change;
use super::kept::{CLUSTER, INFO};
use super::member::{Id, Input, Output, PushError};
use super::mutant::Mutant;
use super::plot_server::{MADE, PREFIX};
use bytes::Bytes;
use control::ids::{FarmId, InstanceId};
use control::messages::{ClusterInfo, Control, PlotProgress, SectorId, subjects};
use control::plot_jobs::{Action, Event, Farm, FarmJobs, OfferAnswer, PullEnd, SectorState};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What an answer is the answer to.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Looked,
    Offered(SectorId),
    Pulled(SectorId, InstanceId),
    Stored(SectorId, InstanceId),
}

pub struct Plotting {
    farm: Farm,
    /// History size of each sector that is on disk.
    sectors: Vec<Option<u64>>,
    /// Once the settings are known.
    jobs: Option<FarmJobs>,
    asked: BTreeMap<Id, Asked>,
    /// Offers are not made again, for a mutant.
    offered: Vec<SectorId>,
    mutant: Option<Mutant>,
}

impl Plotting {
    pub fn new(
        client: InstanceId,
        public_key: [u8; 32],
        sectors: Vec<Option<u64>>,
        mutant: Option<Mutant>,
    ) -> Self {
        let id = FarmId(public_key[..16].try_into().expect("it has 32 bytes"));
        let sector_bytes = MADE.size_bytes;
        let farm = Farm { id, public_key, client, pieces_in_sector: 10, sector_bytes };
        Self { farm, sectors, jobs: None, asked: BTreeMap::new(), offered: Vec::new(), mutant }
    }

    pub fn plotted(&self) -> (usize, usize) {
        (self.sectors.iter().flatten().count(), self.sectors.len())
    }

    pub fn troubles(&self) -> Vec<String> {
        let troubles = self.jobs.iter().flat_map(FarmJobs::troubles);
        troubles.map(|(sector, trouble)| format!("{sector}: {trouble:?}")).collect()
    }

    pub fn wake_at(&self) -> Option<Duration> {
        self.jobs.as_ref().and_then(FarmJobs::wake_at)
    }

    pub fn on(&mut self, input: &Input, now: Duration, ids: &mut Id, out: &mut Vec<Output>) {
        let event = match input {
            Input::Start => {
                out.push(Output::Subscribe(subjects::plot_progress(self.farm.id)));
                None
            }
            Input::Connected(true) | Input::QueueAnew if self.mutant != Some(Mutant::OffersOnce) => {
                Some(Event::QueueAnew)
            }
            Input::Message { payload, reply_to: None, .. } => {
                PlotProgress::from_bytes(payload).ok().map(Event::Heard)
            }
            Input::Kv { bucket: CLUSTER, key, value: Some(value), .. } if key == INFO => {
                self.settings(value, now)
            }
            Input::Pushed { id, result } => self.pushed(*id, *result),
            Input::Done { id } => self.done(*id, true, ids, out),
            Input::Failed { id } => self.done(*id, false, ids, out),
            Input::Tick => Some(Event::Tick),
            _ => None,
        };
        if let Some(event) = event {
            self.jobs(event, now, ids, out);
        }
    }

    fn settings(&mut self, value: &Bytes, now: Duration) -> Option<Event> {
        let info = ClusterInfo::from_bytes(value).ok()?.protocol_info;
        if self.jobs.is_none() {
            self.jobs = Some(FarmJobs::new(self.farm.clone(), info, now));
            return Some(Event::Tick);
        }
        Some(Event::Settings(info))
    }

    fn pushed(&mut self, id: Id, result: Result<(), PushError>) -> Option<Event> {
        let Some(Asked::Offered(sector)) = self.asked.remove(&id) else { return None };
        let answer = match result {
            Ok(()) => OfferAnswer::Queued,
            Err(PushError::AlreadyQueued) => OfferAnswer::AlreadyThere,
            Err(error) => OfferAnswer::Failed(format!("{error:?}")),
        };
        Some(Event::Offered { sector, answer })
    }

    fn done(&mut self, id: Id, is_good: bool, ids: &mut Id, out: &mut Vec<Output>) -> Option<Event> {
        match self.asked.remove(&id)? {
            Asked::Looked => {
                let state = |size: &Option<u64>| match size {
                    Some(history_size) => SectorState::Plotted { history_size: *history_size },
                    None => SectorState::NotPlotted,
                };
                Some(Event::Looked(self.sectors.iter().map(state).collect()))
            }
            Asked::Pulled(sector, server) if is_good => {
                let SectorId { sector_index, history_size, .. } = sector;
                *ids += 1;
                self.asked.insert(*ids, Asked::Stored(sector, server));
                let change = Change::Sector { sector: sector_index, history_size };
                out.push(Output::Write { id: *ids, takes: Duration::from_millis(200), change });
                None
            }
            Asked::Pulled(sector, server) => {
                let end = PullEnd::Failed("it did not come".to_owned());
                Some(Event::Pulled { sector, server, end })
            }
            Asked::Stored(sector, server) => {
                if let Some(place) = self.sectors.get_mut(usize::from(sector.sector_index)) {
                    *place = Some(sector.history_size);
                }
                Some(Event::Pulled { sector, server, end: PullEnd::Stored })
            }
            Asked::Offered(_) => None,
        }
    }

    fn jobs(&mut self, event: Event, now: Duration, ids: &mut Id, out: &mut Vec<Output>) {
        let mut events = VecDeque::from([event]);
        while let (Some(event), Some(jobs)) = (events.pop_front(), &mut self.jobs) {
            for action in jobs.on(event, now) {
                *ids += 1;
                let id = *ids;
                match action {
                    Action::Look => {
                        self.asked.insert(id, Asked::Looked);
                        out.push(Output::Work { id, takes: Duration::from_millis(50) });
                    }
                    Action::AskSegment(_) => {}
                    Action::Offer(job) if self.is_skipped(job.sector) => {}
                    Action::Offer(job) => {
                        self.asked.insert(id, Asked::Offered(job.sector));
                        let subject = format!("{PREFIX}default.{}", job.sector);
                        out.push(Output::Push { id, subject, payload: job.to_bytes().unwrap() });
                    }
                    Action::Pull { sector, server, .. } => {
                        self.asked.insert(id, Asked::Pulled(sector, server));
                        out.push(Output::Copy { id, server, sector });
                    }
                    Action::Tell(progress) => {
                        let (subject, payload) =
                            (subjects::plot_answer(progress.server), progress.to_bytes().unwrap());
                        out.push(Output::Publish { subject, payload });
                    }
                    Action::Note(note) => out.push(Output::Say(format!("{note:?}"))),
                }
            }
        }
    }

    /// Whether an offer that was made once is not made again.
    fn is_skipped(&mut self, sector: SectorId) -> bool {
        let was_offered = self.offered.contains(&sector);
        self.offered.push(sector);
        was_offered && self.mutant == Some(Mutant::OffersOnce)
    }
}
