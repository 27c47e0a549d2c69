//! What the whole cluster agrees on ([`ClusterInfo`]): written by whichever controller is first, kept up by all.
//!
//! ```text
//!   look ─▶ read ─┬─ nothing ─▶ ask who knows them, listen ─▶ write if there is nothing ─┐
//!                 ├─ another chain, another setup ─▶ refused                             ├─ done ─▶ agreed
//!                 ├─ lacks what we know ─▶ write on that revision ───────────────────────┘─ conflict, unknown ─▶ look again
//!                 └─ as it should be ─▶ agreed
//! ```
//! Owns: what the settings say. Never: writes over settings that it has not read (so of controllers of two chains that come to an
//! empty cluster exactly one writes), or a shorter history than any seen here, also after the store was emptied.
//!
//! History grows only as [`Event::Placed`] says. Where there are no settings it begins with the longest one that anybody knows who was of
//! the cluster before: this controller (which remembers on its disk), or members that tell. Only where nobody does, for a while, is the
//! cluster a new one, and begins with what the node has: what is older than the cluster comes to its caches by other ways than this
//! controller. Where the node has one segment nothing is waited for, since no cluster can have another history than that.
//! The network's rules are taken from the node once, at this controller's start, so that nodes that differ do not write against each other.

mod recall;

use std::time::Duration;

use recall::Recall;
pub use recall::{ASK_EVERY, KNOWN_PATIENCE, NEW_PATIENCE};

use crate::messages::ClusterInfo;
use crate::store::{Expect, Found, Wrote};

/// How often the settings are looked at, in case the store was emptied or another controller knows more.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// An answer that has not come for this long never comes.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Pause after a conflict: whoever was faster is done by then.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The settings were read.
    Read(Found<ClusterInfo>),
    /// They could not be read.
    NotRead,
    /// What came of the write.
    Wrote(Wrote),
    /// So many segments, from the first on, are placed.
    Placed(u64),
    /// A member tells what the settings were that are not there.
    Told(ClusterInfo),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the settings.
    Read,
    /// Write them if that holds.
    Write {
        /// The settings.
        info: ClusterInfo,
        /// What must hold.
        expect: Expect,
    },
    /// This is what the cluster has agreed on; comes whenever it has changed.
    Agreed(ClusterInfo),
    /// There are no settings: ask everybody who knows what they were.
    Ask,
    /// Nobody here knows what they were: others are listened to for [`NEW_PATIENCE`] before the cluster begins anew. Comes once.
    Listening,
    /// The store may have been emptied: all who keep something there must look whether it is there still.
    Emptied,
    /// Settings that cannot be read, of another release or garbage: nothing is written over them. Comes once a revision.
    Unreadable,
    /// This controller does not belong to the cluster and must end.
    Refused(Refusal),
}

/// Why a controller does not belong to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The cluster follows the chain with this genesis hash.
    OtherChain([u8; 32]),
    /// The cluster uses the KZG setup with this SHA-256.
    OtherSetup([u8; 32]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Read(Duration),
    Write(Duration),
}

/// One controller's part in the settings. Times are since its start.
#[derive(Debug)]
pub struct Settings {
    /// What the own node says.
    own: ClusterInfo,
    /// What a new cluster begins with.
    first_history: u64,
    /// The longest history that the cluster has had, or may be told of; none while nothing is known of it.
    known_history: Option<u64>,
    /// What is heard while there are no settings.
    recall: Option<Recall>,
    /// The settings last agreed on and their revision.
    agreed: Option<(ClusterInfo, u64)>,
    /// Whether there was ever an agreement in this life.
    is_settled: bool,
    unreadable: Option<u64>,
    asked: Asked,
    look_at: Duration,
    now: Duration,
}

impl Settings {
    /// A controller whose node says `own`. It holds segments that are not placed from `first_unplaced` on, and remembers what was agreed
    /// on in an earlier life.
    pub fn new(own: ClusterInfo, first_unplaced: Option<u64>, remembered: Option<&ClusterInfo>) -> Self {
        let node = own.protocol_info.history_size;
        let first_history = first_unplaced.map_or(node, |first| node.min(first)).max(1);
        let remembered = remembered.filter(|info| is_same_cluster(&own, info));
        Self {
            known_history: remembered.map(|info| info.protocol_info.history_size),
            own,
            first_history,
            recall: None,
            agreed: None,
            is_settled: false,
            unreadable: None,
            asked: Asked::Nothing,
            look_at: Duration::ZERO,
            now: Duration::ZERO,
        }
    }

    /// What the own node says.
    pub fn own(&self) -> &ClusterInfo {
        &self.own
    }

