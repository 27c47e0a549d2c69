//! Which farms a plot-client has, while they come and go: decisions alone, without clock, bus or disk.
//!
//! ```text
//!   named, added ─▶ opening ── opened ──▶ open ── removed, or named with another size ──▶ closing ─▶ gone, or opening again
//!                     ▲  └──── failed ──▶ shut ◀── lost: a copy, no executor, its disk is gone ─┘
//!                     └─ again in 10 s, doubling to 5 min ─┘ └─ for good where no waiting helps, until it is named again
//!                        (every 10 s where its disk is not there)
//! ```
//! A farm is known by its folder. At most one opening or closing of a folder is under way, whatever is wished meanwhile; the last wish
//! holds when it has ended. An opening that nobody wants any more is given up. A farm that cannot be opened as it is named now goes on as
//! it was named when it was open last.
//!
//! Owns: which farm is opened or closed when, when one that failed is tried again, and when the process has nothing left to hope for.
//! Never: what may pass by itself and what may not; whoever opens says that.

use crate::retry::Retry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pause after the first failure to open a farm.
pub const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Pauses double up to this.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What happens. `S` is how a farm is named: its size, for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<S> {
    /// All farms that are wanted from now on; those that are shut are tried again.
    Named(Vec<(PathBuf, S)>),
    /// One more, or one that is shut again, or with another size.
    Added {
        /// Its folder.
        path: PathBuf,
        /// How it is named.
        spec: S,
    },
    /// It is not wanted any more.
    Removed {
        /// Its folder.
        path: PathBuf,
    },
    /// An [`Action::Open`] ended well.
    Opened {
        /// Its folder.
        path: PathBuf,
    },
    /// An [`Action::Open`] failed.
    Failed {
        /// Its folder.
        path: PathBuf,
        /// What went wrong.
        why: Failure,
    },
    /// An open farm cannot go on.
    Lost {
        /// Its folder.
        path: PathBuf,
        /// What went wrong.
        why: Failure,
    },
    /// An [`Action::Close`] has ended: its lock is free.
    Closed {
        /// Its folder.
        path: PathBuf,
    },
    /// Time has passed: [`Fleet::wake_at`].
    Tick,
}

/// Why a farm is not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub reason: String,
    /// Whether it may pass by itself.
    pub passes: Passes,
}

/// Whether what went wrong may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// No waiting helps.
    Never,
    /// A lock, an error of the disk: tried less and less often.
    Maybe,
    /// A farm that is not there, since its disk is not: looking costs nothing, so it is tried every [`FIRST_PAUSE`] and farms soon after
    /// its disk is mounted.
    Soon,
    /// A disk that is full: tried rarely from the start, since each try takes long.
    Slowly,
    /// What is in the way is about to go: never a reason to end.
    Surely,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<S> {
    /// Open the farm; answer with [`Event::Opened`] or [`Event::Failed`].
    Open {
        /// Its folder.
        path: PathBuf,
        /// How it is named.
        spec: S,
    },
    /// Nobody wants the [`Action::Open`] that is under way there: break it off; it is answered all the same.
    GiveUp {
        /// Its folder.
        path: PathBuf,
    },
    /// Let go of the farm; answer with [`Event::Closed`].
    Close {
        /// Its folder.
        path: PathBuf,
    },
    /// Tell people that a farm takes no part: once for each reason, and anew when it was named again.
    TellFailure {
        /// Its folder.
        path: PathBuf,
        /// Why.
        reason: String,
        /// When it is tried again; none: not by itself.
        again_in: Option<Duration>,
    },
    /// Tell people that a farm could not be opened as it is named now: it goes on as it was, until it is named with another, or asked for again.
    TellKept {
        /// Its folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Tell people that no farm is open: once until one is.
    TellNoneOpen,
    /// End the process: nothing is left that waiting helps, or the operator wants to see every failure.
    End {
        /// The last failure.
        reason: String,
    },
}

/// Where a farm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// It is being opened.
    Opening,
    /// It is open.
    Open,
    /// It is let go.
    Closing,
    /// It could not be opened, or could not go on.
    Shut {
        /// Why.
        reason: &'a str,
        /// When it is tried again, if it is.
        again_at: Option<Duration>,
    },
}

/// The farms of one plot-client. Times are since the process's start.
#[derive(Debug)]
pub struct Fleet<S> {
    /// Whether any failure is the end.
    ends_on_failure: bool,
    places: BTreeMap<PathBuf, Place<S>>,
    is_told_none: bool,
}

#[derive(Debug)]
struct Place<S> {
    wanted: Option<S>,
    /// How it was named when it was open last.
    good: Option<S>,
    /// How it was named since, and why it goes on as that all the same.
    kept: Option<(S, String)>,
    /// Whether it is here by a request alone: then its failures are that request's, and never the end.
    is_asked_for: bool,
    stage: Stage<S>,
    retry: Retry,
    /// The failure that was told last, until it opens or is named again.
    told: Option<String>,
}

