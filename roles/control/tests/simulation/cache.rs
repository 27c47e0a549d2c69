//! A cache: its pieces lie on its disk, and come there by a controller's hand or its own loop; it says what it has, and remembers the
//! settings.

use super::disk::{Change, Disk};
use super::keeping::{CURRENT, EPOCHS};
use super::kept::own;
use super::member::{AskError, Id, Input, Member, Output, View};
use super::mutant::Mutant;
use super::presence::Presence;
use super::recall::Recall;
use bytes::Bytes;
use consensus::piece_set::PieceSet;
use control::ids::InstanceId;
use control::messages::{Control, Epoch, HoldingsAnswer, HoldingsRequest, Role, subjects};
use control::refill::{Action, Event, Kind, Peers, Pulled, Refill};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a small file takes to be durable.
const WRITTEN_AFTER: Duration = Duration::from_millis(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

pub struct Cache {
    me: InstanceId,
    presence: Presence,
    recall: Recall,
    refill: Refill,
    peers: Peers,
    pulls: BTreeMap<Id, u64>,
    /// Whom it asked about segments from which one on.
    asks: BTreeMap<Id, (InstanceId, u64)>,
    ids: Id,
    mutant: Option<Mutant>,
}

impl Cache {
    pub fn new(me: InstanceId, role: Role, disk: &Disk, mutant: Option<Mutant>) -> Self {
        let remembered = disk.remembered.filter(|_| mutant != Some(Mutant::NobodyRemembers));
        let kind = if role == Role::FullPieceCache { Kind::Full } else { Kind::Sharded };
        let (presence, recall) = (Presence::new(role, me, 1000), Recall::new(remembered.map(own)));
        let (peers, pulls, asks) = Default::default();
        Self { me, presence, recall, refill: Refill::new(me, kind), peers, pulls, asks, ids: 0, mutant }
    }

    fn id(&mut self) -> Id {
        self.ids += 1;
        self.ids
    }

    fn refill(&mut self, event: Event, now: Duration, out: &mut Vec<Output>) {
        if self.mutant == Some(Mutant::NeverRefills) {
            return;
        }
        for action in self.refill.on(event, now) {
            match action {
                Action::Look => out.push(Output::LookAtStore),
                Action::Pull { index, from } => {
                    let id = self.id();
                    self.pulls.insert(id, index);
                    out.push(Output::PullPiece { id, index, from });
                }
                Action::Ask { owner, from_segment, segments } => {
                    let id = self.id();
                    self.asks.insert(id, (owner, from_segment));
                    if self.mutant == Some(Mutant::LetsGoUnasked) {
                        let pieces = vec![PieceSet::FULL; segments.into()];
                        self.refill(Event::Holds { owner, from_segment, pieces }, now, out);
                    }
                    let lets_go_by = self.refill.fingerprint();
                    let request =
                        HoldingsRequest { genesis_hash: [2; 32], from_segment, segments, lets_go_by };
                    let (subject, payload) = (subjects::holdings(owner), request.to_bytes().unwrap());
                    out.push(Output::Ask { id, subject, payload, timeout: ANSWER_TIMEOUT });
                }
                Action::LetGo { index } => out.push(Output::RemovePiece { index }),
            }
        }
    }

    fn look_around(&mut self, now: Duration, out: &mut Vec<Output>) {
        let of = |role| self.presence.present(role).map(|entry| entry.id).collect();
        let peers = Peers {
            sharded: of(Role::ShardedCache),
            full: of(Role::FullPieceCache),
            controllers: of(Role::Controller),
        };
        if peers != self.peers {
            self.peers = peers.clone();
            self.refill(Event::Peers(peers), now, out);
        }
    }

    fn answered(&mut self, id: Id, result: &Result<Bytes, AskError>, now: Duration, out: &mut Vec<Output>) {
        let Some((owner, from_segment)) = self.asks.remove(&id) else { return };
        let answer = result.as_ref().ok().and_then(|it| HoldingsAnswer::from_bytes(it).ok());
        let pieces = match answer {
            Some(HoldingsAnswer::Held { pieces, .. }) => {
                pieces.into_iter().map(PieceSet::from_bytes).collect()
            }
            _ => Vec::new(),
        };
        self.refill(Event::Holds { owner, from_segment, pieces }, now, out);
    }
}

impl Member for Cache {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        self.presence.on(&input, now, &mut self.ids, out);
        if self.recall.on(&input, true, out) {
            let history = self.recall.history().expect("it was learnt just now");
            let (id, takes, change) = (self.id(), WRITTEN_AFTER, Change::Remember(history));
            out.push(Output::Write { id, takes, change });
            self.refill(Event::History(history), now, out);
        }
        self.look_around(now, out);
        match input {
            Input::Start => {
                out.push(Output::Subscribe(subjects::holdings(self.me)));
                out.push(Output::KvWatch { bucket: EPOCHS, filters: vec![CURRENT.to_owned()] });
                if let Some(history) = self.recall.history() {
                    self.refill(Event::History(history), now, out);
                }
            }
            Input::Message { payload, reply_to: Some(to), .. } => {
                let Ok(request) = HoldingsRequest::from_bytes(&payload) else { return };
                let epoch = self.refill.fingerprint();
                if request.lets_go_by.is_none_or(|by| Some(by) == epoch) {
                    out.push(Output::TellHoldings { to, request });
                } else {
                    let refused = HoldingsAnswer::Refused { reason: "by another epoch".to_owned() };
                    out.push(Output::Reply { to, payload: refused.to_bytes().unwrap() });
                }
            }
            Input::Kv { bucket: EPOCHS, value: Some(value), .. } => {
                if let Ok(epoch) = Epoch::from_bytes(&value) {
                    self.refill(Event::Epoch(epoch), now, out);
                }
            }
            Input::Stored(pieces) => self.refill(Event::Held(pieces), now, out),
            Input::Done { id } | Input::Failed { id } => {
                let is_good = matches!(input, Input::Done { .. });
                if let Some(index) = self.pulls.remove(&id) {
                    let pulled = if is_good { Pulled::Stored } else { Pulled::Nobody };
                    self.refill(Event::Pulled { index, pulled }, now, out);
                }
            }
            Input::Answer { id, result } => self.answered(id, &result, now, out),
            Input::Tick => self.refill(Event::Tick, now, out),
            _ => {}
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        self.refill.wake_at().into_iter().chain([self.presence.wake_at()]).min()
    }

    fn view(&self) -> View {
        View { knows: self.recall.history(), ..View::default() }
    }
}
