//! The durable half of the bus: buckets and the work queue, with everything that goes wrong there. State alone: when an answer
//! comes, and whether, the world decides.

use super::member::{Expect, Job, PushError, WriteError};
use bytes::Bytes;
use control::names::subject_matches;
use std::collections::BTreeMap;
use std::time::Duration;

/// A server that says nothing of a job for this long has lost it.
pub const ACK_WAIT: Duration = Duration::from_secs(30);

/// A key's last change, and the value before it, which a stale follower still gives out.
#[derive(Debug, Clone)]
struct Value {
    now: Option<Bytes>,
    revision: u64,
    before: Option<(Bytes, u64)>,
}

/// A bucket.
#[derive(Debug, Default)]
pub struct Bucket {
    keys: BTreeMap<String, Value>,
    revision: u64,
    /// Members that watch it, each with its run and the bucket that it knows.
    pub watchers: Vec<Watcher>,
    /// Which of its lives this is.
    pub life: u64,
}

/// Somebody who watches a bucket.
#[derive(Debug, Clone)]
pub struct Watcher {
    pub member: usize,
    pub run: u64,
    /// Of the keys that it hears of.
    pub filters: Vec<String>,
    /// The life of the bucket that it has heard of.
    pub life: u64,
}

impl Watcher {
    /// Whether it hears of `key`.
    pub fn hears_of(&self, key: &str) -> bool {
        self.filters.iter().any(|filter| subject_matches(filter, key))
    }
}

impl Bucket {
    /// Writes if `expect` holds.
    pub fn write(&mut self, key: &str, value: Option<Bytes>, expect: Expect) -> Result<u64, WriteError> {
        let old = self.keys.get(key);
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => old.is_none_or(|old| old.now.is_none()),
            Expect::Revision(revision) => old.is_some_and(|old| old.revision == revision),
        };
        if !holds {
            return Err(WriteError::Conflict);
        }
        let before = old.and_then(|old| Some((old.now.clone()?, old.revision)));
        self.revision += 1;
        self.keys.insert(key.to_owned(), Value { now: value, revision: self.revision, before });
        Ok(self.revision)
    }

    /// The value, or the one before.
    pub fn get(&self, key: &str, is_stale: bool) -> Option<(Bytes, u64)> {
        let value = self.keys.get(key)?;
        if is_stale && let Some(before) = &value.before {
            return Some(before.clone());
        }
        Some((value.now.clone()?, value.revision))
    }

    /// All keys that are there, or were.
    pub fn entries(&self) -> Vec<(String, Option<Bytes>, u64)> {
        self.keys.iter().map(|(key, value)| (key.clone(), value.now.clone(), value.revision)).collect()
    }
}

#[derive(Debug)]
struct Queued {
    subject: String,
    payload: Bytes,
    delivery: u64,
    available_at: Duration,
}

/// Somebody who waits for a job.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub member: usize,
    pub run: u64,
    pub id: u64,
    pub prefix: String,
    pub until: Duration,
}

/// The work queue.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: BTreeMap<u64, Queued>,
    sequence: u64,
    pub waiting: Vec<Waiting>,
}

impl Queue {
    pub fn push(&mut self, subject: &str, payload: Bytes, now: Duration) -> Result<(), PushError> {
        if self.jobs.values().any(|job| job.subject == subject) {
            return Err(PushError::AlreadyQueued);
        }
        self.sequence += 1;
        let job = Queued { subject: subject.to_owned(), payload, delivery: 0, available_at: now };
        self.jobs.insert(self.sequence, job);
        Ok(())
    }

    /// The oldest job that may be handed out.
    pub fn take(&mut self, prefix: &str, now: Duration) -> Option<Job> {
        let fits = |job: &Queued| job.available_at <= now && job.subject.starts_with(prefix);
        let (&sequence, job) = self.jobs.iter_mut().find(|(_, job)| fits(job))?;
        job.delivery += 1;
        job.available_at = now + ACK_WAIT;
        let (subject, payload) = (job.subject.clone(), job.payload.clone());
        Some(Job { sequence, delivery: job.delivery, subject, payload })
    }

    pub fn ack(&mut self, sequence: u64) {
        self.jobs.remove(&sequence);
    }

    /// Puts off when a delivery comes again; words of an older delivery count for nothing.
    pub fn put_off(&mut self, sequence: u64, delivery: u64, until: Duration) {
        if let Some(job) = self.jobs.get_mut(&sequence)
            && job.delivery == delivery
        {
            job.available_at = until;
        }
    }

    /// When somebody should look again.
    pub fn next_at(&self, now: Duration) -> Option<Duration> {
        self.jobs.values().map(|job| job.available_at).filter(|at| *at > now).min()
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}

/// Buckets and queue of one store.
#[derive(Debug, Default)]
pub struct JetStream {
    pub buckets: BTreeMap<&'static str, Bucket>,
    pub queue: Queue,
    /// Questions and words to it so far.
    pub asked: u64,
    /// Words to those who watch, so far.
    pub told: u64,
    /// How often it was emptied.
    pub life: u64,
}

impl JetStream {
    pub fn bucket(&mut self, name: &'static str) -> &mut Bucket {
        self.buckets.entry(name).or_default()
    }

    /// Loses everything; who watches goes on watching.
    pub fn empty(&mut self) {
        for bucket in self.buckets.values_mut() {
            let (watchers, life) = (std::mem::take(&mut bucket.watchers), bucket.life + 1);
            *bucket = Bucket { watchers, life, ..Bucket::default() };
        }
        self.life += 1;
        self.queue = Queue { waiting: std::mem::take(&mut self.queue.waiting), ..Queue::default() };
    }
}
