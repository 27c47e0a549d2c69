//! The inside of a disk: what waits for its turn, what the device works on, and until when.
//!
//! ```text
//!   ask ──▶ Waits ──scheduler──▶ Granted ──its task──▶ Begun ──device is done──▶ Answered
//!     │        └── too late, or the disk turned sick: told, and gone ──┘ too late: told; the permit stays with the kernel
//!     └── refused at once while the disk is sick
//! ```
//! Owns: the scheduler, the deadlines, the health and the pace of one disk. Never: a clock of its own; [`super::watch`] looks
//! in at it. What nobody waits for any more the device may still do: what would overlap it waits ([`super::left`]).

use super::cell::HealthCell;
use super::deadline;
use super::device::Device;
use super::health::{Answer, Event, Machine, blames_device};
use super::left::{Left, LeftBehind};
use super::pace::Pace;
use super::pending::{Pending, Stage, Verdict, What, is_transfer};
use super::place::Place;
use super::places::{Places, Spot};
use super::scheduler::{Class, Limits, Scheduler, Ticket};
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::pool::{Pool, SlabMut};
use crate::ring::{Guard, Guarding};
use crate::task;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

pub(super) struct Core {
    pub device: Box<dyn Device>,
    pub pool: Pool,
    /// As its maker knows it, until the system has said more.
    place: Place,
    seen: OnceCell<Place>,
    pub cell: Arc<HealthCell>,
    pub state: RefCell<State>,
    origin: Instant,
}

pub(super) struct State {
    pub scheduler: Scheduler,
    pub machine: Machine,
    pending: HashMap<Ticket, Pending>,
    left: LeftBehind,
    pace: Pace,
    pub limits: Limits,
    pub places: Places,
    /// What probes read into, a block each: parts of one slab.
    pub probe_memory: Vec<SlabMut>,
    /// A place of a good read is to be remembered.
    pub wants_good: bool,
    /// A task looks in.
    pub is_watched: bool,
    /// Audits or proofs are read from it.
    is_audited: bool,
}

const PENDING: &str = "an operation is pending until it is dropped";

/// A probe that is due for this long could not be sent.
const UNSENT_MS: u64 = 500;

impl Core {
    pub fn new(device: Box<dyn Device>, pool: Pool, place: Place, limits: Limits) -> Rc<Self> {
        let state = State {
            scheduler: Scheduler::new(limits),
            machine: Machine::new(0),
            pending: HashMap::new(),
            left: LeftBehind::default(),
            pace: Pace::default(),
            limits,
            places: Places::default(),
            probe_memory: Vec::new(),
            wants_good: true,
            is_watched: false,
            is_audited: false,
        };
        let origin = Instant::now();
        let (cell, seen) = Default::default();
        Rc::new(Self { device, pool, place, seen, cell, state: RefCell::new(state), origin })
    }

    /// Where it is, as far as is known.
    pub fn place(&self) -> &Place {
        self.seen.get().unwrap_or(&self.place)
    }

    /// The system has said where it is.
    pub fn is_seen_at(&self, place: Place) {
        self.cell.set_device(&place.device);
        self.seen.get_or_init(|| place);
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

    /// Refuses what a sick disk is not asked. Says whether it goes as a probe.
    fn admits(&self, state: &mut State, what: &What<'_>, now: Instant) -> Result<bool, IoError> {
        if !state.refuses(what.class) {
            return Ok(false);
        }
        // Where the disk has no probes by itself, for want of a place to read or of memory, what is asked of it must tell.
        let ms = self.ms(now);
        let is_probe =
            what.action == Action::Read && state.machine.is_probe_due(ms.saturating_sub(UNSENT_MS));
        if !is_probe {
            return Err(self.refused(what));
        }
        state.machine.probe_began(ms);
        Ok(true)
    }

    fn refused(&self, what: &What<'_>) -> IoError {
        self.cell.count_refused();
        IoError::Sick { action: what.action, path: what.file.path().to_owned() }
    }

    /// Waits while the device has something of the same kind over this range that nobody waits for any more. Its own time begins
    /// after that.
    pub async fn clear(&self, what: &What<'_>) -> Result<(), IoError> {
        let range = what.offset..what.offset + what.bytes;
        let is_clear = |state: &State| !state.left.is_over(what.action, what.file, &range);
        if is_clear(&self.state.borrow()) {
            return Ok(());
        }
        let cleared = poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if is_clear(&state) {
                return Poll::Ready(Ok(()));
            }
            if state.refuses(what.class) {
                return Poll::Ready(Err(self.refused(what)));
            }
            state.left.wait(context.waker());
            Poll::Pending
        });
        let (action, class, limit) = (what.action, what.class, deadline::turn(what.class, what.action));
        task::timeout(limit, cleared).await.unwrap_or_else(|_| {
            let (path, offset, wanted) = (what.file.path().to_owned(), what.offset, what.bytes);
            Err(IoError::HeldBack { action, path, offset, wanted, class: class.as_str(), limit })
        })
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
        self.place().tell(&change);
        if !change.to.refuses() {
            return;
        }
        let mut wakers = state.left.take_waiting();
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
            let State { pending, places, .. } = &mut *state;
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
                        places.suspect(pending.spot());
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
    fn refuses(&self, class: Class) -> bool {
        self.machine.health().refuses() && class != Class::RewardSignature
    }

