//! The inside of a disk: what waits for its turn, what the device works on, and until when.
//!
//! ```text
//!   ask ──▶ Waits ──scheduler──▶ Granted ──its task──▶ Begun ──device is done──▶ Answered
//!     │        └── too late, or the disk turned sick: told, and gone ──┘ too late: told; the permit stays with the kernel
//!     └── refused at once while the disk is sick
//! ```
//! Owns: the scheduler, the deadlines, the health and the pace of one disk. Never: a clock of its own; [`super::watch`] looks
//! in at it. A write that came too late may still reach the disk: what would overlap it is refused until it has ended.

use super::cell::HealthCell;
use super::deadline;
use super::device::Device;
use super::health::{Event, Machine, blames_device};
use super::pace::Pace;
use super::place::Place;
use super::scheduler::{Class, Limits, Scheduler, Ticket};
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::pool::Pool;
use crate::ring::{Guard, Guarding};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

pub(super) struct Core {
    pub device: Box<dyn Device>,
    pub pool: Pool,
    pub place: Place,
    pub cell: Arc<HealthCell>,
    pub state: RefCell<State>,
    origin: Instant,
}

pub(super) struct State {
    pub scheduler: Scheduler,
    pub machine: Machine,
    pending: HashMap<Ticket, Pending>,
    /// Writes that nobody waits for any more, since they came too late, and that the device may still do.
    overdue: HashMap<Ticket, (Arc<DirectFile>, Range<u64>)>,
    pace: Pace,
    pub limits: Limits,
    /// What was bad last, and what was good; [`State::wants_good`] says that a newer one of these is wanted.
    pub suspect: Option<Spot>,
    pub good: Option<Spot>,
    pub wants_good: bool,
    /// A task looks in.
    pub is_watched: bool,
    /// Audits or proofs are read from it.
    is_audited: bool,
}

const PENDING: &str = "an operation is pending until it is dropped";

/// A place of a file that a probe may read.
#[derive(Clone)]
pub(super) struct Spot(pub Weak<DirectFile>, pub u64);

/// An operation as it was asked for.
pub(super) struct What<'a> {
    pub class: Class,
    pub action: Action,
    pub file: &'a Arc<DirectFile>,
    pub offset: u64,
    pub bytes: u64,
}

struct Pending {
    class: Class,
    action: Action,
    file: Arc<DirectFile>,
    offset: u64,
    bytes: u64,
    asked: Instant,
    stage: Stage,
    waker: Option<Waker>,
    verdict: Option<Verdict>,
    /// Let through to a sick disk, to learn how it is.
    is_probe: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waits,
    Granted,
    Begun(Instant),
    Answered,
}

#[derive(Clone, Copy)]
enum Verdict {
    Late(Duration),
    Sick,
}

impl Pending {
    fn error(&self, verdict: Verdict) -> IoError {
        let (action, path) = (self.action, self.file.path().to_owned());
        match verdict {
            Verdict::Late(limit) => {
                let (offset, wanted, class) = (self.offset, self.bytes, self.class.as_str());
                IoError::Late { action, path, offset, wanted, class, limit }
            }
            Verdict::Sick => IoError::Sick { action, path },
        }
    }

    fn spot(&self) -> Spot {
        Spot(Arc::downgrade(&self.file), self.offset)
    }
}

/// Syncs and reservations take what they take: only transfers tell by their silence that a disk hangs.
fn is_transfer(action: Action) -> bool {
    matches!(action, Action::Read | Action::Write)
}

impl Core {
    pub fn new(device: Box<dyn Device>, pool: Pool, place: Place, limits: Limits) -> Rc<Self> {
        let cell = Arc::new(HealthCell::new(place.device.clone()));
        let state = State {
            scheduler: Scheduler::new(limits),
            machine: Machine::new(0),
            pending: HashMap::new(),
            overdue: HashMap::new(),
            pace: Pace::default(),
            limits,
            suspect: None,
            good: None,
            wants_good: true,
            is_watched: false,
            is_audited: false,
        };
        let origin = Instant::now();
        Rc::new(Self { device, pool, place, cell, state: RefCell::new(state), origin })
    }

