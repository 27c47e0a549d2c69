//! What goes wrong, and when: drawn from the seed. Each fault ends by itself, and all have ended when the quiet begins.

use super::random::Random;
use std::time::Duration;

/// What goes wrong on the way now.
#[derive(Clone, Copy, Default)]
pub struct Weather {
    /// Share of core messages lost.
    pub loss: f64,
    /// Share of core messages that come up to two seconds late.
    pub late: f64,
    /// Share of durable writes whose answer is lost.
    pub lost_answers: f64,
    /// Share of reads that are of a follower that lags.
    pub stale: f64,
}

impl Weather {
    /// Whether every message comes, soon.
    pub fn is_calm(&self) -> bool {
        self.loss == 0.0 && self.late == 0.0
    }
}

/// One thing that goes wrong, or is mended.
#[derive(Debug, Clone)]
pub enum Fault {
    Weather(Weather),
    Leader(bool),
    EmptyStore,
    /// A controller comes back on another host, which remembers nothing.
    Forget(usize),
    Kill(usize),
    Start(usize),
    /// A controller or plot-client is told to end, as by an operator who starts it anew.
    End(usize),
    Pause(usize),
    Resume(usize),
    Bus {
        member: usize,
        connected: bool,
    },
    StopNode(usize),
    StartNode(usize),
    Silence {
        node: usize,
        silent: bool,
    },
    Branch {
        node: usize,
        branch: u64,
    },
    Again {
        node: usize,
    },
}

impl std::fmt::Debug for Weather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "loss {:.2}, late {:.2}, lost answers {:.2}, stale {:.2}",
            self.loss, self.late, self.lost_answers, self.stale
        )
    }
}

/// Draws the faults of a run between `from` and `until`, one every few seconds.
pub fn draw(
    random: &mut Random,
    members: usize,
    groups: &[Vec<usize>],
    nodes: usize,
    from: Duration,
    until: Duration,
) -> Vec<(Duration, Fault)> {
    let (mut faults, mut at) = (Vec::new(), from);
    loop {
        at += random.millis(300, 9000);
        if at >= until {
            break;
        }
        let end = (at + random.millis(200, 25_000)).min(until);
        let (member, node) = (random.below(members as u64) as usize, random.below(nodes as u64) as usize);
        let pair = match random.below(13) {
            0 => (Fault::Weather(storm(random)), Some(Fault::Weather(Weather::default()))),
            1 => (Fault::Leader(false), Some(Fault::Leader(true))),
            2 if random.chance(0.3) => (Fault::EmptyStore, None),
            2 | 3 => (Fault::Kill(member), Some(Fault::Start(member))),
            4 => (Fault::Pause(member), Some(Fault::Resume(member))),
            5 => (Fault::Bus { member, connected: false }, Some(Fault::Bus { member, connected: true })),
            6 => (Fault::StopNode(node), Some(Fault::StartNode(node))),
            7 => (Fault::Silence { node, silent: true }, Some(Fault::Silence { node, silent: false })),
            8 => {
                (Fault::Branch { node, branch: 1 + random.below(3) }, Some(Fault::Branch { node, branch: 0 }))
            }
            9 => (Fault::Again { node }, None),
            11 => {
                let group = &groups[random.below(2) as usize];
                (Fault::End(group[random.below(group.len() as u64) as usize]), None)
            }
            10 => {
                // All of one role, or all there are; sometimes for long, and sometimes the store is another when they come back.
                let all: Vec<_> = (0..members).collect();
                let group = random.below(groups.len() as u64) as usize;
                let group = if random.chance(0.2) { &all } else { &groups[group] };
                let end = if random.chance(0.3) { until } else { end };
                for &member in group {
                    faults.push((at, Fault::Kill(member)));
                    faults.push((end + random.millis(0, 900), Fault::Start(member)));
                }
                if random.chance(0.3) {
                    let between = at + (end - at) / 2;
                    faults.push((between, Fault::EmptyStore));
                    let forget = random.chance(0.5).then(|| groups[0].iter().filter(|it| group.contains(it)));
                    faults.extend(forget.into_iter().flatten().map(|it| (between, Fault::Forget(*it))));
                }
                continue;
            }
            _ => {
                // All of the bus at once, as when its only server restarts.
                for member in 0..members {
                    faults.push((at, Fault::Bus { member, connected: false }));
                    faults.push((end + random.millis(0, 900), Fault::Bus { member, connected: true }));
                }
                continue;
            }
        };
        faults.push((at, pair.0));
        faults.extend(pair.1.map(|mended| (end, mended)));
    }
    mend_all(&mut faults, members, nodes, until);
    faults
}

/// Whatever overlapped and mended another too early or too late is well again in the end.
fn mend_all(faults: &mut Vec<(Duration, Fault)>, members: usize, nodes: usize, until: Duration) {
    faults.push((until, Fault::Weather(Weather::default())));
    faults.push((until, Fault::Leader(true)));
    for node in 0..nodes {
        faults.extend(
            [
                Fault::StartNode(node),
                Fault::Silence { node, silent: false },
                Fault::Branch { node, branch: 0 },
            ]
            .map(|fault| (until, fault)),
        );
    }
    for member in 0..members {
        faults.extend(
            [Fault::Start(member), Fault::Resume(member), Fault::Bus { member, connected: true }]
                .map(|fault| (until, fault)),
        );
    }
}

fn storm(random: &mut Random) -> Weather {
    let mut share = |most: u64| random.below(most) as f64 / 100.0;
    Weather { loss: share(30), late: share(30), lost_answers: share(40), stale: share(60) }
}
