//! How much background work a disk is given at once: a pure decision, without clock or I/O.
//!
//! ```text
//!   bytes and requests done ÷ time in which any was in flight = what the device does ──▶ × 4 ms = what may be in flight
//! ```
//! An audit that begins finds the device busy with what was given to it before, and can only wait for that. So no class in
//! the background may have more in flight than the device does in [`AHEAD`], which is measured as it works: between one
//! request and the caps of [`Limits`], which are the most that any device needs to be kept busy.

use super::scheduler::{Cap, Limits};
use std::time::Duration;

/// What an audit may find before it on the device: a thousandth of the four seconds that a slot gives, and still many
/// requests of a fast device, so that it is never idle between two.
pub const AHEAD: Duration = Duration::from_millis(4);
/// Time with work in flight that one measurement takes: many requests of a fast device, a few of a slow one.
const WINDOW_MS: u64 = 50;
/// A request that is never larger than any that is asked: more than one waits for the one before it.
const FLOOR: Cap = Cap { bytes: 256 * 1024, requests: 1 };

/// What a device does, as measured; bytes and requests a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    bytes: f64,
    requests: f64,
}

impl Rate {
    /// The limits under which no class in the background has more in flight than the device does in [`AHEAD`].
    pub fn applied_to(&self, most: &Limits) -> Limits {
        let cap = |most: Cap| Cap {
            bytes: at_most(self.bytes, FLOOR.bytes, most.bytes),
            requests: at_most(self.requests, FLOOR.requests as u64, most.requests as u64) as usize,
        };
        let (serving, sector_write, scrub) = (cap(most.serving), cap(most.sector_write), cap(most.scrub));
        Limits { serving, sector_write, scrub, ..*most }
    }
}

fn at_most(rate: f64, floor: u64, most: u64) -> u64 {
    let ahead = (rate * AHEAD.as_secs_f64()).ceil();
    // Casts of floats saturate.
    (ahead as u64).max(floor).min(most.max(1))
}

/// The measurement of one disk. Times are milliseconds since any beginning, and do not run backwards.
#[derive(Debug, Default)]
pub struct Pace {
    in_flight: usize,
    busy_since_ms: u64,
    busy_ms: u64,
    bytes: u64,
    requests: u64,
    rate: Option<Rate>,
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
        let seen = Rate { bytes: bytes as f64 / seconds, requests: requests as f64 / seconds };
        let mixed = |old: f64, new: f64| old + (new - old) / 4.0;
        let rate = self.rate.map_or(seen, |old| Rate {
            bytes: mixed(old.bytes, seen.bytes),
            requests: mixed(old.requests, seen.requests),
        });
        self.rate = Some(rate);
        Some(rate)
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
