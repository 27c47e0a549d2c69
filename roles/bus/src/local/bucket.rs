//! A bucket in memory: the last change of every key, ordered by revision, so that a watch is "what comes after N".

use super::faults::{Faults, Link, STORE_PAUSE};
use super::lock::lock;
use crate::names::{check_filters, check_name};
use crate::{Bucket, BucketConfig, BusError, Entry, Expect, Watch, WatchEvent};
use async_trait::async_trait;
use bytes::Bytes;
use control::names::subject_matches;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Clone)]
pub(super) struct LocalBucket {
    config: BucketConfig,
    state: Arc<Mutex<State>>,
    last_revision: Arc<watch::Sender<u64>>,
    /// How often everything was lost.
    generation: Arc<watch::Sender<u64>>,
    faults: Arc<Faults>,
    link: Arc<Link>,
}

#[derive(Default)]
struct State {
    changes: BTreeMap<u64, Change>,
    revisions: HashMap<String, u64>,
    last_revision: u64,
}

/// The last change of a key; `None` is its deletion.
struct Change {
    key: String,
    value: Option<Bytes>,
    at: Instant,
}

impl State {
    /// Forgets what is too old. Revisions and times grow together, so the old ones are the first.
    fn expire(&mut self, config: &BucketConfig) {
        let Some(max_age) = config.max_age else { return };
        while let Some(oldest) = self.changes.first_entry()
            && oldest.get().at.elapsed() >= max_age
        {
            let change = oldest.remove();
            self.revisions.remove(&change.key);
        }
    }

    fn holds(&self, key: &str, expect: Expect) -> bool {
        let current = self.revisions.get(key);
        match expect {
            Expect::Any => true,
            Expect::Revision(revision) => current == Some(&revision),
            Expect::Absent => current.is_none_or(|revision| self.changes[revision].value.is_none()),
        }
    }

    fn write(&mut self, key: &str, value: Option<Bytes>) -> u64 {
        self.last_revision += 1;
        if let Some(replaced) = self.revisions.insert(key.to_owned(), self.last_revision) {
            self.changes.remove(&replaced);
        }
        self.changes.insert(self.last_revision, Change { key: key.to_owned(), value, at: Instant::now() });
        self.last_revision
    }
}

impl LocalBucket {
    pub(super) fn new(config: BucketConfig, faults: Arc<Faults>) -> Self {
        let (last_revision, generation) = (Arc::new(watch::channel(0).0), Arc::new(watch::channel(0).0));
        Self { config, state: Arc::default(), last_revision, generation, faults, link: Arc::default() }
    }

    /// The same bucket over a member's own connection.
    pub(super) fn for_member(&self, link: Arc<Link>) -> Self {
        Self { link, ..self.clone() }
    }

    /// Forgets everything. Revisions go on growing.
    pub(super) fn lose(&self) {
        let revision = {
            let mut state = lock(&self.state);
            state.last_revision += 1;
            (state.changes, state.revisions) = Default::default();
            state.last_revision
        };
        self.generation.send_modify(|generation| *generation += 1);
        self.last_revision.send_replace(revision);
    }

    fn check(&self, key: &str) -> Result<(), BusError> {
        check_name(key)?;
        self.link.check(key)?;
        self.faults.check_store(key)
    }

    pub(super) fn check_settings(&self, wanted: &BucketConfig) -> Result<(), BusError> {
        if self.config.max_age == wanted.max_age {
            return Ok(());
        }
        Err(BusError::Mismatch {
            what: format!("bucket `{}`", wanted.name),
            found: format!("max_age {:?}", self.config.max_age),
            wanted: format!("max_age {:?}", wanted.max_age),
            remove: format!("kv del {}", wanted.name),
        })
    }
}

#[async_trait]
impl Bucket for LocalBucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        self.check(key)?;
        let mut state = lock(&self.state);
        state.expire(&self.config);
        let Some(&revision) = state.revisions.get(key) else { return Ok(None) };
        let value = state.changes[&revision].value.clone();
        Ok(value.map(|value| Entry { key: key.to_owned(), value, revision }))
    }

    async fn write(&self, key: &str, value: Option<Bytes>, expect: Expect) -> Result<u64, BusError> {
        self.check(key)?;
        let revision = {
            let mut state = lock(&self.state);
            state.expire(&self.config);
            if !state.holds(key, expect) {
                let bucket = self.config.name.clone();
                return Err(BusError::Conflict { bucket, key: key.to_owned() });
            }
            state.write(key, value)
        };
        self.last_revision.send_replace(revision);
        self.faults.answer(key, revision)
    }

    async fn watch_any(&self, filters: &[String]) -> Result<Watch, BusError> {
        check_filters(filters)?;
        let began_at = lock(&self.state).last_revision;
        let (changed, generation) = (self.last_revision.subscribe(), *self.generation.borrow());
        let (bucket, filters) = (self.clone(), filters.to_vec());
        let follower = Follower { bucket, filters, seen: 0, began_at, generation, is_ready: false, changed };
        Ok(Watch::new(futures::stream::unfold(follower, |mut follower| async {
            let event = follower.next().await?;
            Some((event, follower))
        })))
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

/// One watch: everything up to revision `seen` has been delivered or does not matter.
struct Follower {
    bucket: LocalBucket,
    filters: Vec<String>,
    seen: u64,
    /// Last revision when the watch began. Nobody need hear of what was deleted before.
    began_at: u64,
    /// Of the bucket, as last told.
    generation: u64,
    is_ready: bool,
    changed: watch::Receiver<u64>,
}

impl Follower {
    /// `None` when the bucket is gone, which it is not while this holds it.
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            // A member that is cut off hears of it later.
            while self.bucket.check("watch").is_err() {
                tokio::time::sleep(STORE_PAUSE).await;
            }
            self.changed.mark_unchanged();
            let generation = *self.bucket.generation.borrow();
            if std::mem::replace(&mut self.generation, generation) != generation {
                self.is_ready = false;
                return Some(WatchEvent::Renewed);
            }
            if let Some(event) = self.step() {
                return Some(event);
            }
            if !self.is_ready {
                self.is_ready = true;
                return Some(WatchEvent::Ready);
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// The next change that is there already.
    fn step(&mut self) -> Option<WatchEvent> {
        let mut state = lock(&self.bucket.state);
        state.expire(&self.bucket.config);
        for (&revision, change) in state.changes.range(self.seen + 1..) {
            self.seen = revision;
            if !self.filters.iter().any(|filter| subject_matches(filter, &change.key)) {
                continue;
            }
            let key = change.key.clone();
            match change.value.clone() {
                Some(value) => return Some(WatchEvent::Put(Entry { key, value, revision })),
                None if revision > self.began_at => return Some(WatchEvent::Delete { key, revision }),
                None => {}
            }
        }
        None
    }
}