    /// Where a probe is to read now.
    pub fn probe_spot(&mut self, now: Instant) -> Option<(Arc<DirectFile>, u64)> {
        let pending = self.pending.values().filter(|pending| pending.hangs(now)).map(Pending::spot);
        let left = self
            .left
            .all()
            .map(|left| Spot::new(&left.file, left.range.start, left.range.end - left.range.start));
        let hanging: Vec<_> = pending.chain(left).collect();
        // One in doubt hangs there already.
        self.places.next(&hanging, self.machine.health().refuses())
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
            match self.verdict_or_wake(context.waker()) {
                Some(error) => Poll::Ready((None, Err(error))),
                None => Poll::Pending,
            }
        })
        .await;
        if kept.is_some() {
            self.ended(&result);
        }
        (kept, result)
    }

    /// Waits for the device, however long it takes; `tell` hears once that it is too late.
    pub async fn answer_at_last<T>(
        &self,
        operation: impl Future<Output = (T, Result<(), IoError>)>,
        mut tell: impl FnMut(IoError),
    ) -> (T, Result<(), IoError>) {
        let (mut operation, mut is_told) = (pin!(operation), false);
        let (kept, result) = poll_fn(|context| {
            let ended = operation.as_mut().poll(context);
            if ended.is_pending() && !is_told {
                let late = self.verdict_or_wake(context.waker());
                is_told = late.is_some();
                late.into_iter().for_each(&mut tell);
            }
            ended
        })
        .await;
        self.ended(&result);
        (kept, result)
    }

    /// What its asker is to be told before it has ended; until there is something, `waker` is woken for it.
    fn verdict_or_wake(&self, waker: &Waker) -> Option<IoError> {
        let mut state = self.core.state.borrow_mut();
        let pending = state.pending.get_mut(&self.ticket).expect(PENDING);
        if pending.verdict.is_none() && !pending.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            pending.waker = Some(waker.clone());
        }
        pending.verdict.map(|verdict| pending.error(verdict))
    }

    /// The device answered.
    fn ended(&self, result: &Result<(), IoError>) {
        let mut state = self.core.state.borrow_mut();
        let State { pending, places, wants_good, .. } = &mut *state;
        let pending = pending.get_mut(&self.ticket).expect(PENDING);
        let is_read = pending.action == Action::Read;
        let event = match result {
            Ok(()) => Some(Event::Good { is_read }),
            Err(error) => error.refused_with().map(|errno| Event::Failed { errno }),
        };
        let is_bad = matches!(event, Some(Event::Failed { errno }) if blames_device(errno));
        if is_bad {
            places.suspect(pending.spot());
        } else if is_read && result.is_ok() && std::mem::take(wants_good) {
            places.good(&pending.file, pending.offset, pending.bytes);
        }
        if matches!(event, Some(Event::Failed { .. })) {
            self.core.cell.count_failed(pending.action);
        }
        let is_probe = std::mem::take(&mut pending.is_probe);
        drop(state);
        event.into_iter().for_each(|event| self.core.note(event));
        if is_probe {
            self.core.note(Event::Probed(if result.is_ok() { Answer::Good } else { Answer::Bad }));
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
            Stage::Begun(_) if is_transfer(pending.action) => {
                let (action, range) = (pending.action, pending.offset..pending.offset + pending.bytes);
                state.left.insert(self.ticket, Left { action, file: pending.file.clone(), range });
                state.scheduler.leave(self.class, self.bytes);
            }
            Stage::Begun(_) | Stage::Answered => {}
        }
        drop(state);
        if pending.is_probe {
            self.core.note(Event::Probed(Answer::Bad));
        }
        // It may have held others back.
        self.core.start_ready();
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
        let left = {
            let mut state = self.core.state.borrow_mut();
            state.scheduler.finish(self.class, self.bytes);
            let left = state.left.remove(self.ticket);
            if left.is_some() {
                state.scheduler.came_back(self.class, self.bytes);
            }
            left
        };
        // Outside of the borrow: it may be the last handle of a file.
        let waiting = left.map(|(_, waiting)| waiting);
        waiting.into_iter().flatten().for_each(Waker::wake);
        self.core.start_ready();
    }
}
