//! A plot-server: the life of each sector, and the queue. What it makes are names of sectors on its disk.

use super::disk::{Change, Disk};
use super::member::{Id, Input, Job, Member, Output};
use super::mutant::Mutant;
use super::presence::Presence;
use bytes::Bytes;
use control::ids::InstanceId;
use control::messages::{Control, PlotJob, PlotPhase, PlotProgress, Role, SectorId, bounded_text, subjects};
use control::plot_server::{Action, Event, Life, Made, Room, Surroundings, Taking, judge};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long one look at the queue takes.
const TAKE_WAIT: Duration = Duration::from_secs(5);
/// Pause after the queue or the work failed.
const PAUSE: Duration = Duration::from_secs(2);
/// How often the cluster is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Sectors made at once.
const PLACES: usize = 2;
pub const PREFIX: &str = "plot.";
/// A sector, as all are here.
pub const MADE: Made = Made { size_bytes: 1000, checksum: [3; 32] };
const PIECES: u16 = 10;

struct Sector {
    life: Life,
    client: InstanceId,
    delivery: Option<(u64, u64)>,
    /// The number of what the maker waits for.
    making: Option<Id>,
    is_gathered: bool,
    missing: Option<String>,
}

pub struct PlotServer {
    me: InstanceId,
    presence: Presence,
    staged: BTreeSet<SectorId>,
    sectors: BTreeMap<SectorId, Sector>,
    taking: Option<Id>,
    not_before: Duration,
    tick_at: Duration,
    is_started: bool,
    ids: Id,
    mutant: Option<Mutant>,
}

impl PlotServer {
    pub fn new(me: InstanceId, disk: &Disk, mutant: Option<Mutant>) -> Self {
        Self {
            me,
            presence: Presence::new(Role::PlotServer, me, 0),
            staged: disk.staged.clone(),
            sectors: BTreeMap::new(),
            taking: None,
            not_before: Duration::ZERO,
            tick_at: Duration::ZERO,
            is_started: false,
            ids: 0,
            mutant,
        }
    }

    fn id(&mut self) -> Id {
        self.ids += 1;
        self.ids
    }

    fn start(&mut self, now: Duration, out: &mut Vec<Output>) {
        self.is_started = true;
        out.push(Output::Subscribe(subjects::plot_answer(self.me)));
        for id in self.staged.clone() {
            let (life, actions) = Life::found(PIECES, MADE, now);
            self.enter(id, InstanceId([0; 16]), life, None);
            self.carry_out(id, actions, out);
        }
    }

    fn enter(&mut self, id: SectorId, client: InstanceId, life: Life, delivery: Option<(u64, u64)>) {
        let (making, is_gathered, missing) = (None, false, None);
        self.sectors.insert(id, Sector { life, client, delivery, making, is_gathered, missing });
    }

    fn pulled(&mut self, job: Option<Job>, now: Duration, out: &mut Vec<Output>) {
        self.taking = None;
        let Some(Job { sequence, delivery, payload, .. }) = job else { return };
        let Ok(job) = PlotJob::from_bytes(&payload) else { return out.push(Output::Ack { sequence }) };
        if let Some(sector) = self.sectors.get_mut(&job.sector) {
            (sector.delivery, sector.client) = (Some((sequence, delivery)), job.client);
            return self.on(job.sector, Event::Delivered, now, out);
        }
        let servers: Vec<_> = self.presence.present(Role::PlotServer).map(|entry| entry.id).collect();
        let around =
            Surroundings { own: self.me, servers: &servers, deliveries: delivery, room: Room::Enough };
        match judge(&job, &around) {
            Taking::Here => {
                let (life, actions) = Life::taken(PIECES, self.presence.is_present(job.client), now);
                self.enter(job.sector, job.client, life, Some((sequence, delivery)));
                self.carry_out(job.sector, actions, out);
            }
            Taking::Leave { after, .. } => out.push(Output::Nak { sequence, delivery, delay: after }),
            Taking::Fail(reason) => {
                self.tell(job.sector, PlotPhase::Failed { reason: bounded_text(&reason) }, out);
                out.push(Output::Ack { sequence });
            }
        }
    }

    fn on(&mut self, id: SectorId, event: Event, now: Duration, out: &mut Vec<Output>) {
        let Some(sector) = self.sectors.get_mut(&id) else { return };
        if matches!(event, Event::Made(_) | Event::MakingFailed(_)) {
            sector.making = None;
        }
        let actions = sector.life.on(event, now);
        self.carry_out(id, actions, out);
    }