    /// What was agreed on last.
    pub fn agreed(&self) -> Option<&ClusterInfo> {
        self.agreed.as_ref().map(|(info, _)| info)
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        Some(match self.asked {
            Asked::Nothing => self.look_at,
            Asked::Read(since) | Asked::Write(since) => since + ANSWER_LIMIT,
        })
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Tick => self.tick(),
            Event::Placed(segments) => {
                // Before the first agreement nothing is known of what the cluster has.
                if self.is_settled && Some(segments) > self.known_history {
                    (self.known_history, self.look_at) = (Some(segments), now);
                }
                self.tick()
            }
            Event::Told(info) => {
                if let Some(recall) = self.recall.as_mut().filter(|_| is_same_cluster(&self.own, &info)) {
                    recall.hear(info.protocol_info.history_size, now);
                }
                self.tick()
            }
            Event::Read(found) if matches!(self.asked, Asked::Read(_)) => self.read(found),
            Event::NotRead if matches!(self.asked, Asked::Read(_)) => {
                if let Some(recall) = &mut self.recall {
                    recall.was_deaf(now);
                }
                self.rest(LOOK_EVERY)
            }
            Event::Wrote(wrote) if matches!(self.asked, Asked::Write(_)) => match wrote {
                // Read once more rather than believed: only what is read tells what the cluster has.
                Wrote::Done(_) => {
                    self.rest(Duration::ZERO);
                    self.tick()
                }
                Wrote::Conflict => self.rest(CONFLICT_PAUSE),
                Wrote::Unknown => self.rest(LOOK_EVERY),
            },
            Event::Read(_) | Event::NotRead | Event::Wrote(_) => Vec::new(),
        }
    }

    fn tick(&mut self) -> Vec<Action> {
        match self.asked {
            Asked::Read(since) | Asked::Write(since) if self.now < since + ANSWER_LIMIT => return Vec::new(),
            Asked::Nothing if self.now < self.look_at => return Vec::new(),
            _ => {}
        }
        self.asked = Asked::Read(self.now);
        vec![Action::Read]
    }

    fn rest(&mut self, pause: Duration) -> Vec<Action> {
        self.asked = Asked::Nothing;
        self.look_at = self.now + pause;
        Vec::new()
    }

    fn read(&mut self, found: Found<ClusterInfo>) -> Vec<Action> {
        match found {
            Found::Nothing => self.found_nothing(),
            Found::Unreadable(revision) => {
                self.rest(LOOK_EVERY);
                let is_new = self.unreadable.replace(revision) != Some(revision);
                is_new.then_some(Action::Unreadable).into_iter().collect()
            }
            Found::Value(info, revision) => self.compare(info, revision),
        }
    }

    /// Asks who knows more, then begins with the longest history that is known.
    fn found_nothing(&mut self) -> Vec<Action> {
        self.agreed = None;
        let mut actions = Vec::new();
        let now = self.now;
        let recall = match &mut self.recall {
            Some(recall) => recall,
            none => {
                let patience = match self.known_history {
                    Some(_) => KNOWN_PATIENCE,
                    None if self.own.protocol_info.history_size > 1 => NEW_PATIENCE,
                    None => Duration::ZERO,
                };
                actions.extend(self.known_history.map(|_| Action::Emptied));
                actions.extend((patience == NEW_PATIENCE).then_some(Action::Listening));
                none.insert(Recall::new(patience, now))
            }
        };
        if let Some(next) = recall.next(now) {
            actions.push(Action::Ask);
            self.rest(next - now);
            return actions;
        }
        let known = self.known_history.max(recall.history_size());
        let mut info = self.own.clone();
        info.protocol_info.history_size = known.unwrap_or(self.first_history);
        actions.push(self.write(info, Expect::Absent));
        actions
    }

    fn compare(&mut self, info: ClusterInfo, revision: u64) -> Vec<Action> {
        if info.genesis_hash != self.own.genesis_hash {
            self.rest(LOOK_EVERY);
            return vec![Action::Refused(Refusal::OtherChain(info.genesis_hash))];
        }
        if info.kzg_setup_sha256 != self.own.kzg_setup_sha256 {
            self.rest(LOOK_EVERY);
            return vec![Action::Refused(Refusal::OtherSetup(info.kzg_setup_sha256))];
        }
        let history_size = self.known_history.unwrap_or(0).max(info.protocol_info.history_size);
        (self.known_history, self.recall) = (Some(history_size), None);
        let (mut wanted, mut actions) = (info.clone(), Vec::new());
        if !self.is_settled {
            // The node's rules; its history counts only where the cluster has none.
            wanted = self.own.clone();
        }
        // Revisions only grow, and each has one value, unless the store began anew (or a stale copy answers, which does no harm).
        let is_older = |(agreed, at): &(_, u64)| revision < *at || (revision == *at && info != *agreed);
        if self.agreed.as_ref().is_some_and(is_older) {
            actions.push(Action::Emptied);
        }
        wanted.protocol_info.history_size = history_size;
        if wanted != info {
            actions.push(self.write(wanted, Expect::Revision(revision)));
            return actions;
        }
        self.rest(LOOK_EVERY);
        let is_news = self.agreed() != Some(&info);
        self.is_settled = true;
        self.agreed = Some((info.clone(), revision));
        actions.extend(is_news.then_some(Action::Agreed(info)));
        actions
    }

    fn write(&mut self, info: ClusterInfo, expect: Expect) -> Action {
        self.asked = Asked::Write(self.now);
        Action::Write { info, expect }
    }
}

/// Whether both may be of one cluster.
fn is_same_cluster(one: &ClusterInfo, other: &ClusterInfo) -> bool {
    one.genesis_hash == other.genesis_hash && one.kzg_setup_sha256 == other.kzg_setup_sha256
}

#[cfg(test)]
mod tests;
