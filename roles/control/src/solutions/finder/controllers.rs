//! Whom to ask: the controllers as a finder knows them.

use crate::ids::InstanceId;
use crate::slots::{MAX_CONTROLLERS, RecentSlots, SlotKey};
use crate::solutions::SolutionKey;
use std::collections::BTreeSet;
use std::time::Duration;

/// Requests that one controller has at a time: a node queues nine.
pub const MAX_ASKS_A_CONTROLLER: usize = 8;
/// Pause after the first request left unanswered, and the longest: each one more doubles it.
const LAPSE_PAUSE: Duration = Duration::from_secs(1);
const MAX_LAPSE_DOUBLINGS: u32 = 6;

/// Those heard of, at most [`MAX_CONTROLLERS`].
#[derive(Debug, Default)]
pub(super) struct Controllers(Vec<Controller>);

#[derive(Debug)]
struct Controller {
    id: InstanceId,
    heard_at: Duration,
    recent: RecentSlots<()>,
    /// Requests that it has now.
    asks: usize,
    /// Requests left unanswered since the last answer.
    lapses: u32,
    lapse: Option<Lapse>,
}

/// Why a controller comes last for a while.
#[derive(Debug, Clone, Copy)]
struct Lapse {
    /// Until it has announced a greater slot than this.
    slot: Option<u64>,
    /// And until then.
    until: Duration,
}

impl Controllers {
    /// A controller announced a slot.
    pub fn heard(&mut self, id: InstanceId, key: SlotKey, announced_ms: u64, now: Duration) {
        if self.get(id).is_none() && !self.add(id, now) {
            return;
        }
        let Some(controller) = self.get(id) else { return };
        controller.heard_at = now;
        controller.recent.announce(key, announced_ms, ());
    }

    /// Makes room if need be; not at the cost of one that is being asked.
    fn add(&mut self, id: InstanceId, now: Duration) -> bool {
        if self.0.len() == MAX_CONTROLLERS {
            let idle = self.0.iter().enumerate().filter(|(_, controller)| controller.asks == 0);
            let Some((at, _)) = idle.min_by_key(|(_, controller)| controller.heard_at) else { return false };
            self.0.swap_remove(at);
        }
        let recent = RecentSlots::default();
        self.0.push(Controller { id, heard_at: now, recent, asks: 0, lapses: 0, lapse: None });
        true
    }

    fn get(&mut self, id: InstanceId) -> Option<&mut Controller> {
        self.0.iter_mut().find(|controller| controller.id == id)
    }

    /// Requests that all of them have now.
    #[cfg(test)]
    pub fn busy(&self) -> usize {
        self.0.iter().map(|controller| controller.asks).sum()
    }

    /// All whose node knows exactly this slot.
    pub fn who_announced(&self, slot: &SlotKey) -> impl Iterator<Item = InstanceId> {
        self.0.iter().filter(|controller| controller.recent.has(slot)).map(|controller| controller.id)
    }

    /// Whom to ask now to send a solution, if anybody.
    pub fn best(
        &self,
        key: &SolutionKey,
        slot: &SlotKey,
        tried: &[InstanceId],
        slow: &BTreeSet<InstanceId>,
        now: Duration,
    ) -> Option<InstanceId> {
        let fits = |controller: &&Controller| {
            controller.asks < MAX_ASKS_A_CONTROLLER
                && controller.recent.has(slot)
                && !tried.contains(&controller.id)
        };
        let rank = |controller: &&Controller| {
            let comes_last = controller.is_in_lapse(now) || slow.contains(&controller.id);
            (comes_last, spread(key, controller.id), controller.id)
        };
        self.0.iter().filter(fits).min_by_key(rank).map(|controller| controller.id)
    }

    /// It has one request more.
    pub fn asked(&mut self, id: InstanceId) {
        if let Some(controller) = self.get(id) {
            controller.asks += 1;
        }
    }

    /// The request did not leave.
    pub fn not_asked(&mut self, id: InstanceId) {
        if let Some(controller) = self.get(id) {
            controller.asks = controller.asks.saturating_sub(1);
        }
    }

    /// It answered: it is well.
    pub fn answered(&mut self, id: InstanceId) {
        self.not_asked(id);
        if let Some(controller) = self.get(id) {
            (controller.lapses, controller.lapse) = (0, None);
        }
    }

    /// Nobody has its subject: it has ended, or its connection is being made anew.
    pub fn was_absent(&mut self, id: InstanceId, now: Duration) {
        self.not_asked(id);
        if let Some(controller) = self.get(id) {
            controller.lapse = Some(Lapse { slot: controller.recent.greatest(), until: now });
        }
    }

    /// It did not answer in time.
    pub fn left_unanswered(&mut self, id: InstanceId, now: Duration) {
        self.not_asked(id);
        if let Some(controller) = self.get(id) {
            let pause = LAPSE_PAUSE * 2u32.pow(controller.lapses.min(MAX_LAPSE_DOUBLINGS));
            controller.lapses = controller.lapses.saturating_add(1);
            controller.lapse = Some(Lapse { slot: controller.recent.greatest(), until: now + pause });
        }
    }
}

impl Controller {
    fn is_in_lapse(&self, now: Duration) -> bool {
        let is_over = |lapse: Lapse| now >= lapse.until && self.recent.greatest() > lapse.slot;
        self.lapse.is_some_and(|lapse| !is_over(lapse))
    }
}

/// A number that spreads solutions over controllers.
fn spread(key: &SolutionKey, id: InstanceId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.chunk).update(&key.public_key).update(&id.0);
    let hash = hasher.finalize();
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}
