//! Places for connections: a few for strangers, the rest for members, and always one for a member that comes.
//!
//! ```text
//!   arrived ─▶ stranger ─ admitted ─▶ member ─ left ─▶
//!                 └ left, or gives way to the next one
//! ```
//! Where strangers' places are all taken, the oldest of the address with the most of them gives way: a stranger that fills them
//! competes with itself, and a member is through before its turn comes. A peer with too many connections loses its oldest:
//! what it opened last is what it uses. Never: sockets, time.

use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_PEER, STRANGERS_MAX};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A connection, in the order of arrival.
pub type ConnectionId = u64;

/// See the module's text.
#[derive(Debug)]
pub struct Places<P> {
    strangers: BTreeMap<ConnectionId, IpAddr>,
    members: BTreeMap<ConnectionId, P>,
    next: ConnectionId,
}

impl<P> Default for Places<P> {
    fn default() -> Self {
        Self { strangers: BTreeMap::new(), members: BTreeMap::new(), next: 0 }
    }
}

impl<P: Ord + Copy> Places<P> {
    /// Somebody connects. Also who gives way, if anybody: its connection is to be closed.
    pub fn arrived(&mut self, from: IpAddr) -> (ConnectionId, Option<ConnectionId>) {
        let gives_way =
            if self.strangers.len() < STRANGERS_MAX { None } else { oldest_of_most(&self.strangers) };
        if let Some(gone) = gives_way {
            self.left(gone);
        }
        let id = self.next;
        self.next += 1;
        self.strangers.insert(id, from);
        (id, gives_way)
    }

    /// A stranger turned out to be a member. Also who gives way, if anybody.
    pub fn admitted(&mut self, id: ConnectionId, peer: P) -> Option<ConnectionId> {
        self.strangers.remove(&id);
        let own = || self.members.iter().filter(|(_, of)| **of == peer).map(|(id, _)| *id);
        let gives_way = if own().count() >= CONNECTIONS_PER_PEER {
            own().next()
        } else if self.members.len() >= CONNECTIONS_MAX {
            oldest_of_most(&self.members)
        } else {
            None
        };
        if let Some(gone) = gives_way {
            self.left(gone);
        }
        self.members.insert(id, peer);
        gives_way
    }

    /// A connection is over.
    pub fn left(&mut self, id: ConnectionId) {
        self.strangers.remove(&id);
        self.members.remove(&id);
    }

    /// Strangers and members that are connected.
    pub fn counts(&self) -> (usize, usize) {
        (self.strangers.len(), self.members.len())
    }
}

/// The oldest connection of whoever has the most.
fn oldest_of_most<P: Ord + Copy>(connections: &BTreeMap<ConnectionId, P>) -> Option<ConnectionId> {
    let mut counts = BTreeMap::new();
    for of in connections.values() {
        *counts.entry(*of).or_insert(0usize) += 1;
    }
    let most = counts.values().copied().max()?;
    connections.iter().find(|(_, of)| counts[of] == most).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(host: u8) -> IpAddr {
        [10, 0, 0, host].into()
    }

    #[test]
    fn a_thousand_silent_strangers_have_their_few_places_and_members_come_in() {
        let mut places = Places::default();
        for n in 0..1024 {
            let (id, gives_way) = places.arrived(from(1));
            assert_eq!(gives_way, (n >= STRANGERS_MAX as u64).then(|| id - STRANGERS_MAX as u64));
            assert!(places.counts().0 <= STRANGERS_MAX);
        }
        for member in 0..200u32 {
            let (id, _) = places.arrived(from(2));
            // The flood goes on before the member is through.
            for _ in 0..2 * STRANGERS_MAX {
                let (_, gives_way) = places.arrived(from(1));
                assert!(gives_way.is_some_and(|gone| gone != id), "the flood gives way, not the member");
            }
            assert_eq!(places.admitted(id, member), None);
        }
        assert_eq!(places.counts().1, 200);
    }

    #[test]
    fn a_member_that_opens_many_loses_its_own_oldest() {
        let mut places = Places::default();
        let mut open = |peer: u32| {
            let (id, _) = places.arrived(from(3));
            (id, places.admitted(id, peer))
        };
        let quiet = open(1).0;
        let greedy: Vec<_> = (0..10_000).map(|_| open(2)).collect();
        for (n, (_, gives_way)) in greedy.iter().enumerate() {
            assert_eq!(*gives_way, n.checked_sub(CONNECTIONS_PER_PEER).map(|oldest| greedy[oldest].0));
        }
        assert!(places.members.contains_key(&quiet));
        assert_eq!(places.counts(), (0, 1 + CONNECTIONS_PER_PEER));
    }

    #[test]
    fn with_all_places_taken_whoever_has_most_gives_way() {
        let mut places = Places::default();
        let mut first_of_two = None;
        for peer in 0..CONNECTIONS_MAX as u32 - 1 {
            let (id, _) = places.arrived(from(4));
            assert_eq!(places.admitted(id, peer), None);
            if peer == 500 {
                first_of_two = Some(id);
            }
        }
        let (id, _) = places.arrived(from(4));
        assert_eq!(places.admitted(id, 500), None);
        let (id, _) = places.arrived(from(4));
        assert_eq!(places.admitted(id, 9999), first_of_two);
        assert_eq!(places.counts(), (0, CONNECTIONS_MAX));
    }
}
