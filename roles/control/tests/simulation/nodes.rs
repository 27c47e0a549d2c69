//! Nodes of one chain, as farmers see them: slots, solutions, hashes to be signed, segments; with restarts, forks, bursts and silence.

use super::member::{NodeAnswer, NodeInput, SolutionName};
use consensus::solution::Solution;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Slots that a node remembers to have announced.
const ANNOUNCED: usize = 4;
/// Solutions a node queues for a slot.
const QUEUE: usize = 9;
/// How long a node waits for a signature.
pub const SIGNING_LIMIT: Duration = Duration::from_millis(500);
/// How long a node holds the pieces of its newest segment for those who have not acknowledged.
const HELD_FOR: Duration = Duration::from_secs(120);
/// Slots after which solutions are looked at.
const DELAY_SLOTS: u64 = 4;

/// What a slot asks of farms, on a branch of the chain.
pub fn challenge(slot: u64, branch: u64) -> [u8; 32] {
    *blake3::hash(&[slot.to_le_bytes(), branch.to_le_bytes()].concat()).as_bytes()
}

/// A solution that a node took.
#[derive(Debug, Clone)]
struct Taken {
    slot: u64,
    public_key: [u8; 32],
    identity: SolutionName,
}

/// A controller's connection, with all subscriptions.
#[derive(Debug)]
pub struct Connection {
    pub run: u64,
    pub number: u64,
    /// What was announced over it, the newest last.
    pub announced: Vec<(u64, [u8; 32])>,
    /// When its last word arrives: none overtakes another.
    pub said_at: Duration,
}

/// A node.
#[derive(Debug, Default)]
pub struct Node {
    pub up: bool,
    /// Announces nothing while this lasts, and all of it afterwards.
    pub silent: bool,
    /// Which branch of the chain it follows.
    pub branch: u64,
    /// Connections of controllers, by member.
    pub connections: BTreeMap<usize, Connection>,
    last_connection: u64,
    announced: VecDeque<(u64, [u8; 32])>,
    unannounced: Vec<u64>,
    taken: Vec<Taken>,
    /// Hash that it waits for now, whose, and until when.
    pub signing: Option<([u8; 32], [u8; 32], Duration)>,
    to_sign: VecDeque<([u8; 32], [u8; 32])>,
    /// Segments of its history.
    pub segments: u64,
    held: Option<Held>,
    pub signed: u64,
    pub unsigned: u64,
}

#[derive(Debug)]
struct Held {
    segment: u64,
    until: Duration,
    owed_by: BTreeSet<usize>,
}

impl Node {
    pub fn new(segments: u64) -> Self {
        Self { up: true, segments, ..Self::default() }
    }

    /// A controller connects and subscribes.
    pub fn connect(&mut self, member: usize, run: u64) -> Option<NodeInput> {
        if !self.up {
            return None;
        }
        self.last_connection += 1;
        let connection =
            Connection { run, number: self.last_connection, announced: Vec::new(), said_at: Duration::ZERO };
        self.connections.insert(member, connection);
        Some(NodeInput::Began { connection: self.last_connection })
    }

    pub fn disconnect(&mut self, member: usize) {
        self.connections.remove(&member);
        if let Some(held) = &mut self.held {
            held.owed_by.remove(&member);
        }
    }

    /// It is stopped, or killed: whatever it had in memory is gone.
    pub fn stop(&mut self) -> Vec<usize> {
        self.up = false;
        self.announced.clear();
        self.unannounced.clear();
        self.taken.clear();
        self.to_sign.clear();
        (self.signing, self.held) = (None, None);
        std::mem::take(&mut self.connections).into_keys().collect()
    }

    /// A slot begins; what it says to all its connections.
    pub fn slot(&mut self, slot: u64) -> Vec<NodeInput> {
        if !self.up {
            return Vec::new();
        }
        self.look_at_solutions(slot);
        self.unannounced.push(slot);
        if self.silent {
            return Vec::new();
        }
        let slots = std::mem::take(&mut self.unannounced);
        slots.into_iter().map(|slot| self.announce(slot)).collect()
    }

    /// Announces a slot (again).
    pub fn announce(&mut self, slot: u64) -> NodeInput {
        let challenge = challenge(slot, self.branch);
        self.announced.retain(|(known, _)| *known != slot);
        self.announced.push_back((slot, challenge));
        if self.announced.len() > ANNOUNCED {
            self.announced.pop_front();
        }
        NodeInput::Slot { slot, challenge }
    }

    /// Each solution of the slot that is due leads to a vote's hash, some to a block's as well.
    fn look_at_solutions(&mut self, now: u64) {
        let (due, rest) = self.taken.drain(..).partition(|taken: &Taken| taken.slot + DELAY_SLOTS <= now);
        self.taken = rest;
        for Taken { slot, public_key, identity } in due {
            let hash =
                |kind: u8| *blake3::hash(&[&identity[..], &slot.to_le_bytes(), &[kind]].concat()).as_bytes();
            self.to_sign.push_back((hash(0), public_key));
            if identity[0] % 3 == 0 {
                self.to_sign.push_back((hash(1), public_key));
            }
        }
    }

    /// The next hash to be signed, if none is waited for (any longer).
    pub fn next_to_sign(&mut self, now: Duration) -> Option<NodeInput> {
        if self.signing.is_some_and(|(_, _, until)| now >= until) {
            self.unsigned += 1;
            self.signing = None;
        }
        if self.signing.is_some() || !self.up {
            return None;
        }
        let (hash, public_key) = self.to_sign.pop_front()?;
        self.signing = Some((hash, public_key, now + SIGNING_LIMIT));
        Some(NodeInput::Sign { hash, public_key })
    }

    /// A signature comes in.
    pub fn sign(&mut self, hash: [u8; 32]) {
        if self.signing.is_some_and(|(wanted, _, _)| wanted == hash) {
            self.signed += 1;
            self.signing = None;
        }
    }

    /// A solution comes in: the answer, and whether it was queued.
    pub fn submit(&mut self, slot: u64, identity: SolutionName, solution: &Solution) -> NodeAnswer {
        let is_announced = self.announced.iter().any(|(known, _)| *known == slot);
        let queued = self.taken.iter().filter(|taken| taken.slot == slot).count();
        if !is_announced || queued >= QUEUE {
            return NodeAnswer::Ignored;
        }
        self.taken.push(Taken { slot, public_key: solution.public_key, identity });
        NodeAnswer::Done
    }

    /// A segment is archived; what it says to its connections.
    pub fn archive(&mut self, now: Duration) -> Option<NodeInput> {
        let segment = self.segments;
        self.segments += 1;
        if !self.up {
            return None;
        }
        let owed_by = self.connections.keys().copied().collect();
        self.held = Some(Held { segment, until: now + HELD_FOR, owed_by });
        Some(NodeInput::Archived { segment })
    }

    /// Whether the pieces of a segment are at hand: the newest while somebody owes an acknowledgement, else the first.
    pub fn has_pieces(&mut self, segment: u64, now: Duration) -> bool {
        if self.held.as_ref().is_some_and(|held| held.owed_by.is_empty() || now >= held.until) {
            self.held = None;
        }
        self.up && self.held.as_ref().map_or(0, |held| held.segment) == segment
    }

    pub fn acknowledge(&mut self, member: usize, segment: u64) {
        if let Some(held) = &mut self.held
            && held.segment == segment
        {
            held.owed_by.remove(&member);
        }
    }
}
