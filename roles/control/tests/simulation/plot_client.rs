//! A plot-client with one farm: its machines of what earns, and their translation. What the farm finds for a slot follows from its key
//! and the slot's challenge alone, so a copy of it finds the same.

use super::disk::{Change, Disk};
use super::member::{AskError, Id, Input, Member, Output, ReplyTo, SolutionName, View, name_of};
use super::mutant::Mutant;
use super::plotting::Plotting;
use super::presence::Presence;
use super::recall::Recall;
use bytes::Bytes;
use consensus::solution::Solution;
use control::holder::{self, Holder};
use control::ids::{FarmId, InstanceId};
use control::messages::{Control, FarmHeld, RewardSigningRequest, Role, SlotInfo, SolutionAnswer, subjects};
use control::signing::{Signatory, SignatoryAction, SignatoryEvent, Stored};
use control::slots::{Listener, ListenerAction, ListenerEvent, SlotKey};
use control::solutions::{ANSWER_PATIENCE, Finder, FinderAction, FinderEvent, Handover, Proved, SolutionId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after its beginning a slot's solution is of use.
pub const FARMING_TIMEOUT: Duration = Duration::from_secs(4);

/// How often one that was told to end looks whether it may.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A farm, wherever it lies.
#[derive(Debug, Clone)]
pub struct Farm {
    pub public_key: [u8; 32],
    pub host: String,
    /// Solutions that it finds in a hundred slots.
    pub solutions: u64,
    pub sectors: u16,
}

pub struct PlotClient {
    me: InstanceId,
    farm: Farm,
    listener: Listener,
    finder: Finder,
    signatory: Signatory,
    holder: Holder,
    plotting: Plotting,
    presence: Presence,
    recall: Recall,
    is_held: bool,
    proofs: BTreeMap<Id, Proved>,
    asks: BTreeMap<Id, (SolutionId, InstanceId)>,
    askers: BTreeMap<u64, ReplyTo>,
    /// On disk.
    signatures: BTreeMap<[u8; 32], [u8; 64]>,
    stores: BTreeMap<Id, ([u8; 32], Stored)>,
    /// Solutions that are being written down.
    remembering: BTreeMap<Id, SolutionId>,
    next_id: Id,
    mutant: Option<Mutant>,
    /// Whom it has heard of, for a mutant.
    controllers: BTreeSet<InstanceId>,
    /// Told to end: takes no slot any more.
    is_ending: bool,
    /// The time of what it last heard.
    now: Duration,
}

impl PlotClient {
    pub fn new(me: InstanceId, farm: Farm, disk: &Disk, mutant: Option<Mutant>) -> Self {
        let holder = Holder::new(me, &farm.host);
        let sectors = (0..farm.sectors).map(|sector| disk.sectors.get(&sector).copied()).collect();
        let plotting = Plotting::new(me, farm.public_key, sectors, mutant);
        let mut presence = Presence::new(Role::PlotClient, me, 0);
        if mutant == Some(Mutant::WatchesEverybody) {
            presence.watch_everybody();
        }
        let is_known = mutant != Some(Mutant::SolutionsForgotten);
        let earlier = disk.handovers.iter().filter(|_| is_known);
        let mut signatory = Signatory::default();
        for (Handover { solution, controller }, at) in earlier.clone() {
            let (public_key, controller, age) = (solution.public_key, *controller, disk.clock - *at);
            signatory.on(SignatoryEvent::Recalled { public_key, controller, age }, Duration::ZERO);
        }
        let earlier = earlier.map(|(handover, _)| handover.solution).collect();
        Self {
            plotting,
            presence,
            recall: Recall::default(),
            me,
            farm,
            listener: Listener::new(FARMING_TIMEOUT),
            finder: Finder::new(me, earlier),
            signatory,
            holder,
            is_held: false,
            proofs: BTreeMap::new(),
            asks: BTreeMap::new(),
            askers: BTreeMap::new(),
            signatures: disk.signatures.clone(),
            stores: BTreeMap::new(),
            remembering: BTreeMap::new(),
            next_id: 0,
            mutant,
            controllers: BTreeSet::new(),
            is_ending: false,
            now: Duration::ZERO,
        }
    }

    fn id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    fn start(&mut self, now: Duration, out: &mut Vec<Output>) {
        let key = self.farm.public_key;
        for filter in [subjects::SLOT.to_owned(), subjects::signature(&key), subjects::farm(&key)] {
            out.push(Output::Subscribe(filter));
        }
        if self.mutant == Some(Mutant::HolderIgnored) {
            self.is_held = true;
            return self.signatory(SignatoryEvent::Serving { public_key: key }, now, out);
        }
        self.holder(holder::Event::Opened { public_key: key, path: "/farm".to_owned() }, now, out);
    }

    fn holder(&mut self, event: holder::Event, now: Duration, out: &mut Vec<Output>) {
        for action in self.holder.on(event, now) {
            match action {
                holder::Action::Tell(held) => {
                    let (subject, payload) = (subjects::farm(&held.public_key), held.to_bytes().unwrap());
                    out.push(Output::Publish { subject, payload });
                }
                holder::Action::Begin { public_key } => {
                    self.is_held = true;
                    self.signatory(SignatoryEvent::Serving { public_key }, now, out);
                }
                holder::Action::Stop(stopped) => {
                    self.is_held = false;
                    let public_key = stopped.public_key;
                    self.signatory(SignatoryEvent::Lost { public_key }, now, out);
                    self.finder(FinderEvent::Shutdown, now, out);
                    out.push(Output::Exit(stopped.to_string()));
                }
            }
        }
    }

    fn slot(&mut self, info: SlotInfo, now: Duration, out: &mut Vec<Output>) {
        self.finder(FinderEvent::Heard(info.clone()), now, out);
        self.controllers.insert(info.controller);
        if self.is_ending {
            return;
        }
        if self.mutant == Some(Mutant::EverySlot) {
            return self.work(&info, now + FARMING_TIMEOUT, out);
        }
        self.listener(ListenerEvent::Heard(info), now, out);
    }

    fn listener(&mut self, event: ListenerEvent, now: Duration, out: &mut Vec<Output>) {
        if self.is_ending {
            return;
        }
        for action in self.listener.on(event, now) {
            match action {
                ListenerAction::Work { slot, deadline } => self.work(&slot, deadline, out),
                ListenerAction::Refuse { slot, reason } => {
                    out.push(Output::Say(format!("slot {slot} is refused: {reason:?}")));
                }
            }
        }
    }

    /// Audits the plot, and proves what it finds.
    fn work(&mut self, info: &SlotInfo, deadline: Duration, out: &mut Vec<Output>) {
        if !self.is_held {
            return;
        }
        let slot = SlotKey::from(info);
        for nth in 0..2u8 {
            let key = &self.farm.public_key;
            let chunk: [u8; 32] = blake3::hash(&[&slot.global_challenge[..], key, &[nth]].concat()).into();
            let [.., luck, takes] = chunk;
            if u64::from(luck) * 100 / 256 >= self.farm.solutions {
                continue;
            }
            let id = self.id();
            let solution = self.solution(&slot, chunk);
            let farm = FarmId(name_of(&solution));
            let distance = u64::from(chunk[20]);
            self.proofs.insert(id, Proved { slot, farm, solution, distance, deadline });
            let takes = Duration::from_millis(200 + u64::from(takes) * 11);
            out.push(Output::Work { id, takes });
        }
    }

    /// The challenge stands in the address that is paid, for the node to see what it was found for.
    fn solution(&self, slot: &SlotKey, chunk: [u8; 32]) -> Solution {
        let mut bytes = [1; control::messages::SOLUTION_SIZE];
        bytes[..32].copy_from_slice(&self.farm.public_key);
        bytes[32..64].copy_from_slice(&slot.global_challenge);
        let blank = Solution::from_bytes(&bytes).expect("a solution's size, and some history");
        Solution { chunk, ..blank }
    }

    fn finder(&mut self, event: FinderEvent, now: Duration, out: &mut Vec<Output>) {
        for action in self.finder.on(event, now) {
            match action {
                FinderAction::Remember { id, handover } => self.remember(id, handover, now, out),
                FinderAction::Ask { id, controller, public_key, request } => {
                    self.signatory(SignatoryEvent::HandedOver { public_key, controller }, now, out);
                    let (ask, payload) = (self.id(), request.to_bytes().unwrap());
                    self.asks.insert(ask, (id, controller));
                    let (subject, mut timeout) = (subjects::solution(controller), ANSWER_PATIENCE);
                    if self.mutant == Some(Mutant::SilenceIsNotSent) {
                        timeout /= 5;
                    }
                    out.push(Output::Ask { id: ask, subject, payload: payload.clone(), timeout });
                    let other = self.controllers.iter().find(|other| **other != controller).copied();
                    if let (Some(Mutant::TwoControllersAtOnce), Some(other)) = (self.mutant, other) {
                        let (id, subject) = (self.id(), subjects::solution(other));
                        out.push(Output::Ask { id, subject, payload, timeout });
                    }
                }
                FinderAction::Ended { farm, outcome, .. } => {
                    out.push(Output::Ended { solution: farm.0, outcome });
                }
            }
        }
    }

    /// Writes to the farm's file, which may be on a disk that is slow.
    fn remember(&mut self, id: SolutionId, handover: Handover, now: Duration, out: &mut Vec<Output>) {
        let (write, change) = (self.id(), Change::Handover(handover));
        let [.., slow, takes] = handover.solution.chunk;
        let takes = Duration::from_micros(u64::from(takes) * if slow < 8 { 700 } else { 10 });
        if self.mutant == Some(Mutant::SendingBeforeWritten) {
            self.finder(FinderEvent::Remembered { id }, now, out);
        } else {
            self.remembering.insert(write, id);
        }
        out.push(Output::Write { id: write, takes, change });
    }

    /// What became of a question to a controller.
    fn answered(&mut self, ask: Id, result: Result<Bytes, AskError>, now: Duration, out: &mut Vec<Output>) {
        let Some((id, controller)) = self.asks.remove(&ask) else { return };
        let event = match result {
            Ok(payload) => match SolutionAnswer::from_bytes(&payload) {
                Ok(answer) => FinderEvent::Answered { id, answer },
                Err(error) => FinderEvent::Unanswered { id, reason: error.to_string() },
            },
            Err(AskError::NoResponders) => FinderEvent::NobodyThere { id },
            Err(AskError::NotConnected) => FinderEvent::HeldBack { id, reason: "no bus".to_owned() },
            Err(AskError::Timeout) if self.mutant == Some(Mutant::SilenceIsNotSent) => {
                FinderEvent::NobodyThere { id }
            }
            Err(AskError::Timeout) => FinderEvent::Unanswered { id, reason: "no answer in time".to_owned() },
        };
        let is_not_taken = match &event {
            FinderEvent::Answered { answer, .. } => answer.is_not_taken(),
            event => !matches!(event, FinderEvent::Unanswered { .. }),
        };
        if is_not_taken {
            let public_key = self.farm.public_key;
            self.signatory(SignatoryEvent::NotTaken { public_key, controller }, now, out);
        }
        self.finder(event, now, out);
    }

    fn signatory(&mut self, event: SignatoryEvent, now: Duration, out: &mut Vec<Output>) {
        for action in self.signatory.on(event, now) {
            match action {
                SignatoryAction::Sign { hash, may_be_new, .. } => {
                    self.store(hash, may_be_new, out);
                }
                SignatoryAction::PassOver { asker } => drop(self.askers.remove(&asker)),
                SignatoryAction::Answer { asker, answer } => {
                    let Some(to) = self.askers.remove(&asker) else { continue };
                    out.push(Output::Reply { to, payload: answer.to_bytes().unwrap() });
                }
            }
        }
    }

    /// The farm's executor: looks a hash up, or signs it and makes that durable.
    fn store(&mut self, hash: [u8; 32], may_be_new: bool, out: &mut Vec<Output>) {
        let (id, takes) = (self.id(), Duration::from_millis(2 + u64::from(hash[9]) / 4));
        let known = self.signatures.get(&hash).filter(|_| self.mutant != Some(Mutant::SigningAnew));
        match known {
            Some(signature) => {
                self.stores.insert(id, (hash, Stored::Known(*signature)));
                out.push(Output::Work { id, takes });
            }
            None if may_be_new => {
                let signature = self.sign(hash, id);
                self.stores.insert(id, (hash, Stored::Fresh(signature)));
                if self.mutant == Some(Mutant::SigningBeforeDurable) {
                    return out.push(Output::Work { id, takes });
                }
                out.push(Output::Write { id, takes, change: Change::Signature { hash, signature } });
            }
            None => {
                self.stores.insert(id, (hash, Stored::Absent));
                out.push(Output::Work { id, takes });
            }
        }
    }

    /// Another each time, as sr25519's are.
    fn sign(&self, hash: [u8; 32], id: Id) -> [u8; 64] {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&hash);
        signature[32..48].copy_from_slice(&self.me.0);
        signature[48..56].copy_from_slice(&id.to_le_bytes());
        signature
    }

    /// Whether one that was told to end has nothing left to do.
    fn may_end(&self, now: Duration) -> bool {
        let is_sent = self.proofs.is_empty() && self.finder.is_empty() && self.remembering.is_empty();
        let is_quiet = self.signatory.quiet_at().is_some_and(|at| at <= now);
        self.is_ending
            && match self.mutant {
                Some(Mutant::LeavesAtOnce) => true,
                Some(Mutant::LeavesUnsigned) => is_sent,
                _ => is_sent && is_quiet,
            }
    }

    fn done(&mut self, id: Id, now: Duration, out: &mut Vec<Output>) {
        if let Some(proved) = self.proofs.remove(&id) {
            if self.is_held {
                let (solution, slot): (SolutionName, _) = (proved.farm.0, proved.slot);
                out.push(Output::Found { solution, slot });
                self.finder(FinderEvent::Proved(Box::new(proved)), now, out);
            }
        } else if let Some(id) = self.remembering.remove(&id) {
            self.finder(FinderEvent::Remembered { id }, now, out);
        } else if let Some((hash, stored)) = self.stores.remove(&id) {
            if let Stored::Fresh(signature) = &stored {
                self.signatures.insert(hash, *signature);
            }
            let public_key = self.farm.public_key;
            self.signatory(SignatoryEvent::Stored { public_key, hash, stored }, now, out);
        }
    }

    fn message(
        &mut self,
        subject: &str,
        payload: &Bytes,
        reply_to: Option<ReplyTo>,
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        if subject == subjects::SLOT {
            if let Ok(info) = SlotInfo::from_bytes(payload) {
                self.slot(info, now, out);
            }
        } else if let Some(to) = reply_to {
            if let Ok(request) = RewardSigningRequest::from_bytes(payload) {
                let asker = self.id();
                self.askers.insert(asker, to);
                if self.mutant == Some(Mutant::SigningForAnybody) {
                    let RewardSigningRequest { public_key, controller, .. } = request;
                    self.signatory(SignatoryEvent::HandedOver { public_key, controller }, now, out);
                }
                self.signatory(SignatoryEvent::Asked { request, asker }, now, out);
            }
        } else if let Ok(held) = FarmHeld::from_bytes(payload) {
            self.holder(holder::Event::Heard(held), now, out);
        }
    }
}

