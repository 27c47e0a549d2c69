//! How a disk is doing: a pure decision, without clock or I/O.
//!
//! ```text
//!              one in ten errs, or comes late                  silent, or errs always
//!   Healthy ───────────────────────────────▶ Slow ──────────────────────────────────▶ Sick ──┐ the system has no
//!      ▲  ▲ ◀── nothing bad for a minute ─────┘                                         │     │ such device
//!      │  └──────────────── good probes in a row, none hangs ◀──────────────────────────┤     ▼
//!      └────────────────────────────────────────────────────────────────────────────────┴── Gone
//! ```
//! Silence or errors alone are a doubt, since they may be of one bad place: probes then read other places, and one good answer
//! ends it. Every time that a disk falls ill soon after it was healthy again, it must be well for longer before that is believed: one
//! that flaps does so seldom. Never: what becomes of requests; [`super::Disk`] refuses them while the disk is sick.

use std::collections::VecDeque;

/// Nothing comes back for this long although transfers are in flight: the disk hangs. Longer than the four seconds that a
/// solution has, and than a hard disk needs for its worst single read; a disk that must spin up first passes for sick.
pub const HUNG_MS: u64 = 5_000;
/// Outcomes that are remembered.
const OUTCOMES: usize = 32;
/// And for how long they say something.
const OUTCOME_MS: u64 = 60_000;
/// Sick: of so many outcomes, the newest ...
const SICK_OF: usize = 16;
/// ... so many are errors of the device. Of one read in ten, that many fail together once in a thousand million times.
const SICK_FAILED: usize = 12;
/// And no read was good for this long since the first of them, no probe either: a disk that refuses writes only, or errs at one
/// place, can still be audited.
const NO_GOOD_READ_MS: u64 = 3_000;
/// Silence after which other places are looked at, so that each of [`DOUBT_PROBES`] still has a second before the disk is sick.
const DOUBT_MS: u64 = 2_500;
/// Errors without a good read between them, for so long, after which they are as well.
const DOUBT_FAILED: usize = 3;
const DOUBT_FAILED_MS: u64 = 500;
/// Pause between two probes of a disk in doubt, and how many may be on their way: one may meet another bad place.
const DOUBT_PAUSE_MS: u64 = 700;
const DOUBT_PROBES: u32 = 3;
/// Slow: so many of [`OUTCOMES`] failed or came late.
const SLOW_BAD: usize = 3;
/// A slow disk is healthy when nothing was bad for this long ...
const CALM_MS: u64 = 60_000;
/// ... and so much was good meanwhile.
const CALM_GOOD: u32 = 8;
/// Probes that a sick disk must answer well, one after another.
const GOOD_PROBES: u32 = 3;
/// Pause between probes: after a good one, after the first bad one, and at most.
const PROBE_AGAIN_MS: u64 = 200;
const PROBE_FIRST_MS: u64 = 1_000;
const PROBE_MOST_MS: u64 = 10_000;
/// Probes on their way to a sick disk: one that hangs may hang at a bad place, and the next goes to another one.
const SICK_PROBES: u32 = 4;
/// Falling ill this soon after it was healthy again makes the next recovery take longer: at least so, doubled each time.
const RELAPSE_MS: u64 = 20 * 60_000;
const HOLD_FIRST_MS: u64 = 10_000;
const HOLD_MOST_MS: u64 = 10 * 60_000;

/// How a disk is doing, the better the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Health {
    /// It answers, in time.
    Healthy,
    /// It answers, but errs now and then, or comes late.
    Slow,
    /// It hangs or errs on most it is asked; nothing but reward signatures and probes is asked of it.
    Sick,
    /// The system has no such device any more.
    Gone,
}

impl Health {
    /// Whether new operations are refused.
    pub fn refuses(self) -> bool {
        self >= Self::Sick
    }

