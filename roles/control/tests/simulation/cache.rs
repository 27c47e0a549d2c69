//! A cache: its pieces lie on its disk, and come there by the world's hand; here it is seen.

use super::member::{Id, Input, Member, Output};
use super::presence::Presence;
use control::ids::InstanceId;
use control::messages::Role;
use std::time::Duration;

pub struct Cache {
    presence: Presence,
    ids: Id,
}

impl Cache {
    pub fn new(id: InstanceId, role: Role) -> Self {
        Self { presence: Presence::new(role, id, 1000), ids: 0 }
    }
}

impl Member for Cache {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        self.presence.on(&input, now, &mut self.ids, out);
    }

    fn wake_at(&self) -> Option<Duration> {
        Some(self.presence.wake_at())
    }
}