impl Member for PlotClient {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        self.presence.on(&input, now, &mut self.next_id, out);
        self.recall.on(&input, true, out);
        if self.is_held || matches!(input, Input::Start | Input::Kv { .. }) {
            self.plotting.on(&input, now, &mut self.next_id, out);
        }
        match input {
            Input::Start => self.start(now, out),
            Input::Connected(true) => self.holder(holder::Event::Connected, now, out),
            Input::Connected(false) => self.holder(holder::Event::Disconnected, now, out),
            Input::Message { subject, payload, reply_to } => {
                self.message(&subject, &payload, reply_to, now, out);
            }
            Input::Answer { id, result } => self.answered(id, result, now, out),
            Input::Done { id } => self.done(id, now, out),
            Input::KvWritten { result: Err(_), .. } if self.mutant == Some(Mutant::EndsWithoutStore) => {
                out.push(Output::Exit("the store does not answer".to_owned()));
            }
            Input::Tick => {
                self.listener(ListenerEvent::Tick, now, out);
                self.finder(FinderEvent::Tick, now, out);
                self.holder(holder::Event::Tick, now, out);
            }
            Input::End => self.is_ending = true,
            _ => {}
        }
        self.now = now;
        if self.may_end(now) {
            out.push(Output::Exit("it was told to end".to_owned()));
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        let plotting = self.plotting.wake_at().filter(|_| self.is_held);
        let presence = Some(self.presence.wake_at());
        let listener = self.listener.wake_at().filter(|_| !self.is_ending);
        let earning = [listener, self.finder.wake_at(), self.holder.wake_at()];
        let ending = self.is_ending.then_some(self.now + LOOK_EVERY);
        earning.into_iter().chain([plotting, presence, ending]).flatten().min()
    }

    fn view(&self) -> View {
        View {
            holds: self.is_held.then_some(self.farm.public_key).into_iter().collect(),
            plotted: Some(self.plotting.plotted()),
            troubles: self.plotting.troubles(),
            knows: self.recall.history(),
            ..View::default()
        }
    }
}
