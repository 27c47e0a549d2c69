//! What goes wrong, done to the world.

use super::faults::Fault;
use super::member::NodeInput;
use super::world::World;
use std::time::Duration;

impl World {
    /// Has it done to it.
    pub(super) fn suffer(&mut self, fault: &Fault) {
        self.say(|| format!("FAULT {fault:?}"));
        match *fault {
            Fault::Weather(weather) => (self.weather, self.weather_at) = (weather, self.now),
            Fault::Leader(has_leader) => self.lead(has_leader),
            Fault::EmptyStore => self.empty_store(),
            Fault::Forget(member) if self.processes[member].member.is_none() => {
                self.processes[member].disk.remembered = None;
            }
            Fault::Forget(_) => {}
            Fault::Kill(member) => self.kill(member),
            Fault::Start(member) => self.start(member),
            Fault::End(member) => self.end(member),
            Fault::Pause(member) => self.pause(member),
            Fault::Resume(member) => self.resume(member),
            Fault::Bus { member, connected } => self.set_connected(member, connected),
            Fault::StopNode(node) => {
                for member in self.nodes[node].stop() {
                    let run = self.processes[member].run;
                    self.lose_node(member, run);
                }
            }
            Fault::StartNode(node) => self.nodes[node].up = true,
            Fault::Silence { node, silent } => self.nodes[node].silent = silent,
            Fault::Branch { node, branch } => {
                self.nodes[node].branch = branch;
                let slot = self.now.as_secs();
                // The proof of time took another turn: the present slot comes again with another challenge.
                if self.nodes[node].up && slot > 0 {
                    let said = self.nodes[node].announce(slot);
                    self.tell(node, &[said], Duration::from_millis(5));
                }
            }
            Fault::Again { node } => {
                let slot = self.now.as_secs();
                if self.nodes[node].up && slot > 0 {
                    let said: NodeInput = self.nodes[node].announce(slot);
                    self.tell(node, &[said], Duration::from_millis(5));
                }
            }
        }
    }
}
