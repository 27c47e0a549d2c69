//! How much background work a disk is given at once: a pure decision, without clock or I/O.
//!
//! ```text
//!   bytes and requests done ÷ time in which any was in flight = what the device does ──▶ × 4 ms = what may be in flight
//! ```
//! An audit that begins finds the device busy with what was given to it before, and can only wait for that. So no class in
//! the background may have more in flight than the device does in [`AHEAD`], which is measured as it works: between one
//! request and the caps of [`Limits`], which are the most that any device needs to be kept busy.
//!
//! A device with slow requests that does many at once shows little of what it can do to one who gives it little. So now and then
//! it is given twice as much for one measurement: if that brings much more, nobody waits longer for it, and it stays so; and what
//! stayed is tried in the same way to be taken back.

use super::scheduler::{Cap, Limits};
use std::time::Duration;

/// What an audit may find before it on the device: a thousandth of the four seconds that a slot gives, and still many
/// requests of a fast device, so that it is never idle between two.
pub const AHEAD: Duration = Duration::from_millis(4);
/// Time with work in flight that one measurement takes: many requests of a fast device, a few of a slow one.
const WINDOW_MS: u64 = 50;
/// A request that is never larger than any that is asked: more than one waits for the one before it.
const FLOOR: Cap = Cap { bytes: 256 * 1024, requests: 1 };
/// Measurements between two trials, some 25 seconds of work, and those of one trial, the first of which still shows what was
/// given before it: audits that meet a trial are fewer than one in a hundred.
const TRIAL_EVERY: u32 = 512;
const TRIAL_WINDOWS: u32 = 4;
/// Twice as much in flight must bring so many times as much, or the device only lets it wait.
const WORTH: f64 = 1.4;
/// Most that a device is given of what it does in [`AHEAD`]: a power of two.
const MOST_TIMES: u32 = 64;

/// What a device does, as measured; bytes and requests a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    bytes: f64,
    requests: f64,
    /// How often it may have in flight what it does in [`AHEAD`]: more than once where it was seen to do it at once.
    times: u32,
}

impl Rate {
    /// The limits under which no class in the background has more in flight than the device does in [`AHEAD`].
    pub fn applied_to(&self, most: &Limits) -> Limits {
        let cap = |most: Cap| Cap {
            bytes: self.at_most(self.bytes, FLOOR.bytes, most.bytes),
            requests: self.at_most(self.requests, FLOOR.requests as u64, most.requests as u64) as usize,
        };
        let (serving, sector_write, scrub) = (cap(most.serving), cap(most.sector_write), cap(most.scrub));
        Limits { serving, sector_write, scrub, ..*most }
    }

    fn at_most(&self, rate: f64, floor: u64, most: u64) -> u64 {
        let ahead = (rate * AHEAD.as_secs_f64()).ceil();
        // Casts of floats saturate.
        (ahead as u64).max(floor).saturating_mul(self.times.into()).min(most.max(1))
    }
}

/// What the device is given to see whether it is worth it, and what it did so far.
#[derive(Debug)]
struct Trial {
    times: u32,
    windows: u32,
    bytes: f64,
    requests: f64,
}

/// The measurement of one disk. Times are milliseconds since any beginning, and do not run backwards.
#[derive(Debug)]
pub struct Pace {
    in_flight: usize,
    busy_since_ms: u64,
    busy_ms: u64,
    bytes: u64,
    requests: u64,
    rate: Option<Rate>,
    /// See [`Rate`].
    times: u32,
    until_trial: u32,
    trial: Option<Trial>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            in_flight: 0,
            busy_since_ms: 0,
            busy_ms: 0,
            bytes: 0,
            requests: 0,
            rate: None,
            times: 1,
            until_trial: TRIAL_EVERY,
            trial: None,
        }
    }
}

impl Pace {
    /// A transfer in the background was given to the device.
    pub fn began(&mut self, now_ms: u64) {
        if self.in_flight == 0 {
            self.busy_since_ms = now_ms;
        }
        self.in_flight += 1;
    }

    /// The device is done with one; a new rate when enough was seen.
    pub fn ended(&mut self, now_ms: u64, bytes: u64) -> Option<Rate> {
        self.busy_ms += now_ms - std::mem::replace(&mut self.busy_since_ms, now_ms);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.bytes += bytes;
        self.requests += 1;
        if self.busy_ms < WINDOW_MS {
            return None;
        }
        let seconds = std::mem::take(&mut self.busy_ms) as f64 / 1000.0;
        let (bytes, requests) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.requests));
        Some(self.seen(bytes as f64 / seconds, requests as f64 / seconds))
    }

    /// Takes a measurement, and says what the device is given until the next one.
    fn seen(&mut self, bytes: f64, requests: f64) -> Rate {
        let mixed = |old: f64, new: f64| old + (new - old) / 4.0;
        let known = self.rate.get_or_insert(Rate { bytes, requests, times: 1 });
        if let Some(trial) = &mut self.trial {
            trial.windows += 1;
            if trial.windows > 1 {
                trial.bytes += bytes;
                trial.requests += requests;
            }
        } else {
            (known.bytes, known.requests) = (mixed(known.bytes, bytes), mixed(known.requests, requests));
            self.until_trial -= 1;
        }
        let known = *known;
        match self.trial.take_if(|trial| trial.windows >= TRIAL_WINDOWS) {
            Some(trial) => self.judge(&trial, known),
            None if self.until_trial == 0 => self.begin(if self.times > 1 { self.times / 2 } else { 2 }),
            None => {}
        }
        let times = self.trial.as_ref().map_or(self.times, |trial| trial.times);
        Rate { times, ..self.rate.unwrap_or(known) }
    }

    fn begin(&mut self, times: u32) {
        self.trial = Some(Trial { times, windows: 0, bytes: 0.0, requests: 0.0 });
        self.until_trial = TRIAL_EVERY;
    }

    /// Keeps what was tried if twice as much brings much more, or half as much hardly less.
    fn judge(&mut self, trial: &Trial, known: Rate) {
        let mean = |sum: f64| sum / f64::from(TRIAL_WINDOWS - 1);
        let tried = Rate { bytes: mean(trial.bytes), requests: mean(trial.requests), times: trial.times };
        let was_more = trial.times > self.times;
        let (more, less) = if was_more { (tried, known) } else { (known, tried) };
        let is_worth = more.bytes >= less.bytes * WORTH;
        if is_worth == was_more {
            (self.times, self.rate) = (trial.times, Some(tried));
        } else if !was_more && self.times < MOST_TIMES {
            self.begin(self.times * 2);
        }
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
