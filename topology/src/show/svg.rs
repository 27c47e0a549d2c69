//! The machine as a drawing: every CPU in its core, L3 cache and node, in the colour of the instance that runs there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{devices, given, memory, summary};
use crate::machine::{Core, Machine};
use crate::placement::{Assignment, Kind, Plan, Thread};

/// All lengths in pixels.
const WIDTH: usize = 1280;
const MARGIN: usize = 16;
const LINE: usize = 20;
const CPU_WIDTH: usize = 38;
const CPU_HEIGHT: usize = 24;
const GAP: usize = 6;
/// Degrees between the colours of neighbouring instances: the golden angle, so that none come close to each other.
const HUE_STEP: usize = 137;

/// Who runs on a CPU: which instance of the plan, and which thread of it.
type Users<'a> = BTreeMap<u32, Vec<(usize, &'a Thread)>>;

/// An SVG of its own, to be looked at in a browser.
pub fn svg(machine: &Machine, plan: &Plan) -> String {
    let mut users = Users::new();
    for (index, assignment) in plan.plan.iter().enumerate() {
        for thread in &assignment.threads {
            thread.pus.iter().for_each(|cpu| users.entry(cpu).or_default().push((index, thread)));
        }
    }
    let mut drawing = Drawing { body: String::new(), y: MARGIN };
    drawing.line(&format!("{}: {}", machine.source, summary(machine)), "bold");
    drawing.line(&format!("CPUs given: {}", given(machine)), "normal");
    for node in &machine.nodes {
        let package = machine.package_of_node(node.index);
        let package = package.map_or_else(|| "no cores".into(), |package| format!("package {package}"));
        drawing.y += GAP;
        drawing.line(&format!("node {}: {package}, {}", node.index, memory(node.memory_bytes)), "bold");
        drawing.cores(machine, node.index, &plan.plan, &users);
        let near = devices(machine).into_iter().filter(|device| device.pci.is_near(node.index));
        for device in near {
            drawing.line(&format!("▪ {} {} {}", device.name, device.pci.bus_id, device.about), "normal");
        }
    }
    let nowhere = devices(machine).into_iter().filter(|device| device.pci.near.is_empty());
    for device in nowhere {
        drawing.line(&format!("▪ {} {}: on no known node", device.name, device.pci.bus_id), "normal");
    }
    drawing.y += GAP;
    drawing.legend(&plan.plan);
    plan.warnings.iter().for_each(|warning| drawing.line(&format!("! {warning}"), "normal"));
    drawing.finish()
}

struct Drawing {
    body: String,
    /// Where the next line begins.
    y: usize,
}

impl Drawing {
    fn line(&mut self, text: &str, weight: &str) {
        let (y, text) = (self.y + LINE - GAP, escape(text));
        let _ = writeln!(self.body, "<text x=\"{MARGIN}\" y=\"{y}\" font-weight=\"{weight}\">{text}</text>");
        self.y += LINE;
    }

    /// The cores of a node, each L3 cache in a frame.
    fn cores(&mut self, machine: &Machine, node: u32, plan: &[Assignment], users: &Users) {
        let cores: Vec<&Core> = machine.cores_of_node(node).collect();
        let threads = cores.iter().map(|core| core.cpus.len()).max().unwrap_or(0);
        let row_height = threads * CPU_HEIGHT + 2 * GAP;
        let mut x = MARGIN;
        for cache in cores.chunk_by(|a, b| a.l3 == b.l3) {
            // A cache that is wider than the drawing goes on in the next row.
            for part in cache.chunks((WIDTH - 2 * MARGIN - GAP) / (CPU_WIDTH + GAP)) {
                let width = part.len() * (CPU_WIDTH + GAP) + GAP;
                if x > MARGIN && x + width > WIDTH - MARGIN {
                    (x, self.y) = (MARGIN, self.y + row_height + GAP);
                }
                let y = self.y;
                let _ = writeln!(
                    self.body,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{row_height}\" rx=\"4\" fill=\"#f4f4f4\" stroke=\"#999\"/>"
                );
                for (index, core) in part.iter().enumerate() {
                    let x = x + GAP + index * (CPU_WIDTH + GAP);
                    for (row, &cpu) in core.cpus.iter().enumerate() {
                        let is_given = machine.allowed.contains(cpu);
                        self.cpu(x, y + GAP + row * CPU_HEIGHT, cpu, is_given, users.get(&cpu), plan);
                    }
                }
                x += width + GAP;
            }
        }
        if !cores.is_empty() {
            self.y += row_height + GAP;
        }
    }

