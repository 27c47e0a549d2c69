//! The whole cluster, end to end: a real node and NATS server, each role its own process of the binary, by the lines that
//! operators have.
//!
//! Its first run on a machine archives a segment, which takes a while; the chain is kept beside the build.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cluster;
#[allow(dead_code, reason = "shared with the tests of the bus")]
#[path = "../../../shared_tests/nats_server.rs"]
mod nats_server;
mod placement;
#[allow(dead_code, reason = "shared with other tests of processes")]
#[path = "../../../shared_tests/process.rs"]
mod process;
#[path = "../../../shared_tests/stored_chain.rs"]
mod stored_chain;

use std::fs;
use std::process::Command;

use devnet::{Reason, Report};

use cluster::{Cluster, FARMS, PLOT_SERVER_MEMORY_BYTES, PROCESSES, SECTORS};
use placement::{cpus_of_this_process, misplaced, planned_cpus};

/// What a healthy cluster may see rejected: a signature or solution that came too late. Everything else says that somebody
/// computed something wrong, or sent it twice.
const UNLUCKY: [Reason; 2] = [Reason::NotSigned, Reason::Late];

/// The node looks at solutions four slots after theirs, and writes its report once a slot.
const SETTLED_AFTER_SLOTS: u64 = 6;
/// Solutions of whose acceptance the test is sure after the kills.
const MORE_ACCEPTED: u64 = 2;

#[tokio::test]
async fn a_cluster_farms_on_when_a_plot_server_and_a_plot_client_are_killed() {
    let mut cluster = Cluster::start().await;
    cluster.until("a sector in the making", |cluster| cluster.is_making("base-path-0").then_some(())).await;
    are_placed(&mut cluster, PROCESSES).await;
    cluster.get_mut("plot-server-0").kill();
    are_placed(&mut cluster, PROCESSES - 1).await;
    cluster.get_mut("plot-server-0").start_again();
    let sectors = FARMS * usize::from(SECTORS);
    let are_plotted = |cluster: &Cluster| cluster.heard(|heard| heard.stored.len() == sectors).then_some(());
    cluster.until("all sectors plotted", are_plotted).await;
    check_memory(&cluster);

    let farm = cluster.farm_id(1);
    let last_solution = |cluster: &Cluster| {
        cluster.heard(|heard| heard.solutions.iter().rfind(|(_, of)| *of == farm).map(|(slot, _)| *slot))
    };
    cluster.until("a solution of the farm to be killed", last_solution).await;
    cluster.get_mut("plot-client-1").kill();
    let killed_at = cluster.heard(|heard| heard.slot);
    let plotted = bytes_of_farm(&cluster);
    cluster.get_mut("plot-client-1").start_again();
    let farms_again = |cluster: &Cluster| last_solution(cluster).filter(|slot| *slot > killed_at);
    cluster.until("a solution of the farm after the kill", farms_again).await;

    let is_settled = |cluster: &Cluster| cluster.heard(|heard| heard.slot > killed_at + SETTLED_AFTER_SLOTS);
    let settled = |cluster: &Cluster| cluster.report().filter(|_| is_settled(cluster));
    let accepted_before = cluster.until("the end of earlier solutions", settled).await.solutions.accepted;
    cluster
        .until("more accepted solutions", |cluster| {
            cluster.report().filter(|report| report.solutions.accepted >= accepted_before + MORE_ACCEPTED)
        })
        .await;
    are_placed_by_an_experts_hand(&mut cluster).await;
    cluster.end().await;
    check_report(&cluster.report().unwrap());
    check_farms(&cluster);
    assert!(bytes_of_farm(&cluster) == plotted, "the farm was plotted again");
}

/// Everybody is where the plan for those who are alive says.
async fn are_placed(cluster: &mut Cluster, processes: usize) {
    let mut last = None;
    let are_placed = |cluster: &Cluster| {
        let wrong = misplaced(&cluster.roster(), processes);
        if wrong.first() != last.as_ref() {
            last = wrong.first().cloned();
            last.iter().for_each(|first| eprintln!("{} not in place yet: {first}", wrong.len()));
        }
        wrong.is_empty().then_some(())
    };
    cluster.until(&format!("{processes} processes where they are planned"), are_placed).await;
}

/// What is confined by `taskset` stays there, what is not to be bound is not, and the plan says so.
async fn are_placed_by_an_experts_hand(cluster: &mut Cluster) {
    let given = cpus_of_this_process();
    let first = given.iter().next().unwrap();
    cluster.get_mut("sharded-cache").change(&["taskset", "-c", &first.to_string()], &[]);
    cluster.get_mut("full-piece-sharded-cache").change(&[], &["--no-pin"]);
    are_placed(cluster, PROCESSES).await;
    let planned = |role| planned_cpus(&cluster.roster(), role);
    assert_eq!(planned("sharded-cache"), [first].into_iter().collect());
    assert_eq!(planned("full-piece-sharded-cache"), given);
}

/// Hashes of the files that hold the sectors of the farm that is killed.
fn bytes_of_farm(cluster: &Cluster) -> [blake3::Hash; 2] {
    let folder = &cluster.farms()[1];
    ["metadata.bin", "plot.bin"].map(|file| blake3::hash(&fs::read(folder.join(file)).unwrap()))
}

/// Plot-servers, which have plotted by now, took what they were allowed and had said.
fn check_memory(cluster: &Cluster) {
    for name in ["plot-server-0", "plot-server-1"] {
        let server = cluster.get(name);
        let peak_bytes = server.peak_memory_bytes();
        eprintln!("{name} took {peak_bytes} bytes");
        assert!(peak_bytes <= PLOT_SERVER_MEMORY_BYTES, "{name} took {peak_bytes} bytes");
        let log = server.log();
        assert!(log.contains("threads=1 sectors=1 pieces_in_sector=2"), "{name} does not say what it takes");
    }
}

fn check_report(report: &Report) {
    eprintln!("{report:?}");
    let wrong: Vec<_> = report.solutions.rejected.keys().filter(|reason| !UNLUCKY.contains(reason)).collect();
    assert!(wrong.is_empty(), "{report:?}");
    assert_eq!(report.reward_signatures.invalid, 0, "{report:?}");
    assert!(report.reward_signatures.valid >= report.solutions.accepted, "{report:?}");
}

/// Every sector is plotted and whole.
fn check_farms(cluster: &Cluster) {
    let mut scrub = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    let output = scrub.arg("scrub").args(cluster.farms()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}{errors}");
    let good = format!("{SECTORS} sectors: {SECTORS} good, 0 expired before, 0 bad");
    assert_eq!(text.matches(&good).count(), FARMS, "{text}{errors}");
}
