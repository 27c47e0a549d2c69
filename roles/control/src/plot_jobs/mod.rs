//! How one farm gets plotted, from its plot-client's side: decisions alone, without clock, bus or disk.
//!
//! ```text
//!   wanted ─▶ offered ─▶ at a plot-server ─▶ staged there ─▶ being pulled ─▶ stored (the server is told, the sector is looked at)
//!     ▲          │  ▲           │                 │  ▲            │
//!     │          └──┘ silence,  │                 │  └── pause ◀──┤ pull failed, or panicked
//!     │            queue anew   │                 │               │
//!     └──── pause: 10 s ◀───────┴─────────────────┴───────────────┘ the server failed, what it has is wrong, too many pulls failed
//!           doubling to 10 min
//! ```
//! Owns: which sectors are wanted, when each is offered and with what words, whose staged sector is pulled, and what each plot-server
//! is told. Never: more than [`MAX_OPEN_JOBS`] jobs offered, two pulls at once, or an offer before its pause is over.
//!
//! Attempts are bounded by their spacing and by [`troubles::MAX_WAITING`], not by a last one: a sector that was given up for good would be a
//! hole that nobody looks at, and once whatever fails works again everything is to be plotted. Servers that failed are named in the job,
//! so that others take it first. Messages may be lost, come twice or late, servers and this process may die anywhere: what a
//! server stages is taken up by whoever serves the farm then, and what is of no use is answered with [`PlotPhase::Stored`].

mod events;
pub mod expiry;
mod heard;
mod open;
pub mod pause;
mod paused;
pub mod plan;
pub mod troubles;

pub use events::{Action, Event, Farm, Note, OfferAnswer, PullEnd};
pub use plan::{Reason, SectorState};
pub use troubles::Trouble;

use self::expiry::{Age, Segments};
use self::open::{OFFER_AGAIN_AFTER, Open, PULLS, Staged};
use self::pause::Pause;
use self::troubles::{Fault, MAX_WAITING, Troubles};
use crate::ids::InstanceId;
use crate::messages::{PlotJob, PlotPhase, PlotProgress, ProtocolInfo, SectorId, bounded_text};
use consensus::sector::public_key_hash;
use std::collections::BTreeMap;
use std::time::Duration;

/// Jobs that a farm has offered at most: while one sector is pulled, the next is made.
pub const MAX_OPEN_JOBS: usize = 2;
/// Sectors that a farm follows at most: those that servers made for an earlier run of the plot-client are taken up beside its own.
pub const MAX_FOLLOWED: usize = 8;
/// How often a farm is looked over without a reason.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Pause after an offer that the queue did not take.
pub const OFFER_PAUSE: Duration = Duration::from_secs(10);

/// The plotting of one farm. Times are since the process's start.
#[derive(Debug)]
pub struct FarmJobs {
    farm: Farm,
    settings: ProtocolInfo,
    now: Duration,
    /// As looked over last; none before the first look.
    sectors: Option<Vec<SectorState>>,
    /// Sectors to be plotted, most urgent first; those under way included.
    wanted: Vec<(Reason, u16)>,
    open: BTreeMap<u16, Open>,
    /// One at a time: the disk is no faster with more.
    pulling: Option<(SectorId, InstanceId)>,
    troubles: Troubles,
    segments: Segments,
    look_at: Duration,
    pause: Pause,
}