    fn carry_out(&mut self, id: SectorId, actions: Vec<Action>, out: &mut Vec<Output>) {
        for action in actions {
            let work = self.id();
            let Some(sector) = self.sectors.get_mut(&id) else { return };
            let delivery = sector.delivery;
            match action {
                Action::Make => {
                    sector.making = Some(work);
                    out.push(Output::Gather { id: work, sector: id });
                }
                Action::StopMaking => {
                    sector.making = None;
                    self.discard(id, out);
                }
                Action::Tell(phase) => self.tell(id, phase, out),
                Action::KeepJob => {
                    out.extend(delivery.map(|(sequence, delivery)| Output::Progress { sequence, delivery }));
                }
                Action::AckJob => out.extend(delivery.map(|(sequence, _)| Output::Ack { sequence })),
                Action::GiveJobBack => out.extend(delivery.map(|(sequence, delivery)| Output::Nak {
                    sequence,
                    delivery,
                    delay: Duration::ZERO,
                })),
                Action::Discard => self.discard(id, out),
            }
        }
        if self.sectors.get(&id).is_some_and(|sector| sector.life.is_over()) {
            self.sectors.remove(&id);
        }
    }

    fn discard(&mut self, sector: SectorId, out: &mut Vec<Output>) {
        if self.staged.remove(&sector) {
            let (id, takes) = (self.id(), Duration::from_millis(10));
            out.push(Output::Write { id, takes, change: Change::Unstage(sector) });
        }
    }

    fn tell(&self, sector: SectorId, phase: PlotPhase, out: &mut Vec<Output>) {
        let payload = PlotProgress { sector, server: self.me, phase }.to_bytes().unwrap();
        out.push(Output::Publish { subject: subjects::plot_progress(sector.farm), payload });
    }

    fn message(&mut self, payload: &Bytes, now: Duration, out: &mut Vec<Output>) {
        let Ok(progress) = PlotProgress::from_bytes(payload) else { return };
        let event = match progress.phase {
            _ if progress.server != self.me => return,
            PlotPhase::Stored => Event::Stored,
            PlotPhase::Refused { reason } => Event::Unusable(reason),
            PlotPhase::Wanted => Event::ClientAlive,
            _ => return,
        };
        self.on(progress.sector, event, now, out);
    }

    /// A step of a maker has ended: pieces have come, or do not, or the sector is made.
    fn worked(&mut self, work: Id, is_good: bool, now: Duration, out: &mut Vec<Output>) {
        let Some((&id, _)) = self.sectors.iter().find(|(_, sector)| sector.making == Some(work)) else {
            return;
        };
        let (next, takes) = (self.id(), Duration::from_millis(500 + u64::from(id.sector_index) * 300));
        let sector = self.sectors.get_mut(&id).expect("found above");
        if !is_good {
            sector.missing = Some("nobody has some of its pieces".to_owned());
            sector.making = Some(next);
            out.push(Output::Gather { id: next, sector: id });
        } else if sector.is_gathered {
            self.staged.insert(id);
            self.on(id, Event::Made(MADE), now, out);
        } else {
            (sector.is_gathered, sector.missing, sector.making) = (true, None, Some(next));
            out.push(Output::Write { id: next, takes, change: Change::Stage(id) });
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Output>) {
        self.tick_at = now + TELL_EVERY;
        for id in self.sectors.keys().copied().collect::<Vec<_>>() {
            let sector = &self.sectors[&id];
            let (pieces, records) = if sector.is_gathered { (PIECES, 1) } else { (0, 0) };
            let missing = sector.missing.clone().filter(|_| self.mutant != Some(Mutant::WaitsForPieces));
            if self.presence.is_present(sector.client) {
                self.on(id, Event::ClientAlive, now, out);
            }
            self.on(id, Event::Worked { pieces, records, missing }, now, out);
            self.on(id, Event::Tick, now, out);
        }
    }

    fn take(&mut self, now: Duration, out: &mut Vec<Output>) {
        let busy = self.sectors.values().filter(|sector| sector.life.has_place()).count();
        if self.taking.is_none() && busy < PLACES && now >= self.not_before {
            let id = self.id();
            self.taking = Some(id);
            self.not_before = now + PAUSE;
            out.push(Output::Pull { id, prefix: PREFIX.to_owned(), wait: TAKE_WAIT });
        }
    }
}

impl Member for PlotServer {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        self.presence.on(&input, now, &mut self.ids, out);
        match input {
            Input::Start => self.start(now, out),
            Input::Message { payload, .. } => self.message(&payload, now, out),
            Input::Pulled { id, job } if self.taking == Some(id) => self.pulled(job, now, out),
            Input::Done { id } => self.worked(id, true, now, out),
            Input::Failed { id } => self.worked(id, false, now, out),
            _ => {}
        }
        if now >= self.tick_at {
            self.tick(now, out);
        }
        self.take(now, out);
    }

    fn wake_at(&self) -> Option<Duration> {
        let busy = self.sectors.values().filter(|sector| sector.life.has_place()).count();
        let take_at = (self.taking.is_none() && busy < PLACES).then_some(self.not_before);
        take_at.into_iter().chain([self.tick_at, self.presence.wake_at()]).min()
    }
}
