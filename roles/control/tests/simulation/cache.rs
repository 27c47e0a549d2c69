//! A cache: its pieces lie on its disk, and come there by the world's hand; here it is seen, asked what it has, and remembers the settings.

use super::disk::{Change, Disk};
use super::kept::own;
use super::member::{Id, Input, Member, Output, View};
use super::mutant::Mutant;
use super::presence::Presence;
use super::recall::Recall;
use control::ids::InstanceId;
use control::messages::{Control, HoldingsRequest, Role, subjects};
use std::time::Duration;

/// How long a small file takes to be durable.
const WRITTEN_AFTER: Duration = Duration::from_millis(20);

pub struct Cache {
    me: InstanceId,
    presence: Presence,
    recall: Recall,
    ids: Id,
}

impl Cache {
    pub fn new(me: InstanceId, role: Role, disk: &Disk, mutant: Option<Mutant>) -> Self {
        let remembered = disk.remembered.filter(|_| mutant != Some(Mutant::NobodyRemembers));
        let (presence, recall) = (Presence::new(role, me, 1000), Recall::new(remembered.map(own)));
        Self { me, presence, recall, ids: 0 }
    }
}

impl Member for Cache {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        self.presence.on(&input, now, &mut self.ids, out);
        if self.recall.on(&input, true, out) {
            self.ids += 1;
            let history = self.recall.history().expect("it was learnt just now");
            let (id, takes, change) = (self.ids, WRITTEN_AFTER, Change::Remember(history));
            out.push(Output::Write { id, takes, change });
        }
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

    fn view(&self) -> View {
        View { knows: self.recall.history(), ..View::default() }
    }
}