impl FarmJobs {
    /// Of a farm that was just opened; the first [`Event::Tick`] sets it going.
    pub fn new(farm: Farm, settings: ProtocolInfo, now: Duration) -> Self {
        let segments = Segments::new(public_key_hash(&farm.public_key));
        Self {
            farm,
            settings,
            now,
            sectors: None,
            wanted: Vec::new(),
            open: BTreeMap::new(),
            pulling: None,
            troubles: Troubles::default(),
            segments,
            look_at: now,
            pause: Pause::default(),
        }
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        // Whoever calls may have read the clock before another did.
        self.now = self.now.max(now);
        let mut out = Vec::new();
        match event {
            Event::Settings(settings) => self.on_settings(settings),
            Event::Looked(sectors) => self.on_looked(sectors, &mut out),
            Event::Changed => self.look_at = self.now,
            Event::Segment { index, commitment } => {
                self.segments.learn(index, commitment);
                self.plan();
            }
            Event::Offered { sector, answer } => self.on_offered(sector, answer, &mut out),
            Event::Heard(progress) => self.on_heard(progress, &mut out),
            Event::Pulled { sector, server, end } => self.on_pulled(sector, server, end, &mut out),
            Event::Paused(is_paused) => self.pause.set(is_paused, self.now),
            Event::QueueAnew => {
                // A job that a server is at goes on there without the queue.
                let unheard = self.open.values_mut().filter(|job| job.server.is_none());
                unheard.for_each(|job| job.offer_at = self.now);
            }
            Event::Tick => {}
        }
        self.go_on(&mut out);
        out
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn wake_at(&self) -> Option<Duration> {
        let pulled = self.pulling.map(|(sector, _)| sector.sector_index);
        let offers = self.open.iter().filter(|(sector, _)| Some(**sector) != pulled);
        let offers = offers.map(|(_, job)| job.offer_at);
        let pulls = self.open.values().filter_map(|job| job.staged.as_ref());
        let pulls = pulls.filter(|_| pulled.is_none()).map(|staged| staged.pull_at);
        let retries = self.troubles.all().map(|(_, trouble)| trouble.retry_at);
        let work = offers.chain(pulls).chain(retries).filter(|_| !self.pause.is_on());
        let all = work.chain(self.pause.dismisses_at()).chain([self.look_at]);
        // What is due and was not done waits for something else than time.
        all.filter(|at| *at > self.now).min()
    }

    /// Sectors whose attempts failed, with the reasons.
    pub fn troubles(&self) -> impl Iterator<Item = (u16, &Trouble)> {
        self.troubles.all()
    }

    /// Sectors that are offered, made for this farm, or pulled.
    pub fn open(&self) -> impl Iterator<Item = u16> {
        self.open.keys().copied()
    }

    fn on_settings(&mut self, settings: ProtocolInfo) {
        if settings.history_size > self.settings.history_size {
            self.troubles.history_grew();
        }
        self.settings = settings;
        // It may have aged sectors.
        self.look_at = self.now;
        self.plan();
    }

    fn on_looked(&mut self, sectors: Vec<SectorState>, out: &mut Vec<Action>) {
        let plotted = sectors.iter().filter_map(|state| match state {
            SectorState::Plotted { history_size } => Some(*history_size),
            _ => None,
        });
        let ordered = self.open.values().map(|job| job.history_size);
        let unknown = self.segments.needed(plotted.chain(ordered), &self.settings);
        out.extend(unknown.into_iter().map(Action::AskSegment));
        self.sectors = Some(sectors);
        self.plan();
    }

    fn on_offered(&mut self, sector: SectorId, answer: OfferAnswer, out: &mut Vec<Action>) {
        let job = self.open.get_mut(&sector.sector_index);
        let Some(job) = job.filter(|job| job.history_size == sector.history_size) else { return };
        match answer {
            // Nobody had the job any more: what is staged from now on was made for this one.
            OfferAnswer::Queued => self.troubles.is_made_anew(sector.sector_index, None),
            // Perhaps it is one that is over, and is about to be taken out.
            OfferAnswer::AlreadyThere if job.server.is_none() => {
                job.offer_at = self.now + job.meeting_pause();
            }
            OfferAnswer::AlreadyThere => {}
            OfferAnswer::Failed(reason) => {
                if job.server.is_none() {
                    job.offer_at = self.now + OFFER_PAUSE;
                }
                out.push(Action::Note(Note::NotOffered { sector, reason: bounded_text(&reason) }));
            }
        }
    }

    fn on_pulled(&mut self, sector: SectorId, server: InstanceId, end: PullEnd, out: &mut Vec<Action>) {
        if self.pulling != Some((sector, server)) {
            return;
        }
        self.pulling = None;
        // Whatever came of it, something else lies there now.
        self.look_at = self.now;
        match end {
            PullEnd::Stored => {
                out.push(Action::Note(Note::Stored { sector }));
                out.push(self.tell(sector, server, PlotPhase::Stored));
                self.troubles.succeeded(sector.sector_index, server);
                self.open.remove(&sector.sector_index);
                let place =
                    self.sectors.as_mut().and_then(|all| all.get_mut(usize::from(sector.sector_index)));
                if let Some(state) = place {
                    *state = SectorState::Plotted { history_size: sector.history_size };
                }
                self.plan();
            }
            PullEnd::Wrong(reason) => self.refuse(sector, server, Fault::Wrong, &reason, out),
            PullEnd::Failed(reason) => self.on_pull_failed(sector, server, &reason, out),
        }
    }

    fn on_pull_failed(&mut self, sector: SectorId, server: InstanceId, reason: &str, out: &mut Vec<Action>) {
        let job = self.open.get_mut(&sector.sector_index);
        let Some(staged) = job.and_then(|job| job.staged.as_mut()) else { return };
        staged.failures = staged.failures.saturating_add(1);
        if let Some(lost) = staged.lost.take() {
            return self.fail(sector, server, Fault::Nothing, &lost, out);
        }
        if staged.failures >= PULLS {
            let reason = format!("it could not be fetched, {PULLS} times in a row: {reason}");
            return self.refuse(sector, server, Fault::Nothing, &reason, out);
        }
        let pause = troubles::pause(staged.failures);
        staged.pull_at = self.now + pause;
        out.push(Action::Note(Note::PullFailed { sector, server, reason: bounded_text(reason), pause }));
    }

    /// Lets a server know that what it has staged is not to be used, and ends the attempt.
    fn refuse(
        &mut self,
        sector: SectorId,
        server: InstanceId,
        fault: Fault,
        reason: &str,
        out: &mut Vec<Action>,
    ) {
        out.push(self.tell(sector, server, PlotPhase::Refused { reason: bounded_text(reason) }));
        self.fail(sector, server, fault, reason, out);
        self.troubles.refused(sector.sector_index, server);
    }

    /// Ends an attempt; the sector's pause begins.
    fn fail(
        &mut self,
        sector: SectorId,
        server: InstanceId,
        fault: Fault,
        reason: &str,
        out: &mut Vec<Action>,
    ) {
        let index = sector.sector_index;
        self.open.remove(&index);
        let (failures, pause) = self.troubles.failed(index, server, fault, reason, self.now);
        let reason = bounded_text(reason);
        out.push(Action::Note(Note::Failed { sector, server, failures, reason, pause }));
    }

    fn tell(&self, sector: SectorId, server: InstanceId, phase: PlotPhase) -> Action {
        Action::Tell(PlotProgress { sector, server, phase })
    }

    fn age(&self, sector: u16, history_size: u64) -> Age {
        self.segments.age(sector, history_size, &self.settings)
    }

    /// Whether the sector's place waits for another: also while it is written.
    fn is_wanted(&self, sector: u16) -> bool {
        let state = self.sectors.as_ref().and_then(|all| all.get(usize::from(sector)));
        let is_wanted = |state| plan::reason(state, |size| self.age(sector, size)).is_some();
        state.is_some_and(|&state| state == SectorState::BeingWritten || is_wanted(state))
    }

    /// Finds what is to be plotted, and forgets jobs and troubles of sectors that are not, or would come too old.
    fn plan(&mut self) {
        let Some(sectors) = &self.sectors else { return };
        let of = |(sector, state): (u16, &SectorState)| {
            plan::reason(*state, |size| self.age(sector, size)).map(|reason| (reason, sector))
        };
        let mut wanted: Vec<_> = (0..).zip(sectors).filter_map(of).collect();
        wanted.sort_unstable();
        self.wanted = wanted;
        let pulled = self.pulling.map(|(sector, _)| sector.sector_index);
        let mut open = std::mem::take(&mut self.open);
        open.retain(|&sector, job| {
            let is_good = self.age(sector, job.history_size) == Age::Good;
            Some(sector) == pulled || is_good && self.is_wanted(sector)
        });
        self.open = open;
        let mut troubles = std::mem::take(&mut self.troubles);
        troubles.retain(|sector| self.is_wanted(sector));
        self.troubles = troubles;
    }

    /// What time or an event made due.
    fn go_on(&mut self, out: &mut Vec<Action>) {
        if self.now >= self.look_at {
            self.look_at = self.now + LOOK_EVERY;
            out.push(Action::Look);
        }
        if self.is_dismissing() {
            self.dismiss_staged(out);
        }
        if self.pause.is_on() {
            return;
        }
        self.offer_again(out);
        while self.open.len() < MAX_OPEN_JOBS
            && let Some((reason, sector)) = self.next_wanted()
        {
            let attempt = self.troubles.failures(sector).saturating_add(1);
            let job = Open::new(self.settings.history_size, attempt, self.now + OFFER_AGAIN_AFTER);
            let id = self.id(sector, job.history_size);
            out.push(Action::Note(Note::Offered { sector: id, reason, attempt }));
            out.push(Action::Offer(self.job(sector, &job)));
            self.open.insert(sector, job);
        }
        self.pull_next(out);
    }

    fn offer_again(&mut self, out: &mut Vec<Action>) {
        let pulled = self.pulling.map(|(sector, _)| sector.sector_index);
        let is_due = |(sector, job): &(&u16, &Open)| job.offer_at <= self.now && Some(**sector) != pulled;
        let due: Vec<_> = self.open.iter().filter(is_due).map(|(sector, _)| *sector).collect();
        for sector in due {
            let Some(job) = self.open.get_mut(&sector) else { continue };
            job.offer_at = self.now + OFFER_AGAIN_AFTER;
            // Whoever was at it is silent.
            job.server = None;
            let job = job.clone();
            out.push(Action::Offer(self.job(sector, &job)));
        }
    }

    /// The sector to offer next. Of the jobs offered at a time one may be of those that failed before, unless there are no others: neither
    /// may keep the other waiting.
    fn next_wanted(&self) -> Option<(Reason, u16)> {
        let waiting = self.troubles.all().filter(|(sector, _)| !self.open.contains_key(sector)).count();
        let next = |is_retry: bool| {
            let is_next = |(_, sector): &&(Reason, u16)| match self.troubles.retry_at(*sector) {
                _ if self.open.contains_key(sector) => false,
                Some(at) => is_retry && at <= self.now,
                None => !is_retry && waiting < MAX_WAITING,
            };
            self.wanted.iter().find(is_next).copied()
        };
        let is_retrying = self.open.values().any(|job| job.attempt > 1);
        next(!is_retrying).or_else(|| next(is_retrying))
    }

    fn pull_next(&mut self, out: &mut Vec<Action>) {
        if self.pulling.is_some() {
            return;
        }
        let staged = self.open.values().filter_map(|job| job.staged.as_ref());
        let due = staged.filter(|staged| staged.pull_at <= self.now);
        let Some(&Staged { sector, server, checksum, .. }) = due.min_by_key(|staged| staged.failures) else {
            return;
        };
        self.pulling = Some((sector, server));
        out.push(Action::Pull { sector, server, checksum });
    }

    fn id(&self, sector_index: u16, history_size: u64) -> SectorId {
        SectorId { farm: self.farm.id, sector_index, history_size }
    }

    fn job(&self, sector: u16, job: &Open) -> PlotJob {
        PlotJob {
            sector: self.id(sector, job.history_size),
            public_key: self.farm.public_key,
            pieces_in_sector: self.farm.pieces_in_sector,
            protocol_info: self.settings.clone(),
            client: self.farm.client,
            staged_on: job.staged.as_ref().map(|staged| staged.server),
            attempt: job.attempt,
            avoid: self.troubles.avoid(sector, self.now),
        }
    }
}

#[cfg(test)]
mod any_order;
#[cfg(test)]
mod tests;
