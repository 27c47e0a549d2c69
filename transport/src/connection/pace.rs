//! How long the payload that is on its way may take, out or in.

use super::types::Config;
use crate::limits::payload_ms;

/// The payload at the head, from when its bytes, or the credit for them, are due.
#[derive(Debug, Default)]
pub(super) struct Pace(Option<UnderWay>);

#[derive(Debug)]
struct UnderWay {
    since_ms: u64,
    bytes: u64,
}

impl Pace {
    /// A payload begins; the one before it is over.
    pub(super) fn begin(&mut self, bytes: usize, now_ms: u64) {
        self.0 = Some(UnderWay { since_ms: now_ms, bytes: bytes as u64 });
    }

    /// A payload is due; its time runs already when it did.
    pub(super) fn due(&mut self, bytes: usize, now_ms: u64) {
        if self.0.is_none() {
            self.begin(bytes, now_ms);
        }
    }

    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// When its time is over.
    pub(super) fn end_ms(&self, config: &Config) -> Option<u64> {
        let UnderWay { since_ms, bytes } = self.0.as_ref()?;
        Some(since_ms + payload_ms(*bytes, config.payload_grace_ms, config.least_bytes_per_s))
    }

    /// For how long it has been on its way, if that is too long.
    pub(super) fn late_ms(&self, config: &Config, now_ms: u64) -> Option<u64> {
        let is_late = self.end_ms(config).is_some_and(|end_ms| now_ms >= end_ms);
        self.0.as_ref().filter(|_| is_late).map(|payload| now_ms - payload.since_ms)
    }

    /// This side stood still until now: the time begins anew.
    pub(super) fn forgive(&mut self, now_ms: u64) {
        if let Some(payload) = &mut self.0 {
            payload.since_ms = now_ms;
        }
    }
}