    /// In a word, as it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Sick => "sick",
            Self::Gone => "gone",
        }
    }

    pub(super) fn of(number: u8) -> Self {
        match number {
            0 => Self::Healthy,
            1 => Self::Slow,
            2 => Self::Sick,
            _ => Self::Gone,
        }
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is seen of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A transfer was given to the device.
    Began,
    /// The device is done with one, however it went, also when nobody waits for it any more.
    Ended,
    /// One was good.
    Good {
        /// A read, not a write or sync.
        is_read: bool,
    },
    /// One was refused, with the system's number.
    Failed {
        /// Of the error.
        errno: i32,
    },
    /// One was not done within its limit.
    Late,
    /// The system does not know the device any more.
    Vanished,
    /// A probe came back.
    Probed(Answer),
    /// Time has passed.
    Tick,
}

/// How a probe came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// In time and without an error.
    Good,
    /// Without an error, but too late: the disk has begun to answer, or is about to.
    Late,
    /// With an error, or nobody knows.
    Bad,
}

/// Why the health changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing came back.
    Silent {
        /// For so long.
        silent_ms: u64,
        /// While so many transfers waited.
        in_flight: u32,
    },
    /// Errors of the device, mostly.
    Fails {
        /// So many.
        failed: usize,
        /// Of so many.
        of: usize,
        /// The last one's number.
        errno: i32,
    },
    /// Errors or lateness now and then.
    NowAndThen {
        /// Errors.
        failed: usize,
        /// Late answers.
        late: usize,
        /// Of so many.
        of: usize,
    },
    /// There is no such device, by an error's number or by what the system lists.
    Lost {
        /// The error, if there was one.
        errno: Option<i32>,
    },
    /// It answers again.
    Answers {
        /// After so long.
        after_ms: u64,
    },
}

/// A change that is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: Health,
    /// From now on.
    pub to: Health,
    /// What was seen.
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    Failed(i32),
    Late,
}

/// The health of one disk. Times are milliseconds since any beginning, and do not run backwards.
#[derive(Debug)]
pub struct Machine {
    health: Health,
    since_ms: u64,
    in_flight: u32,
    /// When something came back last, or the first of those in flight began.
    quiet_since_ms: u64,
    /// The newest last.
    outcomes: VecDeque<(u64, Outcome)>,
    /// The first error since the last good read.
    failing_since_ms: Option<u64>,
    bad_ms: u64,
    good_since_bad: u32,
    probe: Probe,
    /// How long it must be well before that is believed, beyond the least.
    hold_ms: u64,
    recovered_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Probe {
    in_flight: u32,
    next_ms: u64,
    pause_ms: u64,
    good: u32,
}

impl Machine {
    /// A healthy disk that nothing was asked of yet.
    pub fn new(now_ms: u64) -> Self {
        Self {
            health: Health::Healthy,
            since_ms: now_ms,
            in_flight: 0,
            quiet_since_ms: now_ms,
            outcomes: VecDeque::new(),
            failing_since_ms: None,
            bad_ms: now_ms,
            good_since_bad: 0,
            probe: Probe::default(),
            hold_ms: 0,
            recovered_ms: None,
        }
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes what was seen; the change that follows from it, if any.
    pub fn on(&mut self, now_ms: u64, event: Event) -> Option<Change> {
        match event {
            Event::Began => {
                if self.in_flight == 0 {
                    self.quiet_since_ms = now_ms;
                }
                self.in_flight += 1;
            }
            Event::Ended => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.quiet_since_ms = now_ms;
            }
            Event::Good { is_read } => {
                if is_read {
                    self.failing_since_ms = None;
                }
                self.good_since_bad = self.good_since_bad.saturating_add(1);
                self.remember(now_ms, Outcome::Good);
            }
            Event::Failed { errno } if is_gone(errno) => return self.lost(now_ms, Some(errno)),
            Event::Failed { errno } if is_of_device(errno) => {
                self.failing_since_ms.get_or_insert(now_ms);
                self.remember(now_ms, Outcome::Failed(errno));
                return self.judge(now_ms);
            }
            // The file system's word: the disk is no worse for it.
            Event::Failed { .. } => {}
            Event::Late => {
                self.remember(now_ms, Outcome::Late);
                return self.judge(now_ms);
            }
            Event::Vanished => return self.lost(now_ms, None),
            Event::Probed(answer) => return self.probed(now_ms, answer),
            Event::Tick => return self.judge(now_ms).or_else(|| self.calm(now_ms)),
        }
        None
    }

