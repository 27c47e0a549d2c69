//! Messages of the bus that are delivered at most once, and how they get lost.

use super::member::{AskError, Input, ReplyTo};
use super::world::{Happening, Process, World};
use bytes::Bytes;
use std::time::Duration;

impl World {
    /// How long a message takes, if it comes. Messages from one to another come in order, except those that are late.
    fn travel(&mut self, from: usize, to: usize) -> Option<Duration> {
        self.messages += 1;
        if self.random.chance(self.weather.loss) {
            return None;
        }
        if self.random.chance(self.weather.late) {
            return Some(self.random.millis(0, 2000));
        }
        let at = self.now + Duration::from_micros(200) + self.random.millis(0, 3);
        let last = self.arrivals.entry((from, to)).or_default();
        *last = at.max(*last);
        Some(*last - self.now)
    }

    pub(super) fn publish(
        &mut self,
        from: usize,
        subject: &str,
        payload: &Bytes,
        reply_to: Option<ReplyTo>,
    ) -> usize {
        if !self.processes[from].connected {
            return 0;
        }
        let hears = |process: &Process| {
            let matches = |filter: &String| control::names::subject_matches(filter, subject);
            process.connected && process.member.is_some() && process.subscriptions.iter().any(matches)
        };
        let to: Vec<_> = (0..self.processes.len()).filter(|member| hears(&self.processes[*member])).collect();
        for &member in &to {
            let Some(after) = self.travel(from, member) else { continue };
            let (run, subject, payload) = (self.processes[member].run, subject.to_owned(), payload.clone());
            let input = Input::Message { subject, payload, reply_to };
            self.plan(after, Happening::Hear { member, run, input });
        }
        to.len()
    }

    pub(super) fn ask(&mut self, from: ReplyTo, subject: &str, payload: &Bytes, timeout: Duration) {
        let ReplyTo { member, run, id } = from;
        let refused = if !self.processes[member].connected {
            Some(AskError::NotConnected)
        } else if self.publish(member, subject, payload, Some(from)) == 0 {
            Some(AskError::NoResponders)
        } else {
            None
        };
        if let Some(error) = refused {
            let input = Input::Answer { id, result: Err(error) };
            return self.plan(Duration::from_millis(1), Happening::Hear { member, run, input });
        }
        self.asks.insert((member, run, id), ());
        self.plan(timeout, Happening::AskLimit { to: from });
    }

    pub(super) fn reply(&mut self, from: usize, to: ReplyTo, payload: Bytes) {
        if !self.processes[from].connected || !self.processes[to.member].connected {
            return;
        }
        let Some(after) = self.travel(from, to.member) else { return };
        if self.asks.remove(&(to.member, to.run, to.id)).is_some() {
            let input = Input::Answer { id: to.id, result: Ok(payload) };
            self.plan(after, Happening::Hear { member: to.member, run: to.run, input });
        }
    }
}
