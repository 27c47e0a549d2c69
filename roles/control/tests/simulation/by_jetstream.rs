//! What members ask of the durable half of the bus, and what becomes of it.

use super::jetstream::{Waiting, Watcher};
use super::kept::{CLUSTER, INFO};
use super::member::{Input, Output, PushError, WriteError};
use super::world::{Happening, Planned, World};
use std::cmp::Reverse;
use std::time::Duration;

/// How long a member waits for the answer to a durable write.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn act_on_jetstream(&mut self, member: usize, run: u64, output: Output) {
        let is_served = self.has_leader && self.processes[member].connected;
        self.jetstream.asked += 1;
        match output {
            Output::KvWatch { bucket, filters } => {
                let life = self.jetstream.bucket(bucket).life;
                self.jetstream.bucket(bucket).watchers.push(Watcher { member, run, filters, life });
                if is_served {
                    self.replay(bucket, member, run);
                }
            }
            Output::KvGet { id, bucket, key } => {
                let is_stale = self.random.chance(self.weather.stale);
                let result =
                    if is_served { Ok(self.jetstream.bucket(bucket).get(&key, is_stale)) } else { Err(()) };
                if let (CLUSTER, INFO, Ok(Some((value, _)))) = (bucket, key.as_str(), &result) {
                    self.note_settings_read((member, run), value);
                }
                self.answer(member, run, is_served, Input::KvGot { id, result });
            }
            Output::KvWrite { .. } => self.write_key(member, run, is_served, output),
            Output::Push { id, subject, payload } => {
                let result = if is_served {
                    let pushed = self.jetstream.queue.push(&subject, payload, self.now);
                    if self.random.chance(self.weather.lost_answers) {
                        Err(PushError::Unknown)
                    } else {
                        pushed
                    }
                } else {
                    Err(PushError::Unavailable)
                };
                self.answer(member, run, is_served, Input::Pushed { id, result });
                self.look_at_queue();
            }
            Output::Pull { id, prefix, wait } => {
                let until = self.now + wait;
                self.jetstream.queue.waiting.push(Waiting { member, run, id, prefix, until });
                self.plan(wait, Happening::QueueLook);
                self.look_at_queue();
            }
            // A word that does not arrive is a word that was not said.
            Output::Ack { sequence } if is_served => self.jetstream.queue.ack(sequence),
            Output::Progress { sequence, delivery } if is_served => {
                self.jetstream.queue.put_off(sequence, delivery, self.now + super::jetstream::ACK_WAIT);
            }
            Output::Nak { sequence, delivery, delay } if is_served => {
                self.jetstream.queue.put_off(sequence, delivery, self.now + delay);
                self.plan(delay, Happening::QueueLook);
            }
            _ => {}
        }
    }

    /// An answer in a moment, or when the member has waited long enough.
    fn answer(&mut self, member: usize, run: u64, is_served: bool, input: Input) {
        let after = if is_served { self.random.millis(1, 20) } else { WRITE_LIMIT };
        self.plan(after, Happening::Hear { member, run, input });
    }

    fn write_key(&mut self, member: usize, run: u64, is_served: bool, output: Output) {
        let Output::KvWrite { id, bucket, key, value, expect } = output else { return };
        let mut result = if is_served {
            self.jetstream.bucket(bucket).write(&key, value.clone(), expect)
        } else if self.random.chance(0.5) {
            Err(WriteError::Unavailable)
        } else {
            Err(WriteError::Unknown)
        };
        if let Ok(revision) = result {
            if let (CLUSTER, INFO, Some(value)) = (bucket, key.as_str(), &value) {
                self.note_settings_written((member, run), value);
            }
            self.tell_watchers(bucket, &key, value.as_ref(), revision);
            if self.random.chance(self.weather.lost_answers) {
                result = Err(WriteError::Unknown);
            }
        }
        let is_prompt = !matches!(result, Err(WriteError::Unknown | WriteError::Unavailable));
        self.answer(member, run, is_prompt, Input::KvWritten { id, result });
    }

    fn tell_watchers(
        &mut self,
        bucket: &'static str,
        key: &str,
        value: Option<&bytes::Bytes>,
        revision: u64,
    ) {
        let hears = |watcher: &&Watcher| self.processes[watcher.member].connected && watcher.hears_of(key);
        let watchers = self.jetstream.bucket(bucket).watchers.iter().filter(hears);
        for (member, run) in watchers.map(|it| (it.member, it.run)).collect::<Vec<_>>() {
            self.jetstream.told += 1;
            // In the order of the revisions, since all take the same time.
            let input = Input::Kv { bucket, key: key.to_owned(), value: value.cloned(), revision };
            self.plan(Duration::from_millis(3), Happening::Hear { member, run, input });
        }
    }

    /// Everything that is there, after a word that the bucket is another where it is.
    fn replay(&mut self, bucket: &'static str, member: usize, run: u64) {
        let (at, state) = (Duration::from_millis(3), self.jetstream.bucket(bucket));
        let (life, mut entries) = (state.life, state.entries());
        let mut inputs = Vec::new();
        for watcher in state.watchers.iter_mut().filter(|it| (it.member, it.run) == (member, run)) {
            if std::mem::replace(&mut watcher.life, life) != life {
                inputs.push(Input::KvRenewed { bucket });
            }
            entries.retain(|(key, ..)| watcher.hears_of(key));
        }
        self.jetstream.told += entries.len() as u64;
        inputs.extend(entries.into_iter().map(|(key, value, revision)| Input::Kv {
            bucket,
            key,
            value,
            revision,
        }));
        inputs.push(Input::KvReady { bucket });
        for input in inputs {
            self.plan(at, Happening::Hear { member, run, input });
        }
    }

    /// A member is back on the bus, or the bus has its durable half back: it hears what it missed.
    pub(super) fn rewatch(&mut self, member: usize, run: u64) {
        if !self.has_leader || !self.processes[member].connected {
            return;
        }
        let watched = |(bucket, state): (&&'static str, &super::jetstream::Bucket)| {
            state.watchers.iter().any(|it| (it.member, it.run) == (member, run)).then_some(*bucket)
        };
        let watched: Vec<_> = self.jetstream.buckets.iter().filter_map(watched).collect();
        for bucket in watched {
            self.replay(bucket, member, run);
        }
        let life = self.jetstream.life;
        if std::mem::replace(&mut self.processes[member].queue_life, life) != life {
            self.plan(Duration::from_millis(3), Happening::Hear { member, run, input: Input::QueueAnew });
        }
        self.look_at_queue();
    }

    /// JetStream has a leader again: everybody hears what was missed.
    pub(super) fn lead(&mut self, has_leader: bool) {
        self.has_leader = has_leader;
        if has_leader {
            self.rewatch_all();
        }
    }

    /// The store is lost; in a moment everybody is told.
    pub(super) fn empty_store(&mut self) {
        self.jetstream.empty();
        self.ledger.store_was_emptied();
        for bucket in self.jetstream.buckets.values_mut() {
            bucket.watchers.retain(|it| self.processes[it.member].run == it.run);
        }
        self.plan(Duration::from_millis(500), Happening::StoreAnew);
    }

    /// Everybody hears what there is.
    pub(super) fn rewatch_all(&mut self) {
        for member in 0..self.processes.len() {
            let run = self.processes[member].run;
            self.rewatch(member, run);
        }
    }

    pub(super) fn look_at_queue(&mut self) {
        if !self.has_leader {
            return;
        }
        let (now, mut waiting) = (self.now, std::mem::take(&mut self.jetstream.queue.waiting));
        waiting.retain(|waiter: &Waiting| {
            let process = &self.processes[waiter.member];
            if process.run != waiter.run || process.member.is_none() {
                return false;
            }
            let job = if process.connected { self.jetstream.queue.take(&waiter.prefix, now) } else { None };
            if job.is_none() && waiter.until > now {
                return true;
            }
            self.order += 1;
            let input = Input::Pulled { id: waiter.id, job };
            let what = Happening::Hear { member: waiter.member, run: waiter.run, input };
            self.queue.push(Reverse(Planned { at: now + Duration::from_millis(2), order: self.order, what }));
            false
        });
        self.jetstream.queue.waiting.append(&mut waiting);
        let next = self.jetstream.queue.waiting.iter().map(|waiter| waiter.until).min();
        let next = next.into_iter().chain(self.jetstream.queue.next_at(now)).min();
        if let Some(at) = next.filter(|_| !self.jetstream.queue.waiting.is_empty()) {
            self.plan(at.saturating_sub(now).max(Duration::from_millis(10)), Happening::QueueLook);
        }
    }
}