    /// Whether a probe should be sent now; [`Machine::probe_began`] says that it was.
    pub fn is_probe_due(&self, now_ms: u64) -> bool {
        let most = if self.health.refuses() { SICK_PROBES } else { DOUBT_PROBES };
        self.wants_probes(now_ms) && self.probe.in_flight < most && now_ms >= self.probe.next_ms
    }

    /// Whether probes are sent now and then.
    pub fn wants_probes(&self, now_ms: u64) -> bool {
        self.health.refuses() || self.is_in_doubt(now_ms)
    }

    /// A probe is on its way; its end is told by [`Event::Probed`].
    pub fn probe_began(&mut self, now_ms: u64) {
        self.probe.in_flight += 1;
        self.probe.next_ms = now_ms + if self.health.refuses() { PROBE_MOST_MS } else { DOUBT_PAUSE_MS };
    }

    /// Whether it may be the disk, or one place of it: nothing comes back, or errors alone.
    fn is_in_doubt(&self, now_ms: u64) -> bool {
        let is_silent = self.in_flight > 0 && now_ms.saturating_sub(self.quiet_since_ms) >= DOUBT_MS;
        let is_failing =
            self.failing_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= DOUBT_FAILED_MS);
        is_silent || is_failing && self.newest_errors(now_ms).count() >= DOUBT_FAILED
    }

    /// Whether there is nothing to watch: no transfer in flight, and no illness to end.
    pub fn is_at_rest(&self) -> bool {
        self.in_flight == 0 && self.health == Health::Healthy
    }

