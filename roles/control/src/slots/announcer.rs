//! A controller's side: what its node says is told to all at once, or never.
//!
//! | subscription at the node | bus | the node's slot |
//! |---|---|---|
//! | present | connected | announced |
//! | present | away | withheld: told later it would be old, and its work would take the place of a live one |
//! | lost, or the controller ends | any | withheld: the node, or this controller, would not take its solutions |
//!
//! Owns: whether a slot is announced, and its `announced_ms`. Never: a queue of slots.

use crate::ids::InstanceId;
use crate::messages::SlotInfo;
use std::time::Duration;

/// A slot as the node announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSlot {
    /// Slot number.
    pub slot: u64,
    /// Global challenge.
    pub global_challenge: [u8; 32],
    /// Solution range for blocks.
    pub solution_range: u64,
    /// Solution range for votes.
    pub voting_solution_range: u64,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnouncerEvent {
    /// The subscription of slots at the node holds.
    SubscriptionBegan,
    /// It does not hold any more.
    SubscriptionLost,
    /// The node announced a slot.
    Slot {
        /// Which.
        slot: NodeSlot,
        /// Whether the bus is connected at this moment.
        is_bus_connected: bool,
    },
    /// The controller ends: it takes no more solutions.
    Shutdown,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnouncerAction {
    /// Tell everybody, now or not at all.
    Announce(SlotInfo),
    /// Nobody is told of this slot through this controller.
    Withhold {
        /// Slot number.
        slot: u64,
        /// Why.
        reason: &'static str,
    },
}

/// Decides which of its node's slots a controller announces.
#[derive(Debug)]
pub struct Announcer {
    me: InstanceId,
    is_subscribed: bool,
    is_ending: bool,
}

impl Announcer {
    /// The announcer of controller `me`.
    pub fn new(me: InstanceId) -> Self {
        Self { me, is_subscribed: false, is_ending: false }
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: AnnouncerEvent, now: Duration) -> Vec<AnnouncerAction> {
        match event {
            AnnouncerEvent::SubscriptionBegan => self.is_subscribed = true,
            AnnouncerEvent::SubscriptionLost => self.is_subscribed = false,
            AnnouncerEvent::Shutdown => self.is_ending = true,
            AnnouncerEvent::Slot { slot, is_bus_connected } => {
                return vec![self.slot(slot, is_bus_connected, now)];
            }
        }
        Vec::new()
    }

    fn slot(&self, slot: NodeSlot, is_bus_connected: bool, now: Duration) -> AnnouncerAction {
        let NodeSlot { slot, global_challenge, solution_range, voting_solution_range } = slot;
        let withhold = |reason| AnnouncerAction::Withhold { slot, reason };
        if self.is_ending {
            return withhold("this controller ends");
        }
        if !self.is_subscribed {
            return withhold("it came over a subscription that is lost");
        }
        if !is_bus_connected {
            return withhold("the bus is away, and later it would be old");
        }
        AnnouncerAction::Announce(SlotInfo {
            slot,
            global_challenge,
            solution_range,
            voting_solution_range,
            controller: self.me,
            announced_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: InstanceId = InstanceId([3; 16]);

    fn slot(number: u64, is_bus_connected: bool) -> AnnouncerEvent {
        let (solution_range, voting_solution_range) = (1, 2);
        let slot =
            NodeSlot { slot: number, global_challenge: [4; 32], solution_range, voting_solution_range };
        AnnouncerEvent::Slot { slot, is_bus_connected }
    }

    fn is_announced(announcer: &mut Announcer, number: u64, is_bus_connected: bool) -> bool {
        let actions = announcer.on(slot(number, is_bus_connected), Duration::from_millis(1234));
        match &actions[..] {
            [AnnouncerAction::Announce(info)] => {
                assert_eq!((info.slot, info.controller, info.announced_ms), (number, ME, 1234));
                true
            }
            [AnnouncerAction::Withhold { slot, .. }] => {
                assert_eq!(*slot, number);
                false
            }
            other => panic!("one word about each slot, not {other:?}"),
        }
    }

    #[test]
    fn a_slot_is_announced_at_once_or_never() {
        let mut announcer = Announcer::new(ME);
        let now = Duration::ZERO;
        assert!(!is_announced(&mut announcer, 1, true), "no subscription yet");
        announcer.on(AnnouncerEvent::SubscriptionBegan, now);
        assert!(is_announced(&mut announcer, 2, true));
        assert!(!is_announced(&mut announcer, 3, false), "the bus is away");
        // When it is back, nothing but the next slot is told.
        assert!(is_announced(&mut announcer, 4, true));
        assert_eq!(announcer.on(AnnouncerEvent::SubscriptionLost, now), []);
        assert!(!is_announced(&mut announcer, 5, true));
        announcer.on(AnnouncerEvent::SubscriptionBegan, now);
        announcer.on(AnnouncerEvent::Shutdown, now);
        assert!(!is_announced(&mut announcer, 6, true), "it would not take the solutions");
    }
}
