//! A cache: its pieces lie on its disk, and come there by the world's hand; here it is seen, and asked what it has.

use super::member::{Id, Input, Member, Output};
use super::presence::Presence;
use control::ids::InstanceId;
use control::messages::{Control, HoldingsRequest, Role, subjects};
use std::time::Duration;

pub struct Cache {
    me: InstanceId,
    presence: Presence,
    ids: Id,
}

impl Cache {
    pub fn new(me: InstanceId, role: Role) -> Self {
        Self { me, presence: Presence::new(role, me, 1000), ids: 0 }
    }
}

impl Member for Cache {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        self.presence.on(&input, now, &mut self.ids, out);
        match input {
            Input::Start => out.push(Output::Subscribe(subjects::holdings(self.me))),
            Input::Message { payload, reply_to: Some(to), .. } => {
                if let Ok(request) = HoldingsRequest::from_bytes(&payload) {
                    out.push(Output::TellHoldings { to, request });
                }
            }
            _ => {}
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        Some(self.presence.wake_at())
    }
}
