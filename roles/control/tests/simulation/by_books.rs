//! What the world writes into its books, and the verdicts that need to see more than one member.

use super::checks::{Found, Run};
use super::disk::Change;
use super::member::{Input, NodeInput, ReplyTo, SolutionName, name_of};
use super::plot_client::FARMING_TIMEOUT;
use super::world::{Happening, Process, World};
use bytes::Bytes;
use consensus::solution::Solution;
use control::messages::{
    ClusterInfo, Control, RewardSigningRequest, SigningAnswer, SlotInfo, SolutionAnswer, SolutionFound,
    subjects,
};
use control::slots::SlotKey;
use control::solutions::{Handover, SolutionKey};
use std::collections::BTreeSet;
use std::time::Duration;

/// A controller that is well for so long after a solution was found must have been asked, and must have sent it.
const TO_SEND: Duration = Duration::from_secs(1);
/// Who is well for so long has been told what others know, and tells what he knows.
const TO_TELL: Duration = Duration::from_secs(3);
/// Slots that a node announces within that time, at most; so many must be left until it forgets one.
const SLOTS_LEFT: usize = 2;

impl World {
    /// What comes to a member, at the moment when it looks at it.
    pub(super) fn note_heard(&mut self, member: usize, run: u64, input: &Input) {
        match input {
            Input::Message { subject, payload, .. } if subject == "slot" => {
                if let Ok(info) = SlotInfo::from_bytes(payload) {
                    self.ledger.heard.insert(((member, run), info.controller, SlotKey::from(&info)));
                }
            }
            Input::Node(NodeInput::Slot { slot, challenge }) => {
                let key = SlotKey { slot: *slot, global_challenge: *challenge };
                self.ledger.told.insert((member, key), self.now);
            }
            Input::Message { payload, reply_to: Some(to), .. } => {
                if let Ok(request) = RewardSigningRequest::from_bytes(payload) {
                    self.ledger.ask_to_sign(member, *to, request, self.now);
                }
            }
            Input::Answer { id, result } => {
                let is_not_taken = match result {
                    Ok(payload) => {
                        SolutionAnswer::from_bytes(payload).is_ok_and(|answer| answer.is_not_taken())
                    }
                    Err(error) => error.is_not_delivered(),
                };
                if is_not_taken {
                    self.ledger.not_taken(ReplyTo { member, run, id: *id }, self.now);
                }
            }
            _ => {}
        }
    }

    /// A message leaves a member. A controller tells of a slot when its node does, or never.
    pub(super) fn note_published(&mut self, member: usize, subject: &str, payload: &Bytes) {
        if subject != subjects::SLOT || self.processes[member].node.is_none() {
            return;
        }
        let Ok(info) = SlotInfo::from_bytes(payload) else { return };
        let told = self.ledger.told.get(&(member, SlotKey::from(&info))).copied();
        let (slot, name) = (info.slot, &self.processes[member].name);
        self.ledger.check(told == Some(self.now), || {
            format!("{name} told of slot {slot}, which its node told it {told:?}")
        });
    }

    /// A request leaves a member.
    pub(super) fn note_asked(&mut self, from: ReplyTo, subject: &str, payload: &Bytes) {
        let Some(controller) = subject.strip_prefix("solution.").and_then(|id| id.parse().ok()) else {
            return;
        };
        let Ok(found) = SolutionFound::from_bytes(payload) else { return };
        let Ok(solution) = Solution::from_bytes(&found.solution) else { return };
        let (name, key) = (name_of(&solution), solution.public_key);
        let written = Handover { solution: SolutionKey::of(found.slot, &solution), controller };
        let is_written =
            self.processes[from.member].disk.handovers.iter().any(|(handover, _)| *handover == written);
        self.ledger.check(is_written, || "a solution left before it was written down".to_owned());
        self.ledger.hand_over(from, name, key, controller, self.now);
    }

    /// A member writes to its disk.
    pub(super) fn note_written(&mut self, run: Run, change: &Change) {
        if let Change::Handover(Handover { solution, .. }) = change {
            let name = solution.chunk[..16].try_into().expect("it has 32 bytes");
            self.ledger.write_down(run, name);
        }
    }

    /// An answer leaves a member.
    pub(super) fn note_reply(&mut self, member: usize, to: ReplyTo, payload: &Bytes) {
        if let Ok(SigningAnswer::Signed { signature }) = SigningAnswer::from_bytes(payload) {
            let (disk, now) = (&self.processes[member].disk, self.now);
            self.ledger.sign(member, to, signature, now, |hash| disk.signatures.get(&hash).copied());
        }
    }

    /// A member found a solution.
    pub(super) fn find(&mut self, member: usize, run: u64, solution: SolutionName, slot: SlotKey) {
        let able = (0..self.processes.len()).filter(|&other| {
            let id = self.processes[other].id;
            self.is_able(other, &slot) && self.ledger.heard.contains(&((member, run), id, slot))
        });
        let able = able.map(|other| (other, self.processes[other].run)).collect();
        let announced = (0..self.processes.len()).filter(|other| {
            let process = &self.processes[*other];
            process.member.is_some() && self.ledger.heard.contains(&((member, run), process.id, slot))
        });
        let announced = announced.map(|other| (other, self.processes[other].run)).collect();
        let found = Found { at: self.now, slot, announced, able, was_sendable: false, outcome: None };
        self.ledger.find((member, run), solution, found);
        self.plan(TO_SEND, Happening::Judge { run: (member, run), solution });
    }