    fn cpu(
        &mut self,
        x: usize,
        y: usize,
        cpu: u32,
        is_given: bool,
        users: Option<&Vec<(usize, &Thread)>>,
        plan: &[Assignment],
    ) {
        let users = users.map_or(&[][..], |users| users);
        let fill = match users.first() {
            Some((index, thread)) => colour(*index, thread.kind),
            None if is_given => "#ffffff".into(),
            None => "#cccccc".into(),
        };
        let signs: String = users.iter().map(|(_, thread)| sign(thread.kind)).collect();
        let who = |(index, thread): &(usize, &Thread)| format!("{}: {}", label(&plan[*index]), thread.name);
        let names: Vec<_> = users.iter().map(who).collect();
        let about = match (is_given, names.is_empty()) {
            (false, _) => "not given to this process".into(),
            (true, true) => "idle".into(),
            (true, false) => escape(&names.join("; ")),
        };
        let (text_x, text_y) = (x + CPU_WIDTH / 2, y + CPU_HEIGHT - GAP - 1);
        let _ = writeln!(
            self.body,
            "<g><title>CPU {cpu}: {about}</title><rect x=\"{x}\" y=\"{y}\" width=\"{CPU_WIDTH}\" height=\"{CPU_HEIGHT}\" fill=\"{fill}\" \
             stroke=\"#666\"/><text x=\"{text_x}\" y=\"{text_y}\" text-anchor=\"middle\" font-size=\"11\">{cpu}{signs}</text></g>"
        );
    }

    fn legend(&mut self, plan: &[Assignment]) {
        for (index, assignment) in plan.iter().enumerate() {
            let (y, fill) = (self.y, colour(index, Kind::Executor));
            let _ = writeln!(
                self.body,
                "<rect x=\"{MARGIN}\" y=\"{y}\" width=\"14\" height=\"14\" fill=\"{fill}\"/>"
            );
            let gpu =
                assignment.gpu.as_ref().map_or_else(String::new, |gpu| format!(", GPU {}", gpu.pci_bus_id));
            let (x, y, text) = (MARGIN + LINE, y + 12, escape(&format!("{}{gpu}", label(assignment))));
            let _ = writeln!(self.body, "<text x=\"{x}\" y=\"{y}\">{text}</text>");
            self.y += LINE;
        }
        self.line(
            "F feeder, E executor, C compute, n control; white: idle; grey: not given to this process",
            "normal",
        );
    }

    fn finish(self) -> String {
        let height = self.y + MARGIN;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn label(assignment: &Assignment) -> String {
    format!("{} {}", assignment.role, assignment.instance)
}

fn sign(kind: Kind) -> char {
    match kind {
        Kind::Feeder => 'F',
        Kind::Executor => 'E',
        Kind::Compute => 'C',
        Kind::Control => 'n',
    }
}

/// One hue an instance, the darker the fewer CPUs a thread of its kind has.
fn colour(instance: usize, kind: Kind) -> String {
    let lightness = match kind {
        Kind::Feeder => 55,
        Kind::Executor => 68,
        Kind::Compute => 84,
        Kind::Control => 92,
    };
    format!("hsl({}, 65%, {lightness}%)", instance * HUE_STEP % 360)
}

/// Text as XML takes it; names of files and devices may hold anything.
fn escape(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
