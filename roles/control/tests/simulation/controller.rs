//! A controller: its machines of what earns, and their translation. The node's and the bus's words become events, actions become calls
//! and messages.

use super::around::Around;
use super::disk::Disk;
use super::keeping::Keeping;
use super::member::{AskError, Id, Input, Member, NodeAnswer, NodeInput, Output, ReplyTo, View};
use super::mutant::Mutant;
use super::presence::Presence;
use bytes::Bytes;
use control::ids::InstanceId;
use control::messages::{Control, Role, SigningAnswer, SlotInfo, SolutionAnswer, SolutionFound, subjects};
use control::signing::{Asking, AskingAction, AskingEvent, Wanted};
use control::slots::{Announcer, AnnouncerAction, AnnouncerEvent, NodeSlot, SlotKey};
use control::solutions::{Ask, Desk, DeskAction, DeskEvent, Submission};
use std::collections::BTreeMap;
use std::time::Duration;

pub struct Controller {
    me: InstanceId,
    announcer: Announcer,
    desk: Desk,
    asking: Asking,
    keeping: Keeping,
    presence: Presence,
    is_bus_connected: bool,
    connection: Option<u64>,
    /// Challenges of slots, as solutions need only the number.
    asks: BTreeMap<Ask, ReplyTo>,
    submissions: BTreeMap<Id, Submission>,
    wishes: BTreeMap<Id, Wanted>,
    next_id: Id,
    mutant: Option<Mutant>,
    /// Slots that could not be told of, for a mutant.
    untold: Vec<SlotInfo>,
}

impl Controller {
    pub fn new(me: InstanceId, disk: &Disk, mutant: Option<Mutant>) -> Self {
        let spooled = disk.spool.iter().copied().collect();
        Self {
            me,
            announcer: Announcer::new(me),
            desk: Desk::new(),
            asking: Asking::new(me),
            keeping: Keeping::new(me, spooled, disk.remembered, mutant),
            presence: Presence::new(Role::Controller, me, 0),
            is_bus_connected: false,
            connection: None,
            asks: BTreeMap::new(),
            submissions: BTreeMap::new(),
            wishes: BTreeMap::new(),
            next_id: 0,
            mutant,
            untold: Vec::new(),
        }
    }

    /// One that was told how many copies of each piece there are to be.
    pub fn with_copies(self, copies: Option<u8>) -> Self {
        Self { keeping: self.keeping.with_copies(copies), ..self }
    }

    fn id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    fn node(&mut self, input: NodeInput, now: Duration, out: &mut Vec<Output>) {
        match input {
            NodeInput::Began { connection } => {
                self.connection = Some(connection);
                self.announcer.on(AnnouncerEvent::SubscriptionBegan, now);
                self.desk(DeskEvent::SubscriptionBegan, now, out);
            }
            NodeInput::Lost => {
                self.connection = None;
                self.announcer.on(AnnouncerEvent::SubscriptionLost, now);
                self.desk(DeskEvent::SubscriptionLost, now, out);
            }
            NodeInput::Slot { slot, challenge } => self.slot(slot, challenge, now, out),
            NodeInput::Sign { hash, public_key } => {
                self.asking(AskingEvent::Wanted(Wanted { hash, public_key }), now, out);
            }
            NodeInput::Answered { id, answer } => {
                let Some(submission) = self.submissions.remove(&id) else { return };
                self.desk(DeskEvent::NodeAnswered { submission, answer: translate(&answer) }, now, out);
            }
            NodeInput::Archived { .. } => {}
        }
    }

    fn slot(&mut self, slot: u64, global_challenge: [u8; 32], now: Duration, out: &mut Vec<Output>) {
        self.desk(DeskEvent::Announced(SlotKey { slot, global_challenge }), now, out);
        let node_slot = NodeSlot { slot, global_challenge, solution_range: 1, voting_solution_range: 2 };
        let is_bus_connected = self.is_bus_connected;
        for action in self.announcer.on(AnnouncerEvent::Slot { slot: node_slot, is_bus_connected }, now) {
            match action {
                AnnouncerAction::Announce(info) => announce(&info, out),
                AnnouncerAction::Withhold { slot, reason } => {
                    out.push(Output::Say(format!("slot {slot} is withheld: {reason}")));
                }
            }
        }
        if self.mutant == Some(Mutant::SlotsAfterAnOutage) && !is_bus_connected {
            let (controller, announced_ms) = (self.me, 0);
            let (solution_range, voting_solution_range) = (1, 2);
            self.untold.push(SlotInfo {
                slot,
                global_challenge,
                solution_range,
                voting_solution_range,
                controller,
                announced_ms,
            });
        }
    }

    fn desk(&mut self, event: DeskEvent, now: Duration, out: &mut Vec<Output>) {
        for action in self.desk.on(event, now) {
            match action {
                DeskAction::Submit { submission, slot, solution } => {
                    let id = self.id();
                    self.submissions.insert(id, submission);
                    // A number that no connection has, should there be none.
                    let connection = self.connection.unwrap_or_default();
                    out.push(Output::Submit { id, connection, slot, solution });
                }
                DeskAction::HandedToNode { public_key } => {
                    self.asking(AskingEvent::HandedToNode { public_key }, now, out);
                }
                DeskAction::Answer { ask, answer, .. } => {
                    let Some(to) = self.asks.remove(&ask) else { continue };
                    out.push(Output::Reply { to, payload: answer.to_bytes().unwrap() });
                }
                DeskAction::End => out.push(Output::Exit("it was told to end".to_owned())),
            }
        }
    }

