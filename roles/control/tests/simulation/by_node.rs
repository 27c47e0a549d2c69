//! What nodes say and are told.

use super::member::{Input, NodeAnswer, NodeInput, Output, name_of};
use super::nodes::SIGNING_LIMIT;
use super::world::{Happening, World};
use consensus::solution::Solution;
use std::time::Duration;

impl World {
    pub(super) fn slot(&mut self, slot: u64) {
        for node in 0..self.nodes.len() {
            let said = self.nodes[node].slot(slot);
            let delay = self.random.millis(0, 120);
            self.tell(node, &said, delay);
            self.plan(Duration::ZERO, Happening::Signing { node });
        }
        if slot < self.slots_end {
            self.plan(Duration::from_secs(1), Happening::Slot(slot + 1));
        }
    }

    pub fn tell(&mut self, node: usize, said: &[NodeInput], delay: Duration) {
        let slots = said.iter().filter_map(|said| match said {
            NodeInput::Slot { slot, challenge } => Some((*slot, *challenge)),
            _ => None,
        });
        let slots: Vec<_> = slots.collect();
        let mut to = Vec::new();
        for (member, connection) in &mut self.nodes[node].connections {
            connection.announced.extend(&slots);
            connection.said_at = connection.said_at.max(self.now + delay);
            to.push((*member, connection.run, connection.said_at - self.now));
        }
        for (member, run, delay) in to {
            for input in said {
                self.plan(delay, Happening::Hear { member, run, input: Input::Node(input.clone()) });
            }
        }
    }

    pub(super) fn signing(&mut self, node: usize) {
        if let Some((hash, key, _)) = self.nodes[node].signing.filter(|(_, _, until)| self.now >= *until) {
            let short = super::trace::short;
            self.say(|| format!("node {node} waits no more for {} by {}", short(&hash), short(&key)));
        }
        if let Some(said) = self.nodes[node].next_to_sign(self.now) {
            self.tell(node, &[said], Duration::from_millis(1));
            self.plan(SIGNING_LIMIT, Happening::Signing { node });
        }
    }

    pub(super) fn archive(&mut self) {
        for node in 0..self.nodes.len() {
            if let Some(said) = self.nodes[node].archive(self.now) {
                let delay = self.random.millis(0, 100);
                self.tell(node, &[said], delay);
            }
        }
    }

    /// A controller's connection is gone; it tries to make another.
    pub(super) fn lose_node(&mut self, member: usize, run: u64) {
        self.processes[member].disturbed_at = self.now;
        self.plan(
            Duration::from_millis(5),
            Happening::Hear { member, run, input: Input::Node(NodeInput::Lost) },
        );
        self.plan(Duration::from_millis(260), Happening::Reconnect { member, run });
    }

    pub(super) fn reconnect(&mut self, member: usize, run: u64) {
        let process = &self.processes[member];
        let (Some(node), true) = (process.node, process.run == run && process.member.is_some()) else {
            return;
        };
        match self.nodes[node].connect(member, run) {
            Some(began) => {
                self.processes[member].disturbed_at = self.now;
                self.hear(member, run, Input::Node(began));
            }
            None => self.plan(Duration::from_millis(250), Happening::Reconnect { member, run }),
        }
    }

    pub(super) fn act_on_node(&mut self, member: usize, run: u64, output: Output) {
        let Some(node) = self.processes[member].node else { return };
        let present = self.nodes[node].connections.get(&member).map(|known| known.number);
        let answered = |id, answer| Input::Node(NodeInput::Answered { id, answer });
        let (id, answer) = match output {
            Output::Submit { id, connection, slot, solution } => {
                let is_present = present == Some(connection);
                (
                    id,
                    if is_present { self.submit(member, node, slot, &solution) } else { NodeAnswer::NotSent },
                )
            }
            Output::Sign { connection, hash, signature } => {
                let is_its = self.ledger.has_left(&hash, &signature);
                self.ledger
                    .check(is_its, || "a node was given a signature that no plot-client gave".to_owned());
                if present == Some(connection) {
                    self.nodes[node].sign(hash);
                    self.plan(Duration::ZERO, Happening::Signing { node });
                }
                return;
            }
            Output::Acknowledge { connection, segment } => {
                if present == Some(connection) {
                    self.check_acknowledged(segment);
                    self.nodes[node].acknowledge(member, segment);
                }
                return;
            }
            Output::Fetch { id, segment } => {
                let has = self.nodes[node].has_pieces(segment, self.now) && self.random.chance(0.9);
                (id, if has { NodeAnswer::Pieces } else { NodeAnswer::NoPieces })
            }
            Output::History { id } if self.nodes[node].up => {
                (id, NodeAnswer::History(self.nodes[node].segments))
            }
            Output::History { id } => (id, NodeAnswer::NotSent),
            _ => return,
        };
        let takes = match answer {
            NodeAnswer::Pieces => self.random.millis(1000, 8000),
            _ => self.random.millis(1, 30),
        };
        self.plan(takes, Happening::Hear { member, run, input: answered(id, answer) });
    }

    /// A solution reaches the node.
    fn submit(&mut self, member: usize, node: usize, slot: u64, solution: &Solution) -> NodeAnswer {
        let (name, wanted) = (name_of(solution), (slot, solution.reward_address));
        let was_announced = self.nodes[node].connections[&member].announced.contains(&wanted);
        self.ledger.check(was_announced, || {
            format!(
                "node {node} was sent a solution for a challenge of slot {slot} that it had not announced"
            )
        });
        let answer = self.nodes[node].submit(slot, name, solution);
        match answer {
            NodeAnswer::Done => self.ledger.queue(node, name),
            _ => drop(self.ledger.ignored.insert((name, node))),
        }
        if self.random.chance(self.weather.loss / 4.0) { NodeAnswer::Unanswered } else { answer }
    }

    /// Somebody durable must hold what is acknowledged.
    fn check_acknowledged(&mut self, segment: u64) {
        let is_held = self.is_held(segment);
        self.ledger.check(is_held, || format!("segment {segment} was acknowledged although nobody holds it"));
    }
}
