//! `autonomys-farmer topology` as a process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn topology(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.arg("topology").args(arguments).output().expect("the program starts")
}

fn printed(arguments: &[&str]) -> String {
    let output = topology(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the program prints text")
}

/// The plan as JSON.
fn plan(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(&[arguments, &["--json"]].concat())).expect("the program prints JSON")
}

/// Ends with exit code 1 (2 if the command line cannot be read) and a text that has all of `words`.
fn refused(code: i32, arguments: &[&str], words: &[&str]) {
    let output = topology(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
}

#[cfg(feature = "hwloc")]
fn guide_host() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../topology/tests/machines/guide-host.xml");
    path.to_str().expect("the path is text").to_owned()
}

/// All CPUs of an entry of a plan.
fn cpus(assignment: &Value) -> Vec<u64> {
    let threads = assignment["threads"].as_array().unwrap();
    threads
        .iter()
        .flat_map(|thread| thread["pus"].as_array().unwrap())
        .map(|cpu| cpu.as_u64().unwrap())
        .collect()
}

#[test]
fn this_machine_is_planned_within_the_cpus_of_this_process() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let given: topology::Cpus =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().parse().unwrap();
    let plan = plan(&["--role", "plot-client,proof-server"]);
    let entries = plan["plan"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert!(cpus(entry).iter().all(|&cpu| given.contains(u32::try_from(cpu).unwrap())), "{entry}");
    }
    let roster = tempfile::tempdir().unwrap();
    let nobody = printed(&["--running", "--roster", roster.path().to_str().unwrap()]);
    assert!(nobody.contains("plan") && !nobody.contains("control"), "{nobody}");
}

#[test]
fn a_process_given_one_cpu_plans_with_that_one() {
    let given = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = given.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let last = list.parse::<topology::Cpus>().unwrap().iter().next_back().unwrap();
    let output = Command::new("taskset")
        .args(["-c", &last.to_string(), env!("CARGO_BIN_EXE_autonomys-farmer"), "topology", "--json"])
        .output();
    let Ok(output) = output else { return println!("skipped: there is no taskset here") };
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cpus: Vec<_> = plan["plan"].as_array().unwrap().iter().flat_map(cpus).collect();
    assert!(!cpus.is_empty() && cpus.iter().all(|&cpu| cpu == u64::from(last)), "{plan}");
}

#[cfg(feature = "hwloc")]
#[test]
fn the_guides_host_as_json_table_and_drawing() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("machine.svg");
    let host = guide_host();
    let table = printed(&["--xml", &host, "--svg", svg.to_str().unwrap()]);
    assert!(table.contains("far from the network (eth0)"), "{table}");
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg "));
    let plan = plan(&["--xml", &host]);
    let server = &plan["plan"][2];
    assert_eq!((&server["gpu"]["ordinal"], &server["gpu"]["numa_node"]), (&2.into(), &1.into()));
    assert!(cpus(server).iter().all(|cpu| (48..96).contains(cpu) || (144..192).contains(cpu)), "{server}");
}

#[cfg(feature = "hwloc")]
#[test]
fn what_cannot_be_meant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.xml");
    std::fs::write(&broken, "<topology").unwrap();
    refused(1, &["--xml", broken.to_str().unwrap()], &["broken.xml", "lstopo"]);
    refused(1, &["--xml", "/absent.xml"], &["/absent.xml"]);
    refused(1, &["--xml", &guide_host(), "--cpu-cores", "500"], &["no CPUs 500", "0-191"]);
    refused(1, &["--xml", &guide_host(), "--numa-node", "2"], &["no node 2"]);
    refused(1, &["--synthetic", "core:99999999 pu:99999999"], &["4096"]);
    refused(1, &["--synthetic", "core:2 pu:1 | fpga@0"], &["fpga@0", "gpu@NODE"]);
    refused(1, &["--synthetic", "core:2 pu:1", "--svg", "/absent/x.svg"], &["/absent/x.svg"]);
    refused(2, &["--cpu-cores", "a-b"], &["--cpu-cores", "0-47,96-143"]);
    refused(2, &["--cpu-cores", "0-4000000000"], &["4000000000"]);
    refused(2, &["--role", "miner"], &["miner", "plot-server"]);
    refused(2, &["--xml", "a", "--synthetic", "b"], &["--xml"]);
}