    /// Milliseconds since the disk was made.
    pub fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_millis() as u64
    }

    /// Queues an operation, unless it is refused at once.
    pub fn ask(self: &Rc<Self>, what: &What<'_>) -> Result<Asked, IoError> {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let is_probe = self.admits(&mut state, what, now)?;
        state.is_audited |= matches!(what.class, Class::AuditRead | Class::ProofRead);
        let ticket = state.scheduler.enqueue(what.class, what.bytes);
        let pending = Pending {
            class: what.class,
            action: what.action,
            file: what.file.clone(),
            offset: what.offset,
            bytes: what.bytes,
            asked: now,
            stage: Stage::Waits,
            waker: None,
            verdict: None,
            is_probe,
        };
        state.pending.insert(ticket, pending);
        drop(state);
        self.start_ready();
        Ok(Asked { core: self.clone(), ticket, class: what.class, bytes: what.bytes })
    }

    /// Refuses what a sick disk is not asked, and what an overdue write may still lie over. Says whether it goes as a probe.
    fn admits(&self, state: &mut State, what: &What<'_>, now: Instant) -> Result<bool, IoError> {
        let (action, path) = (what.action, || what.file.path().to_owned());
        let mut is_probe = false;
        if state.machine.health().refuses() && what.class != Class::RewardSignature {
            // Where the disk has nothing to read by itself, what is asked of it must tell.
            is_probe = what.action == Action::Read
                && state.probe_spot().is_none()
                && state.machine.is_probe_due(self.ms(now));
            if !is_probe {
                self.cell.count_refused();
                return Err(IoError::Sick { action, path: path() });
            }
            state.machine.probe_began();
        }
        let range = what.offset..what.offset + what.bytes;
        let overlaps = |(file, other): &(Arc<DirectFile>, Range<u64>)| {
            Arc::ptr_eq(file, what.file) && other.start < range.end && range.start < other.end
        };
        if action == Action::Write && state.overdue.values().any(overlaps) {
            self.cell.count_late(action);
            let (class, limit) = (what.class.as_str(), deadline::limit(what.class, action));
            let (offset, wanted) = (what.offset, what.bytes);
            return Err(IoError::Late { action, path: path(), offset, wanted, class, limit });
        }
        Ok(is_probe)
    }

    /// Grants what may start now, and wakes the tasks.
    fn start_ready(&self) {
        let mut wakers = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let State { scheduler, pending, .. } = &mut *state;
            while let Some(ticket) = scheduler.start_next() {
                let pending = pending.get_mut(&ticket).expect(PENDING);
                pending.stage = Stage::Granted;
                wakers.extend(pending.waker.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells the health what was seen, and the world what follows from it.
    pub fn note(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        let Some(change) = state.machine.on(self.ms(Instant::now()), event) else { return };
        self.cell.set(change.to);
        self.place.tell(&change);
        if !change.to.refuses() {
            return;
        }
        let mut wakers = Vec::new();
        if state.suspect.is_none() {
            let oldest = state.pending.values().filter(|pending| matches!(pending.stage, Stage::Begun(_)));
            state.suspect = oldest.min_by_key(|pending| pending.asked).map(Pending::spot);
        }
        for pending in state.pending.values_mut() {
            if pending.stage == Stage::Waits && pending.class != Class::RewardSignature {
                pending.verdict = Some(Verdict::Sick);
                self.cell.count_refused();
                wakers.extend(pending.waker.take());
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Looks for operations whose time is over, and tells their askers.
    pub fn judge_lateness(&self, now: Instant) {
        let (mut late, mut wakers) = (Vec::new(), Vec::new());
        {
            let mut state = self.state.borrow_mut();
            let State { pending, suspect, .. } = &mut *state;
            for pending in pending.values_mut().filter(|pending| pending.verdict.is_none()) {
                let began = match pending.stage {
                    Stage::Waits => None,
                    Stage::Begun(at) => Some(at),
                    // Its own task is late: that says nothing of the disk.
                    Stage::Granted | Stage::Answered => continue,
                };
                let (class, action) = (pending.class, pending.action);
                if let Some(limit) = deadline::passed(class, action, pending.asked, began, now) {
                    if began.is_some() {
                        *suspect = Some(pending.spot());
                    }
                    pending.verdict = Some(Verdict::Late(limit));
                    wakers.extend(pending.waker.take());
                    late.push(action);
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        for action in late {
            self.cell.count_late(action);
            self.note(Event::Late);
        }
    }

    /// Whether nothing is asked and nothing is wrong.
    pub fn is_at_rest(&self) -> bool {
        let state = self.state.borrow();
        state.pending.is_empty() && state.machine.is_at_rest()
    }
}

impl State {
    /// Where a probe would read now.
    pub fn probe_spot(&self) -> Option<(Arc<DirectFile>, u64)> {
        [&self.suspect, &self.good]
            .into_iter()
            .flatten()
            .find_map(|Spot(file, offset)| Some((file.upgrade()?, *offset)))
    }
}

/// An operation that was asked for; dropped, nobody waits for it any more.
pub(super) struct Asked {
    core: Rc<Core>,
    ticket: Ticket,
    class: Class,
    bytes: u64,
}

impl Asked {
    /// Waits for its turn: the permit, to go with the operation until the kernel is done.
    pub async fn turn(&self) -> Result<Guard, IoError> {
        poll_fn(|context| {
            let mut state = self.core.state.borrow_mut();
            let now = Instant::now();
            let State { pending, machine, pace, .. } = &mut *state;
            let pending = pending.get_mut(&self.ticket).expect(PENDING);
            if let Some(verdict) = pending.verdict {
                return Poll::Ready(Err(pending.error(verdict)));
            }
            if pending.stage == Stage::Waits {
                pending.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            pending.stage = Stage::Begun(now);
            let is_transfer = is_transfer(pending.action);
            if is_transfer {
                machine.on(self.core.ms(now), Event::Began);
            }
            if is_transfer && self.class.is_background() {
                pace.began(self.core.ms(now));
            }
            let (core, ticket, class, bytes) = (self.core.clone(), self.ticket, self.class, self.bytes);
            let permit = Permit { core, ticket, class, bytes, is_transfer, is_with_device: true };
            Poll::Ready(Ok(Some(Box::new(permit) as Box<dyn Guarding>)))
        })
        .await
    }

    /// Waits for the device, or until it is too late; then the operation is left to the device.
    pub async fn answer<T>(
        &self,
        operation: impl Future<Output = (T, Result<(), IoError>)>,
    ) -> (Option<T>, Result<(), IoError>) {
        let mut operation = pin!(operation);
        let (kept, result) = poll_fn(|context| {
            if let Poll::Ready((kept, result)) = operation.as_mut().poll(context) {
                return Poll::Ready((Some(kept), result));
            }
            let mut state = self.core.state.borrow_mut();
            let pending = state.pending.get_mut(&self.ticket).expect(PENDING);
            match pending.verdict {
                Some(verdict) => Poll::Ready((None, Err(pending.error(verdict)))),
                None => {
                    let waker = context.waker();
                    if !pending.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
                        pending.waker = Some(waker.clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await;
        if kept.is_some() {
            self.ended(&result);
        }
        (kept, result)
    }

    /// Waits for the device, however long it takes.
    pub async fn answer_at_last<T>(
        &self,
        operation: impl Future<Output = (T, Result<(), IoError>)>,
    ) -> (T, Result<(), IoError>) {
        let (kept, result) = operation.await;
        self.ended(&result);
        (kept, result)
    }

    /// The device answered.
    fn ended(&self, result: &Result<(), IoError>) {
        let mut state = self.core.state.borrow_mut();
        let State { pending, suspect, good, wants_good, .. } = &mut *state;
        let pending = pending.get_mut(&self.ticket).expect(PENDING);
        let is_read = pending.action == Action::Read;
        let event = match result {
            Ok(()) => Some(Event::Good { is_read }),
            Err(error) => error.refused_with().map(|errno| Event::Failed { errno }),
        };
        let is_bad = matches!(event, Some(Event::Failed { errno }) if blames_device(errno));
        if is_bad {
            *suspect = Some(pending.spot());
        } else if is_read && result.is_ok() && std::mem::take(wants_good) {
            *good = Some(pending.spot());
        }
        if matches!(event, Some(Event::Failed { .. })) {
            self.core.cell.count_failed(pending.action);
        }
        let is_probe = std::mem::take(&mut pending.is_probe);
        drop(state);
        event.into_iter().for_each(|event| self.core.note(event));
        if is_probe {
            self.core.note(Event::Probed { is_good: !is_bad });
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = self.core.state.borrow_mut();
        let pending = state.pending.remove(&self.ticket).expect(PENDING);
        match pending.stage {
            Stage::Waits => drop(state.scheduler.withdraw(self.class, self.ticket)),
            Stage::Granted => state.scheduler.finish(self.class, self.bytes),
            Stage::Begun(_) if pending.verdict.is_some() && pending.action == Action::Write => {
                let range = pending.offset..pending.offset + pending.bytes;
                state.overdue.insert(self.ticket, (pending.file.clone(), range));
            }
            Stage::Begun(_) | Stage::Answered => {}
        }
        drop(state);
        if pending.is_probe {
            self.core.note(Event::Probed { is_good: false });
        }
        // It may have held others of its class back.
        if matches!(pending.stage, Stage::Waits | Stage::Granted) {
            self.core.start_ready();
        }
    }
}

/// The right to be in flight; dropped when the kernel is done.
struct Permit {
    core: Rc<Core>,
    ticket: Ticket,
    class: Class,
    bytes: u64,
    is_transfer: bool,
    /// Not answered yet.
    is_with_device: bool,
}

impl Guarding for Permit {
    fn given(&mut self) {
        if std::mem::replace(&mut self.is_with_device, true) {
            return;
        }
        let (mut state, now) = (self.core.state.borrow_mut(), Instant::now());
        if let Some(pending) = state.pending.get_mut(&self.ticket) {
            pending.stage = Stage::Begun(now);
        }
        if self.is_transfer {
            state.machine.on(self.core.ms(now), Event::Began);
            if self.class.is_background() {
                state.pace.began(self.core.ms(now));
            }
        }
    }

    fn answered(&mut self) {
        if !std::mem::replace(&mut self.is_with_device, false) {
            return;
        }
        {
            let mut state = self.core.state.borrow_mut();
            let State { pending, pace, limits, scheduler, is_audited, .. } = &mut *state;
            if let Some(pending) = pending.get_mut(&self.ticket) {
                pending.stage = Stage::Answered;
            }
            if self.is_transfer && self.class.is_background() {
                let rate = pace.ended(self.core.ms(Instant::now()), self.bytes);
                // Nobody waits for a disk's work in the background where nothing is audited.
                if let Some(rate) = rate.filter(|_| *is_audited) {
                    scheduler.set_limits(rate.applied_to(limits));
                }
            }
        }
        if self.is_transfer {
            self.core.note(Event::Ended);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.answered();
        let overdue = {
            let mut state = self.core.state.borrow_mut();
            state.scheduler.finish(self.class, self.bytes);
            state.overdue.remove(&self.ticket)
        };
        // Outside of the borrow: it may be the last handle of a file.
        drop(overdue);
        self.core.start_ready();
    }
}