#[derive(Debug)]
enum Stage<S> {
    Opening {
        spec: S,
        /// Nobody wants it any more.
        is_given_up: bool,
    },
    Open(S),
    /// With the failure that is the cause, if one is.
    Closing(Option<Failure>),
    /// Of a new one the failure is empty, and passes at once.
    Shut(Failure),
}

impl<S: Clone + PartialEq> Fleet<S> {
    /// None is named yet. With `ends_on_failure` any farm that was named, and cannot be opened or go on, ends the process.
    pub fn new(ends_on_failure: bool) -> Self {
        Self { ends_on_failure, places: BTreeMap::new(), is_told_none: false }
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event<S>, now: Duration) -> Vec<Action<S>> {
        let mut out = Vec::new();
        match event {
            Event::Named(named) => self.named(named, now),
            Event::Added { path, spec } => self.want(path, spec, true, now),
            Event::Removed { path } => {
                if let Some(place) = self.places.get_mut(&path) {
                    place.wanted = None;
                }
            }
            Event::Opened { path } => self.opened(&path, now),
            Event::Failed { path, why } => self.failed(&path, why, now, &mut out),
            Event::Lost { path, why } => self.lost(&path, why, now, &mut out),
            Event::Closed { path } => {
                if let Some(Place { stage: stage @ Stage::Closing(_), .. }) = self.places.get_mut(&path) {
                    let Stage::Closing(why) = stage else { return out };
                    *stage = Stage::Shut(why.take().unwrap_or_else(nothing_yet));
                }
            }
            Event::Tick => {}
        }
        if !matches!(out.last(), Some(Action::End { .. })) {
            self.go_on(now, &mut out);
        }
        out
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn wake_at(&self) -> Option<Duration> {
        self.places.values().filter_map(Place::again_at).min()
    }

    /// Every farm that is wanted, or not gone yet, and where it is.
    pub fn states(&self) -> impl Iterator<Item = (&Path, State<'_>)> {
        self.places.iter().map(|(path, place)| (path.as_path(), place.state()))
    }

    /// Where a farm is; none if there is none of that folder.
    pub fn state(&self, path: &Path) -> Option<State<'_>> {
        self.places.get(path).map(Place::state)
    }

    /// Why a farm goes on as it was named when it was open last, though it was named otherwise since, if that is so.
    pub fn kept(&self, path: &Path) -> Option<&str> {
        self.places.get(path)?.kept.as_ref().map(|(_, reason)| &reason[..])
    }

    fn named(&mut self, named: Vec<(PathBuf, S)>, now: Duration) {
        let mut before: BTreeMap<_, _> =
            self.places.iter_mut().map(|(path, place)| (path.clone(), place.wanted.take())).collect();
        for (path, spec) in named {
            match self.places.get_mut(&path) {
                // Named as it was when that could not be had: another farm is meant.
                Some(place) if place.kept.as_ref().is_some_and(|(refused, _)| *refused == spec) => {
                    place.wanted = before.remove(&path).flatten();
                }
                _ => self.want(path, spec, false, now),
            }
        }
    }

    fn want(&mut self, path: PathBuf, spec: S, is_asked_for: bool, now: Duration) {
        let place = self.places.entry(path).or_insert_with(|| Place {
            wanted: None,
            good: None,
            kept: None,
            is_asked_for,
            stage: Stage::Shut(nothing_yet()),
            retry: Retry::new(FIRST_PAUSE, LONGEST_PAUSE, now),
            told: None,
        });
        place.is_asked_for |= is_asked_for && place.wanted.is_none();
        place.wanted = Some(spec);
        place.kept = None;
        place.retry.begin_anew(now);
        place.told = None;
        match &mut place.stage {
            Stage::Shut(why) => why.passes = Passes::Maybe,
            Stage::Closing(why) => *why = None,
            Stage::Opening { .. } | Stage::Open(_) => {}
        }
    }

    fn opened(&mut self, path: &Path, now: Duration) {
        let Some(place) = self.places.get_mut(path) else { return };
        if let Stage::Opening { spec, .. } = &place.stage {
            place.good = Some(spec.clone());
            place.stage = Stage::Open(spec.clone());
            place.retry.begin_anew(now);
            place.told = None;
            self.is_told_none = false;
        }
    }