    fn remember(&mut self, now_ms: u64, outcome: Outcome) {
        if outcome != Outcome::Good {
            self.bad_ms = now_ms;
            self.good_since_bad = 0;
        }
        if self.outcomes.len() == OUTCOMES {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((now_ms, outcome));
    }

    /// Whether it is worse than was known.
    fn judge(&mut self, now_ms: u64) -> Option<Change> {
        let silent_ms = now_ms - self.quiet_since_ms;
        if self.health < Health::Sick && self.in_flight > 0 && silent_ms >= HUNG_MS {
            let in_flight = self.in_flight;
            return self.worsen(now_ms, Health::Sick, Why::Silent { silent_ms, in_flight });
        }
        let recent = || self.recent(now_ms);
        let failed = self.newest_errors(now_ms).count();
        let no_good_read = self.failing_since_ms.is_some_and(|since| now_ms - since >= NO_GOOD_READ_MS);
        if self.health < Health::Sick && failed >= SICK_FAILED && no_good_read {
            let of = recent().take(SICK_OF).count();
            let errno = self.newest_errors(now_ms).next().expect("some were counted");
            return self.worsen(now_ms, Health::Sick, Why::Fails { failed, of, errno });
        }
        let late = recent().filter(|(_, outcome)| *outcome == Outcome::Late).count();
        let failed = recent().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_))).count();
        if self.health < Health::Slow && late + failed >= SLOW_BAD {
            let of = recent().count();
            return self.worsen(now_ms, Health::Slow, Why::NowAndThen { failed, late, of });
        }
        None
    }

    /// Outcomes that still say something, the newest first.
    fn recent(&self, now_ms: u64) -> impl Iterator<Item = &(u64, Outcome)> {
        self.outcomes.iter().rev().take_while(move |(at, _)| now_ms.saturating_sub(*at) <= OUTCOME_MS)
    }

    /// The errors among the newest outcomes.
    fn newest_errors(&self, now_ms: u64) -> impl Iterator<Item = i32> {
        self.recent(now_ms).take(SICK_OF).filter_map(|(_, outcome)| match outcome {
            Outcome::Failed(errno) => Some(*errno),
            Outcome::Good | Outcome::Late => None,
        })
    }

    /// Whether a slow disk is healthy again.
    fn calm(&mut self, now_ms: u64) -> Option<Change> {
        let is_calm = now_ms - self.bad_ms.max(self.since_ms) >= CALM_MS.max(self.hold_ms);
        (self.health == Health::Slow && is_calm && self.good_since_bad >= CALM_GOOD)
            .then(|| self.recover(now_ms))
    }

    fn probed(&mut self, now_ms: u64, answer: Answer) -> Option<Change> {
        let (probe, is_sick) = (&mut self.probe, self.health.refuses());
        probe.in_flight = probe.in_flight.saturating_sub(1);
        if answer == Answer::Good {
            self.quiet_since_ms = now_ms;
            self.failing_since_ms = None;
        }
        if !is_sick {
            return None;
        }
        match answer {
            Answer::Good => probe.good += 1,
            Answer::Late | Answer::Bad => probe.good = 0,
        }
        if answer == Answer::Bad {
            probe.pause_ms = (probe.pause_ms * 2).clamp(PROBE_FIRST_MS, PROBE_MOST_MS);
            probe.next_ms = now_ms + probe.pause_ms;
        } else {
            probe.pause_ms = 0;
            probe.next_ms = now_ms + PROBE_AGAIN_MS;
        }
        let is_well = probe.good >= GOOD_PROBES && now_ms - self.since_ms >= self.hold_ms;
        is_well.then(|| self.recover(now_ms))
    }

    fn lost(&mut self, now_ms: u64, errno: Option<i32>) -> Option<Change> {
        (self.health != Health::Gone).then(|| self.worsen(now_ms, Health::Gone, Why::Lost { errno }))?
    }

    fn worsen(&mut self, now_ms: u64, to: Health, why: Why) -> Option<Change> {
        if self.health == Health::Healthy {
            let is_relapse = self.recovered_ms.is_some_and(|at| now_ms - at < RELAPSE_MS);
            self.hold_ms = if is_relapse { (self.hold_ms * 2).clamp(HOLD_FIRST_MS, HOLD_MOST_MS) } else { 0 };
        }
        let from = std::mem::replace(&mut self.health, to);
        self.since_ms = now_ms;
        if to.refuses() {
            let in_flight = self.probe.in_flight;
            self.probe =
                Probe { in_flight, next_ms: now_ms + PROBE_FIRST_MS, pause_ms: PROBE_FIRST_MS, good: 0 };
        }
        Some(Change { from, to, why })
    }

    fn recover(&mut self, now_ms: u64) -> Change {
        let from = std::mem::replace(&mut self.health, Health::Healthy);
        let after_ms = now_ms - std::mem::replace(&mut self.since_ms, now_ms);
        self.recovered_ms = Some(now_ms);
        self.quiet_since_ms = now_ms;
        self.outcomes.clear();
        self.failing_since_ms = None;
        self.good_since_bad = 0;
        Change { from, to: Health::Healthy, why: Why::Answers { after_ms } }
    }
}

/// The device is not there any more, or the server of its file system. A handle that the server does not know (ESTALE) says that of one file.
fn is_gone(errno: i32) -> bool {
    matches!(errno, libc::ENODEV | libc::ENXIO | libc::ENOMEDIUM | libc::ENOTCONN)
}

/// What the kernel's block layer answers when the device failed; no room, bad arguments and the like are not among them.
fn is_of_device(errno: i32) -> bool {
    matches!(
        errno,
        libc::EIO
            | libc::ETIMEDOUT
            | libc::ETIME
            | libc::ENODATA
            | libc::EREMOTEIO
            | libc::EILSEQ
            | libc::EBADE
            | libc::ENOLINK
            | libc::ESTALE
    )
}

/// Whether a system's error says that the device answers badly or not at all.
pub fn blames_device(errno: i32) -> bool {
    is_gone(errno) || is_of_device(errno)
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