    /// Whether a controller could send a solution now, and for a while.
    fn is_able(&self, member: usize, slot: &SlotKey) -> bool {
        let process = &self.processes[member];
        let Some(node) = process.node.map(|node| &self.nodes[node]) else { return false };
        let Some(connection) = node.connections.get(&member) else { return false };
        let wanted = (slot.slot, slot.global_challenge);
        // The newest slots, each with its last challenge.
        let mut newest: Vec<(u64, [u8; 32])> = Vec::new();
        for known in connection.announced.iter().rev() {
            if newest.len() < 4 - SLOTS_LEFT && newest.iter().all(|(slot, _)| *slot != known.0) {
                newest.push(*known);
            }
        }
        let is_well = process.member.is_some()
            && !process.is_ending
            && !process.paused
            && process.connected
            && !node.silent;
        is_well && node.up && newest.contains(&wanted)
    }

    /// Whether it was possible to send it, the whole time until now.
    pub(super) fn judge(&mut self, run: Run, solution: SolutionName) {
        let Some(found) = self.ledger.found.get(&(run, solution)) else { return };
        let undisturbed = |(member, run): Run| {
            let process = &self.processes[member];
            let is_here =
                process.run == run && process.member.is_some() && process.connected && !process.paused;
            is_here && process.disturbed_at < found.at
        };
        let is_calm = self.weather.is_calm() && self.weather_at + Duration::from_secs(3) < found.at;
        let can_send = |able: &Run| {
            let node = self.processes[able.0].node.expect("a controller has one");
            // While it was written down for whom it is, that one's node may have announced the slot with another challenge.
            let announced = self.nodes[node].connections.get(&able.0).map(|known| &known.announced[..]);
            let mut last = announced.into_iter().flatten().rev();
            let is_same = last
                .find(|(slot, _)| *slot == found.slot.slot)
                .is_some_and(|(_, challenge)| *challenge == found.slot.global_challenge);
            is_same && undisturbed(*able) && !self.ledger.ignored.contains(&(solution, node))
        };
        // The finder may have asked any that announced it; one that stands still keeps it waiting.
        let all_answer = found.announced.iter().all(|run| undisturbed(*run));
        let is_live = found.at + TO_SEND < Duration::from_secs(found.slot.slot) + FARMING_TIMEOUT;
        let was_sendable =
            is_calm && is_live && undisturbed(run) && all_answer && found.able.iter().any(can_send);
        let found = self.ledger.found.get_mut(&(run, solution)).expect("it was there");
        found.was_sendable = was_sendable;
        self.ledger.look_at_outcome(run, solution);
    }

    pub(super) fn note_settings_read(&mut self, run: Run, value: &Bytes) {
        if let Ok(info) = ClusterInfo::from_bytes(value) {
            self.ledger.read_history(run, info.protocol_info.history_size);
        }
    }

    pub(super) fn note_settings_written(&mut self, run: Run, value: &Bytes) {
        let Ok(info) = ClusterInfo::from_bytes(value) else { return };
        self.ledger.write_chain(info.genesis_hash);
        let segments = info.protocol_info.history_size;
        let placed: BTreeSet<_> = (0..segments).filter(|segment| self.is_placed(*segment)).collect();
        let heard = self.heard_history(run);
        let remembers = self.processes[run.0].disk.remembered.is_some();
        self.ledger.write_history(run, segments, heard, remembers, |segment| placed.contains(&segment));
        self.say(|| format!("settings: {segments} segments"));
    }

    /// The longest history that a controller must have been told of, if it found no settings: by those who run and hear it.
    fn heard_history(&self, (writer, _): Run) -> Option<u64> {
        let is_well = |process: &Process| {
            let is_here = process.member.is_some() && process.connected && !process.paused;
            is_here && process.disturbed_at + TO_TELL < self.now
        };
        if !self.weather.is_calm()
            || self.now < self.weather_at + TO_TELL
            || !is_well(&self.processes[writer])
        {
            return None;
        }
        let of = |process: &Process| process.member.as_ref().and_then(|member| member.view().knows);
        self.processes.iter().filter(|process| is_well(process)).filter_map(of).max()
    }

    /// Who holds a key now.
    pub fn holders(&self, key: &[u8; 32]) -> Vec<usize> {
        let holds = |member: &usize| {
            let process = &self.processes[*member];
            process.member.as_ref().is_some_and(|machine| machine.view().holds.contains(key))
        };
        (0..self.processes.len()).filter(holds).collect()
    }

    /// Two that hold one farm must find out while they can hear each other.
    pub(super) fn look_at_holders(&mut self) {
        for key in self.keys.clone() {
            let holders = self.holders(&key);
            let last = holders.iter().map(|member| self.processes[*member].disturbed_at).max();
            let since = last.unwrap_or_default().max(self.weather_at);
            let hear = |member: &usize| self.processes[*member].connected && !self.processes[*member].paused;
            let is_long = self.now > since + super::checks::TWO_HOLDERS;
            let is_wrong = holders.len() > 1 && holders.iter().all(hear) && self.weather.is_calm() && is_long;
            self.ledger.check(!is_wrong, || format!("two plot-clients hold one farm: {holders:?}"));
        }
        self.plan(Duration::from_millis(500), Happening::LookAtHolders);
    }
}