    fn failed(&mut self, path: &Path, why: Failure, now: Duration, out: &mut Vec<Action<S>>) {
        let Some(place) = self.places.get_mut(path) else { return };
        let Stage::Opening { spec: tried, is_given_up } = &place.stage else { return };
        if *is_given_up || place.wanted.as_ref() != Some(tried) {
            // Nobody wants to know: what is wanted now was not tried.
            place.stage = Stage::Shut(nothing_yet());
            return;
        }
        if let Some(good) = place.good.take().filter(|good| good != tried) {
            place.wanted = Some(good);
            place.kept = Some((tried.clone(), why.reason.clone()));
            place.stage = Stage::Shut(nothing_yet());
            out.push(Action::TellKept { path: path.to_owned(), reason: why.reason });
            return;
        }
        place.wait(why.passes, now);
        place.stage = Stage::Shut(why.clone());
        self.tell(path, why, now, out);
    }

    fn lost(&mut self, path: &Path, why: Failure, now: Duration, out: &mut Vec<Action<S>>) {
        let Some(place) = self.places.get_mut(path) else { return };
        if !matches!(place.stage, Stage::Open(_)) {
            return;
        }
        place.wait(why.passes, now);
        place.stage = Stage::Closing(Some(why.clone()));
        out.push(Action::Close { path: path.to_owned() });
        self.tell(path, why, now, out);
    }

    fn tell(&mut self, path: &Path, why: Failure, now: Duration, out: &mut Vec<Action<S>>) {
        let may_end = self.ends_on_failure || self.is_hopeless();
        let Some(place) = self.places.get_mut(path) else { return };
        let Failure { reason, passes } = why;
        let ends = may_end && passes != Passes::Surely && !place.is_asked_for;
        if place.told.as_ref() != Some(&reason) {
            place.told = Some(reason.clone());
            let again_in = (passes != Passes::Never && !ends).then(|| place.retry.due.saturating_sub(now));
            out.push(Action::TellFailure { path: path.to_owned(), reason: reason.clone(), again_in });
        }
        if ends {
            out.push(Action::End { reason });
        }
    }

    /// Whether no farm is open, and none will be by waiting.
    fn is_hopeless(&self) -> bool {
        self.places.values().filter(|place| place.wanted.is_some()).all(Place::is_hopeless)
    }

    /// What time or an event made due.
    fn go_on(&mut self, now: Duration, out: &mut Vec<Action<S>>) {
        self.places.retain(|path, place| place.go_on(path, now, out));
        if self.places.values().all(Place::is_shut) && !std::mem::replace(&mut self.is_told_none, true) {
            out.push(Action::TellNoneOpen);
        }
    }
}

impl<S: Clone + PartialEq> Place<S> {
    fn state(&self) -> State<'_> {
        match &self.stage {
            Stage::Opening { .. } => State::Opening,
            Stage::Open(_) => State::Open,
            Stage::Closing(_) => State::Closing,
            Stage::Shut(why) => State::Shut { reason: &why.reason, again_at: self.again_at() },
        }
    }

    fn again_at(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Shut(why) if why.passes != Passes::Never && self.wanted.is_some() => Some(self.retry.due),
            _ => None,
        }
    }

    /// Whether nothing is open there, nor about to be.
    fn is_shut(&self) -> bool {
        match self.stage {
            Stage::Shut(_) | Stage::Closing(Some(_)) => true,
            Stage::Closing(None) => self.wanted.is_none(),
            Stage::Opening { .. } | Stage::Open(_) => false,
        }
    }

    /// Until it is tried again.
    fn wait(&mut self, passes: Passes, now: Duration) {
        if passes == Passes::Soon {
            self.retry.begin_anew(now);
        }
        self.retry.failed(now);
        if passes == Passes::Slowly {
            self.retry.due = now + LONGEST_PAUSE;
        }
    }

    fn is_hopeless(&self) -> bool {
        matches!(&self.stage, Stage::Shut(why) | Stage::Closing(Some(why)) if why.passes == Passes::Never)
    }

    /// Gives whether the place is to be kept.
    fn go_on(&mut self, path: &Path, now: Duration, out: &mut Vec<Action<S>>) -> bool {
        if self.wanted.is_none() {
            self.good = None;
        }
        match (&mut self.stage, &self.wanted) {
            (Stage::Shut(_), None) => return false,
            (Stage::Shut(why), Some(spec)) if why.passes != Passes::Never && self.retry.due <= now => {
                out.push(Action::Open { path: path.to_owned(), spec: spec.clone() });
                self.stage = Stage::Opening { spec: spec.clone(), is_given_up: false };
            }
            (Stage::Opening { spec, is_given_up: is_given_up @ false }, wanted)
                if wanted.as_ref() != Some(spec) =>
            {
                *is_given_up = true;
                out.push(Action::GiveUp { path: path.to_owned() });
            }
            (Stage::Open(spec), wanted) if wanted.as_ref() != Some(spec) => {
                out.push(Action::Close { path: path.to_owned() });
                self.stage = Stage::Closing(None);
            }
            _ => {}
        }
        true
    }
}

/// Of a farm that was not tried.
fn nothing_yet() -> Failure {
    Failure { reason: String::new(), passes: Passes::Maybe }
}

#[cfg(test)]
mod tests;
