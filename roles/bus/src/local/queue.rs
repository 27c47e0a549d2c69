//! A work queue in memory.

use super::faults::{Faults, Link};
use super::lock::lock;
use crate::names::{check_queue_subject, check_token};
use crate::{BusError, Delivery, Queue, QueueConfig, Settle, Settlement};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Clone)]
pub(super) struct LocalQueue {
    config: QueueConfig,
    state: Arc<Mutex<State>>,
    /// Wakes takers; counts changes.
    changed: Arc<watch::Sender<u64>>,
    /// How often everything was lost.
    generation: Arc<watch::Sender<u64>>,
    faults: Arc<Faults>,
    link: Arc<Link>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<u64, Job>,
    last_sequence: u64,
}

struct Job {
    subject: String,
    payload: Bytes,
    delivery_count: u64,
    /// From when it may be handed out: at once, after a nak's delay, or after the ack wait of a taker.
    available_at: Instant,
}

impl LocalQueue {
    pub(super) fn new(config: QueueConfig, faults: Arc<Faults>) -> Self {
        let (changed, generation) = (Arc::new(watch::channel(0).0), Arc::new(watch::channel(0).0));
        Self { config, state: Arc::default(), changed, generation, faults, link: Arc::default() }
    }

    /// The same queue over a member's own connection.
    pub(super) fn for_member(&self, link: Arc<Link>) -> Self {
        Self { link, ..self.clone() }
    }

    /// Forgets everything.
    pub(super) fn lose(&self) {
        lock(&self.state).jobs.clear();
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn check(&self, what: &str) -> Result<(), BusError> {
        self.link.check(what)?;
        self.faults.check_store(what)
    }

    pub(super) fn check_settings(&self, wanted: &QueueConfig) -> Result<(), BusError> {
        if self.config.ack_wait == wanted.ack_wait {
            return Ok(());
        }
        Err(BusError::Mismatch {
            what: format!("queue `{}`", wanted.name),
            found: format!("ack_wait {:?}", self.config.ack_wait),
            wanted: format!("ack_wait {:?}", wanted.ack_wait),
            remove: format!("stream rm {}", wanted.name),
        })
    }

    /// The oldest job that may be handed out now, else when the next one may.
    fn take(&self, prefix: &str) -> Result<Delivery, Option<Instant>> {
        let now = Instant::now();
        let mut next_at: Option<Instant> = None;
        for (&sequence, job) in &mut lock(&self.state).jobs {
            if !job.subject.starts_with(prefix) {
                continue;
            }
            if job.available_at > now {
                next_at = Some(next_at.map_or(job.available_at, |at| at.min(job.available_at)));
                continue;
            }
            job.available_at = now + self.config.ack_wait;
            job.delivery_count += 1;
            let delivery_count = job.delivery_count;
            let handle = Box::new(Handle { queue: self.clone(), sequence, delivery_count });
            let (subject, payload) = (job.subject.clone(), job.payload.clone());
            return Ok(Delivery { subject, payload, delivery_count, handle });
        }
        Err(next_at)
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl Queue for LocalQueue {
    async fn push(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_queue_subject(&self.config.name, subject)?;
        self.check(subject)?;
        {
            let mut state = lock(&self.state);
            if state.jobs.values().any(|job| job.subject == subject) {
                return Err(BusError::AlreadyQueued { subject: subject.to_owned() });
            }
            state.last_sequence += 1;
            let sequence = state.last_sequence;
            let (subject, available_at) = (subject.to_owned(), Instant::now());
            state.jobs.insert(sequence, Job { subject, payload, delivery_count: 0, available_at });
        }
        self.wake();
        self.faults.answer(subject, ())
    }

    async fn pull(&self, group: &str, max_wait: Duration) -> Result<Option<Delivery>, BusError> {
        check_token(group)?;
        self.check(group)?;
        let prefix = format!("{}.{group}.", self.config.name);
        let give_up_at = Instant::now() + max_wait;
        let mut changed = self.changed.subscribe();
        loop {
            let next_at = match self.take(&prefix) {
                Ok(delivery) => return Ok(Some(delivery)),
                Err(next_at) => next_at.map_or(give_up_at, |at| at.min(give_up_at)),
            };
            if Instant::now() >= give_up_at {
                return Ok(None);
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(next_at) => {}
            }
        }
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

/// One delivery of one job.
struct Handle {
    queue: LocalQueue,
    sequence: u64,
    delivery_count: u64,
}

#[async_trait]
impl Settle for Handle {
    async fn settle(&self, settlement: Settlement) -> Result<(), BusError> {
        let mut state = lock(&self.queue.state);
        let Some(job) = state.jobs.get_mut(&self.sequence) else { return Ok(()) };
        // Work that is done is done, even if it was handed out again; but only the present taker may say "wait".
        let mine = job.delivery_count == self.delivery_count;
        match settlement {
            Settlement::Ack => {
                let subject = job.subject.clone();
                state.jobs.remove(&self.sequence);
                drop(state);
                return self.queue.faults.answer(&subject, ());
            }
            Settlement::Progress if mine => job.available_at = Instant::now() + self.queue.config.ack_wait,
            Settlement::Nak(delay) if mine => job.available_at = Instant::now() + delay,
            Settlement::Progress | Settlement::Nak(_) => {}
        }
        drop(state);
        self.queue.wake();
        Ok(())
    }
}
