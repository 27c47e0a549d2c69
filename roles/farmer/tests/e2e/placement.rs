//! Whether the threads of all processes are where the plan for this host says, read back from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use topology::Cpus;

/// Threads of the plan by their names; the sets of pools, of which a process may have several, under one.
type Planned = BTreeMap<String, Vec<Cpus>>;

/// What is not where the plan says, in words; empty when everybody is, and `processes` processes are planned.
pub fn misplaced(roster: &Path, processes: usize) -> Vec<String> {
    let mut plan = plan(roster);
    let entries = plan["plan"].as_array_mut().unwrap();
    if entries.len() != processes {
        return vec![format!("{} processes are planned, not {processes}", entries.len())];
    }
    entries.iter().flat_map(|entry| misplaced_of(roster, entry)).collect()
}

fn plan(roster: &Path) -> Value {
    let mut topology = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    let output = topology.args(["topology", "--running", "--json", "--roster"]).arg(roster).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The CPUs that all threads together of the one process of `role` are planned for.
pub fn planned_cpus(roster: &Path, role: &str) -> Cpus {
    let plan = plan(roster);
    let mut entries = plan["plan"].as_array().unwrap().iter().filter(|entry| entry["role"] == role);
    let (entry, None) = (entries.next().unwrap(), entries.next()) else { panic!("several of {role}") };
    entry["threads"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|thread| cpus(thread).iter().collect::<Vec<_>>())
        .collect()
}

/// The CPUs that were given to this process, and so to those that it starts.
pub fn cpus_of_this_process() -> Cpus {
    allowed(&fs::read_to_string("/proc/self/status").unwrap()).unwrap()
}

fn cpus(thread: &Value) -> Cpus {
    let cpus = thread["pus"].as_array().unwrap().iter();
    cpus.map(|cpu| u32::try_from(cpu.as_u64().unwrap()).unwrap()).collect()
}

fn allowed(status: &str) -> Option<Cpus> {
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(allowed.parse().unwrap())
}

fn misplaced_of(roster: &Path, entry: &Value) -> Vec<String> {
    let label = format!("{}-{}", entry["role"].as_str().unwrap(), entry["instance"]);
    let told: Value =
        serde_json::from_slice(&fs::read(roster.join(format!("{label}.lock"))).unwrap()).unwrap();
    let mut planned = Planned::new();
    for thread in entry["threads"].as_array().unwrap() {
        let kind = thread["kind"].as_str().unwrap();
        let name = if kind == "compute" { kind } else { thread["name"].as_str().unwrap() };
        planned.entry(name.into()).or_default().push(cpus(thread));
    }
    let tasks = fs::read_dir(format!("/proc/{}/task", told["pid"])).unwrap().flatten();
    let mut seen = Vec::new();
    let mut wrong: Vec<_> = tasks.filter_map(|task| wrong(&task.path(), &planned, &mut seen)).collect();
    let missing = planned.keys().filter(|name| *name != "compute" && !seen.contains(*name));
    wrong.extend(missing.map(|name| format!("there is no {name}")));
    wrong.into_iter().map(|text| format!("{label}: {text}")).collect()
}

/// What is wrong with a thread. One that ends meanwhile is not.
fn wrong(task: &Path, planned: &Planned, seen: &mut Vec<String>) -> Option<String> {
    let comm = fs::read_to_string(task.join("comm")).ok()?;
    let allowed = allowed(&fs::read_to_string(task.join("status")).ok()?)?;
    let name = match comm.trim() {
        // The kernel's own, for requests that block, and a library's, which sleeps but for its timers.
        kernel if kernel.starts_with("iou-") => return None,
        "futures-timer" => return None,
        pool @ ("compute" | "workers" | "assembly") => return check(pool, "compute", planned, &allowed),
        main if main.starts_with("autonomys") => "control".to_owned(),
        name => name.trim_end_matches("-blk").to_owned(),
    };
    seen.push(name.clone());
    check(comm.trim(), &name, planned, &allowed)
}

fn check(comm: &str, name: &str, planned: &Planned, allowed: &Cpus) -> Option<String> {
    let Some(sets) = planned.get(name) else { return Some(format!("{comm} is not in the plan")) };
    (!sets.contains(allowed)).then(|| format!("{comm} is on {allowed}, not on one of {sets:?}"))
}