    fn asking(&mut self, event: AskingEvent, now: Duration, out: &mut Vec<Output>) {
        for action in self.asking.on(event, now) {
            match action {
                AskingAction::Ask { request, patience } => {
                    let (id, subject) = (self.id(), subjects::signature(&request.public_key));
                    let wanted = Wanted { hash: request.hash, public_key: request.public_key };
                    self.wishes.insert(id, wanted);
                    let payload = request.to_bytes().unwrap();
                    out.push(Output::Ask { id, subject, payload, timeout: patience });
                }
                AskingAction::Submit { wanted, signature } => {
                    let result = match self.connection {
                        Some(connection) => {
                            out.push(Output::Sign { connection, hash: wanted.hash, signature });
                            Ok(())
                        }
                        None => Err("the node is away".to_owned()),
                    };
                    self.asking(AskingEvent::Submitted { wanted, result }, now, out);
                }
                AskingAction::Concluded { wanted, outcome, reason } => {
                    let hash = super::trace::short(&wanted.hash);
                    out.push(Output::Say(format!("signature of {hash}: {outcome:?} {reason}")));
                }
            }
        }
    }

    fn answered(&mut self, id: Id, result: Result<Bytes, AskError>, now: Duration, out: &mut Vec<Output>) {
        let Some(wanted) = self.wishes.remove(&id) else { return };
        let event = match result.map(|payload| SigningAnswer::from_bytes(&payload)) {
            Ok(Ok(SigningAnswer::Signed { signature })) => AskingEvent::Signed { wanted, signature },
            Ok(Ok(SigningAnswer::Refused { reason })) => AskingEvent::Refused { wanted, reason },
            Ok(Err(error)) => AskingEvent::Refused { wanted, reason: error.to_string() },
            Err(error) => AskingEvent::Silent { wanted, reason: format!("{error:?}") },
        };
        self.asking(event, now, out);
    }

    fn connected(&mut self, is_connected: bool, now: Duration, out: &mut Vec<Output>) {
        self.is_bus_connected = is_connected;
        if is_connected {
            for mut info in std::mem::take(&mut self.untold) {
                info.announced_ms = now.as_millis() as u64;
                announce(&info, out);
            }
        }
    }
}

impl Member for Controller {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        self.presence.on(&input, now, &mut self.next_id, out);
        self.earn(input.clone(), now, out);
        let Self { keeping, presence, connection, next_id, .. } = self;
        keeping.on(&input, &mut Around { now, ids: next_id, connection: *connection, presence, out });
    }

    fn wake_at(&self) -> Option<Duration> {
        let earning = self.desk.wake_at().into_iter().chain(self.asking.wake_at());
        earning.chain(self.keeping.wake_at()).chain([self.presence.wake_at()]).min()
    }

    fn view(&self) -> View {
        View { agreed: self.keeping.agreed(), knows: self.keeping.knows(), ..View::default() }
    }
}

impl Controller {
    /// The part of a controller that earns.
    fn earn(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        match input {
            Input::Start => out.push(Output::Subscribe(subjects::solution(self.me))),
            Input::Connected(is_connected) => self.connected(is_connected, now, out),
            Input::Message { payload, reply_to: Some(to), .. } => {
                let Ok(found) = SolutionFound::from_bytes(&payload) else { return };
                let ask = Ask(self.id());
                self.asks.insert(ask, to);
                if self.mutant == Some(Mutant::AnyChallenge) {
                    let (slot, global_challenge) = (found.slot, found.global_challenge);
                    self.desk(DeskEvent::Announced(SlotKey { slot, global_challenge }), now, out);
                }
                self.desk(DeskEvent::Asked { ask, found: Box::new(found) }, now, out);
            }
            Input::Answer { id, result } => self.answered(id, result, now, out),
            Input::Node(input) => self.node(input, now, out),
            Input::End => {
                self.announcer.on(AnnouncerEvent::Shutdown, now);
                self.desk(DeskEvent::Shutdown, now, out);
            }
            Input::Tick => {
                self.desk(DeskEvent::Tick, now, out);
                self.asking(AskingEvent::Tick, now, out);
            }
            _ => {}
        }
    }
}

fn announce(info: &SlotInfo, out: &mut Vec<Output>) {
    let (subject, payload) = (subjects::SLOT.to_owned(), info.to_bytes().unwrap());
    out.push(Output::Publish { subject, payload });
}

/// The node's answers in the finders' words.
fn translate(answer: &NodeAnswer) -> SolutionAnswer {
    match answer {
        NodeAnswer::Done => SolutionAnswer::Queued,
        NodeAnswer::Ignored => SolutionAnswer::NotSent { reason: "the node ignored it".to_owned() },
        NodeAnswer::NotSent => SolutionAnswer::NotSent { reason: "the node was gone".to_owned() },
        other => SolutionAnswer::Unknown { reason: format!("{other:?}") },
    }
}
