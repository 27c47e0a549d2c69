//! What must never happen, checked as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after a solution was handed over hashes may be signed: the window, and what messages may take.
const WINDOW: Duration = Duration::from_secs(16);
/// Hashes that a solution leads to at most.
const HASHES: usize = 2;

/// The books of the world.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Nodes that queued a solution, by its identity.
    queued: BTreeMap<[u8; 32], BTreeSet<usize>>,
    /// When solutions of a key were handed to a controller.
    handed_over: BTreeMap<[u8; 32], Vec<Duration>>,
    /// Hashes signed, and the first time.
    signed: BTreeMap<([u8; 32], [u8; 32]), ([u8; 64], Duration)>,
    /// What went wrong, first to last.
    pub wrong: Vec<String>,
    pub queued_total: u64,
}

impl Ledger {
    /// A node queued a solution.
    pub fn queue(&mut self, node: usize, identity: [u8; 32]) {
        self.queued_total += 1;
        let nodes = self.queued.entry(identity).or_default();
        if !nodes.insert(node) || nodes.len() > 1 {
            self.wrong.push(format!("a solution was queued twice, at nodes {nodes:?}"));
        }
    }

    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    pub fn is_queued(&self, identity: &[u8; 32]) -> bool {
        self.queued.contains_key(identity)
    }

    pub fn hand_over(&mut self, public_key: [u8; 32], now: Duration) {
        self.handed_over.entry(public_key).or_default().push(now);
    }

    /// A signature left a plot-client.
    pub fn sign(&mut self, public_key: [u8; 32], hash: [u8; 32], signature: [u8; 64], now: Duration) {
        if let Some((first, _)) = self.signed.get(&(public_key, hash)) {
            if *first != signature {
                self.wrong.push("a hash has two signatures".to_owned());
            }
            return;
        }
        self.signed.insert((public_key, hash), (signature, now));
        let recent = |at: &Duration| now.saturating_sub(*at) <= WINDOW;
        let solutions =
            self.handed_over.get(&public_key).map_or(0, |all| all.iter().filter(|at| recent(at)).count());
        let of_key = self.signed.range((public_key, [0; 32])..=(public_key, [255; 32]));
        let hashes = of_key.filter(|(_, (_, at))| recent(at)).count();
        if solutions == 0 {
            self.wrong.push("a hash was signed although no solution was handed over".to_owned());
        } else if hashes
            > HASHES
                * self.handed_over[&public_key]
                    .iter()
                    .filter(|at| now.saturating_sub(**at) <= 2 * WINDOW)
                    .count()
        {
            self.wrong.push(format!("{hashes} hashes were signed for {solutions} solutions"));
        }
    }

    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }
}
