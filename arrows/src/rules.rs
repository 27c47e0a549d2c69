//! Which crate may depend on which: arrows point only downwards. [`SEATS`] is the order of the house that `docs/ARCHITECTURE.md` draws,
//! and the one place to change when a crate comes or goes.

/// A crate and what it may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The crate.
    pub name: &'static str,
    /// Crates of the workspace below it.
    pub stands_on: &'static [&'static str],
    /// Crates that its tests may use besides.
    pub in_tests: &'static [&'static str],
}

/// What the roles are made of.
const CLUSTER: &[&str] = &["bus", "consensus", "control", "engine", "gpu", "node", "topology", "transport"];
/// All that a binary or a benchmark can be made of.
const ALL: &[&str] = &[
    "bus",
    "cluster",
    "consensus",
    "control",
    "devnet",
    "engine",
    "farmer",
    "gpu",
    "node",
    "topology",
    "transport",
];

/// All crates, from the bottom. One that is missing here may not depend on anything: it is to be given its seat.
pub const SEATS: &[Seat] = &[
    seat("consensus", &[]),
    seat("topology", &[]),
    seat("arrows", &[]),
    seat("engine", &["consensus", "topology"]),
    seat("transport", &["consensus", "engine"]),
    seat("gpu", &["consensus", "engine"]),
    seat("control", &["consensus"]),
    seat("bus", &["consensus", "control"]),
    seat("node", &["consensus", "control", "engine"]),
    seat("devnet", &["consensus", "control", "engine", "node"]),
    // Its tests farm on a development node.
    Seat { name: "cluster", stands_on: CLUSTER, in_tests: &["devnet"] },
    seat("farmer", ALL),
    seat("benches", ALL),
    seat("fuzz", ALL),
];

const fn seat(name: &'static str, stands_on: &'static [&'static str]) -> Seat {
    Seat { name, stands_on, in_tests: &[] }
}

/// What decides in the cluster must run without a runtime, so that tests can play it as they like: time comes in as a number.
const RUNTIMES: &[&str] = &["async", "futures", "glommio", "jsonrpsee", "mio", "smol", "tokio"];

/// Why a crate must not depend on another, of the workspace or not; nothing where it may. `ours` are the crates of the workspace.
pub fn refusal(from: &str, to: &str, in_tests: bool, ours: &[String]) -> Option<String> {
    let seat = SEATS.iter().find(|seat| seat.name == from);
    if ours.iter().any(|name| name == to) {
        let Some(seat) = seat else {
            return Some(format!("{from} has no seat: say in arrows/src/rules.rs what it stands on"));
        };
        let below = seat.stands_on.contains(&to) || in_tests && seat.in_tests.contains(&to);
        return (from != to && !below).then(|| format!("{from} does not stand on {to}"));
    }
    match to {
        "glommio" if from != "engine" => Some("only engine may import glommio".into()),
        _ if from == "control" && is_runtime(to) => {
            Some(format!("control decides without a runtime, and {to} is one or needs one"))
        }
        _ => None,
    }
}

fn is_runtime(name: &str) -> bool {
    let first = name.split(['-', '_']).next().unwrap_or(name);
    RUNTIMES.contains(&first)
}
