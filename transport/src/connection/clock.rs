//! What the passing of time does to a connection: deadlines, silence, slowness, keepalives.

use super::types::{CloseReason, Event, PeerRequestId, RequestError};
use super::{Connection, PayloadOf, Stage};
use crate::limits::STOOD_STILL_MS;
use crate::message::{Refusal, RefusalCode};
use crate::payload::PayloadBuf;

impl<B: PayloadBuf> Connection<B> {
    /// When [`Connection::tick`] wants to be called, if nothing else happens first.
    pub fn next_tick_ms(&self) -> Option<u64> {
        let silence = match self.stage {
            Stage::Opening => self.opened_ms + self.config.hello_timeout_ms,
            Stage::Open if self.receiver.is_waiting() => u64::MAX,
            Stage::Open => self.last_received_ms + self.config.idle_timeout_ms,
            Stage::Closed => return None,
        };
        let keepalive = self.last_sent_ms + self.config.keepalive_ms;
        let keepalive = if self.stage == Stage::Open && !self.ping_due { keepalive } else { u64::MAX };
        let paces = [&self.receiving, &self.sending].into_iter().filter_map(|pace| pace.end_ms(&self.config));
        let memory = self.memory_wanted_ms.filter(|_| self.unprovided_request().is_some());
        let memory = memory.map(|since_ms| since_ms + self.config.memory_wait_ms);
        let due = paces.chain(memory).chain(self.requests.next_deadline_ms());
        due.chain([silence, keepalive]).min()
    }

    /// Lets time pass: deadlines, silence, slowness, keepalives.
    pub fn tick(&mut self, now_ms: u64) {
        self.forgive_standstill(now_ms);
        self.ping_due |= self.stage == Stage::Open && now_ms >= self.last_sent_ms + self.config.keepalive_ms;
        match self.stage {
            Stage::Opening if now_ms >= self.opened_ms + self.config.hello_timeout_ms => {
                self.close_for(CloseReason::NoHello);
            }
            // While this side makes the peer wait for memory, its silence says nothing.
            Stage::Open if self.receiver.is_waiting() => self.last_received_ms = now_ms,
            Stage::Open if now_ms >= self.last_received_ms + self.config.idle_timeout_ms => {
                self.close_for(CloseReason::Silent(now_ms - self.last_received_ms));
            }
            _ => {}
        }
        self.judge_pace(now_ms);
        if let Some(id) = self.unprovided_request()
            && self.memory_wanted_ms.is_some_and(|since_ms| now_ms >= since_ms + self.config.memory_wait_ms)
        {
            self.withdraw(id, &Refusal::new(RefusalCode::Busy, "no memory is left for it: ask again later"));
        }
        for id in self.requests.overdue_made(now_ms) {
            self.cancel(id);
            self.events.push_back(Event::Failed { id, error: RequestError::DeadlinePassed });
        }
        for id in self.requests.overdue_asked(now_ms) {
            let refusal = Refusal::new(RefusalCode::DeadlinePassed, "the deadline of the request has passed");
            self.withdraw(id, &refusal);
        }
    }

    /// A tick that is long overdue says that this side stood still: the peer is not blamed for that time.
    fn forgive_standstill(&mut self, now_ms: u64) {
        let late_ms = self.next_tick_ms().map_or(0, |due_ms| now_ms.saturating_sub(due_ms));
        if late_ms >= STOOD_STILL_MS {
            self.receiving.forgive(now_ms);
            self.sending.forgive(now_ms);
            self.last_received_ms = now_ms;
        }
    }

    fn judge_pace(&mut self, now_ms: u64) {
        if let Some(ms) = self.receiving.late_ms(&self.config, now_ms) {
            self.close_for(CloseReason::SendsSlowly(ms));
        } else if let Some(ms) = self.sending.late_ms(&self.config, now_ms) {
            self.close_for(CloseReason::ReadsSlowly(ms));
        } else if !self.receiver.is_waiting() && self.requests.is_cancel_ignored(now_ms) {
            self.close_for(CloseReason::CancelIgnored);
        }
    }

    /// The request whose payload waits for memory.
    fn unprovided_request(&self) -> Option<PeerRequestId> {
        match self.arriving.as_ref()?.wanted.of {
            PayloadOf::Request(id) if self.receiver.is_waiting() => Some(id),
            _ => None,
        }
    }
}
