//! Plans for machines of every kind: what must hold on each of them, and what operators expect of the one in their guide.

#![cfg(feature = "hwloc")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;
use topology::placement::{Assignment, Kind, Member, Overrides, RoleCount, Thread, plan_members};
use topology::{Cpus, Machine, Plan, Request, Role, detect, plan};

/// Of one line each; the others are in `machines/`.
const DESCRIBED: [&str; 12] = [
    "core:1 pu:1",
    "core:2 pu:1",
    "core:1 pu:2 | nic@0",
    "core:2 pu:2 | gpu@0 nvme@0",
    "pack:1 [numa] l3:16 core:8 pu:2 | gpu@0 gpu@0 gpu@0 gpu@0 nic@0 nvme@0 nvme@0",
    "pack:2 core:4 pu:2 | gpu@0 nic@0",
    "pack:2 [numa] l3:2 core:4 pu:2 | gpu@0 gpu@1 nic@0 nvme@1 cpus=0-7",
    "pack:2 [numa] l3:1 core:8 pu:1 | gpu@0 gpu@1 nic@1",
    "pack:2 [numa] core:2 pu:2 | gpu@1 gpu@1 gpu@1 nic@0 cpus=0,4,6",
    "pack:2 [numa] l3:1 core:6 pu:1 | nvme@0 nvme@0 nvme@1 nvme@1 nvme@1 nvme@1 nic@0",
    "pack:1 [numa] core:8 pu:4 | gpu@0 cpus=1-30",
    "pack:4 [numa] core:4 pu:1 | gpu@? gpu@3 nic@? nvme@2",
];

fn xml(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/machines").join(name)
}

fn machines() -> Vec<Machine> {
    let mut files: Vec<_> = std::fs::read_dir(xml("")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
    files.sort();
    assert!(files.len() >= 9, "{files:?}");
    let mut machines: Vec<_> = files.iter().map(|path| detect::from_xml(path).unwrap()).collect();
    machines.extend(DESCRIBED.iter().map(|text| detect::from_description(text).unwrap()));
    machines.push(detect::this_machine().unwrap());
    machines
}

fn request(roles: &[&str]) -> Request {
    let roles = roles.iter().map(|role| role.parse().unwrap()).collect();
    Request { roles, overrides: Overrides::default() }
}

/// What hosts run: one role, those of operators, all, and far too much.
fn requests() -> Vec<Request> {
    let mut requests: Vec<_> = Role::ALL.iter().map(|role| request(&[role.token()])).collect();
    requests.push(request(&[]));
    requests.push(request(&["controller", "proof-server"]));
    requests.push(request(&["plot-server", "sharded-cache", "full-piece-sharded-cache"]));
    requests.push(request(&["plot-server=2", "plot-client", "proof-server=2"]));
    requests.push(request(&Role::ALL.map(Role::token)));
    requests.push(request(&["plot-server=9", "plot-client=3", "sharded-cache=5", "controller=2"]));
    requests
}

fn threads(plan: &Plan) -> Vec<&Thread> {
    plan.plan.iter().flat_map(|assignment| &assignment.threads).collect()
}

/// Runs `check` on every plan of every machine.
fn for_all(check: impl Fn(&Machine, &Plan)) {
    for machine in machines() {
        for request in requests() {
            check(&machine, &plan(&machine, &request).unwrap());
        }
    }
}

#[test]
fn everybody_has_cpus_and_nobody_leaves_those_given() {
    for_all(|machine, plan| {
        for thread in threads(plan) {
            assert!(!thread.pus.is_empty() && !thread.reason.is_empty(), "{}: {thread:?}", machine.source);
            assert!(thread.pus.without(&machine.allowed).is_empty(), "{}: {thread:?}", machine.source);
            let node = thread.numa_node.expect("every thread is bound to a node");
            assert!(
                thread.pus.without(&machine.cpus_of_node(node)).is_empty(),
                "{}: {thread:?}",
                machine.source
            );
            if matches!(thread.kind, Kind::Feeder | Kind::Executor) {
                assert_eq!(thread.pus.len(), 1, "{}: {thread:?}", machine.source);
            }
        }
    });
}

#[test]
fn feeders_are_on_the_nodes_of_their_gpus_or_it_is_said() {
    for_all(|machine, plan| {
        for assignment in plan.plan.iter().filter(|assignment| assignment.gpu.is_some()) {
            let gpu = assignment.gpu.as_ref().unwrap();
            let feeders: Vec<_> =
                assignment.threads.iter().filter(|thread| thread.kind == Kind::Feeder).collect();
            assert_eq!(feeders.len(), 1);
            let Some(node) = gpu.numa_node else { continue };
            if machine.cpus_of_node(node).and(&machine.allowed).is_empty() {
                let said = plan.warnings.iter().any(|warning| {
                    warning.contains(&gpu.pci_bus_id) && warning.contains("no CPU may be used")
                });
                assert!(said, "{}: {:?}", machine.source, plan.warnings);
            } else {
                assert_eq!(feeders[0].numa_node, Some(node), "{}", machine.source);
            }
        }
    });
}

/// The cores of a node that may be used, as sets of the CPUs that may be.
fn usable_cores(machine: &Machine, node: u32) -> Vec<BTreeSet<u32>> {
    let usable =
        |cpus: &Vec<u32>| cpus.iter().copied().filter(|&cpu| machine.allowed.contains(cpu)).collect();
    let cores = machine.cores_of_node(node).map(|core| usable(&core.cpus));
    cores.filter(|core: &BTreeSet<u32>| !core.is_empty()).collect()
}

#[test]
fn cores_are_shared_only_where_they_ran_out() {
    for_all(|machine, plan| {
        for node in machine.nodes_with_cores() {
            let here: Vec<_> =
                threads(plan).into_iter().filter(|thread| thread.numa_node == Some(node)).collect();
            let users = |cpus: &BTreeSet<u32>| {
                here.iter().filter(|thread| thread.pus.iter().any(|cpu| cpus.contains(&cpu))).count()
            };
            let cores = usable_cores(machine, node);
            let is_core_shared = cores.iter().any(|core| users(core) > 1);
            let is_core_idle = cores.iter().any(|core| users(core) == 0);
            assert!(!(is_core_shared && is_core_idle), "{}, node {node}: {here:#?}", machine.source);
            // A CPU itself has two users only once every core is split, but for control.
            let at_work: Vec<_> = here.iter().filter(|thread| thread.kind != Kind::Control).collect();
            let workers = |cpu: u32| at_work.iter().filter(|thread| thread.pus.contains(cpu)).count();
            let counts: Vec<_> = cores.iter().flatten().map(|&cpu| workers(cpu)).collect();
            let is_shared = counts.iter().any(|&count| count > 1);
            assert!(!(is_shared && counts.contains(&0)), "{}, node {node}: {here:#?}", machine.source);
            let is_told = plan.warnings.iter().any(|warning| {
                warning.starts_with(&format!("node {node}: ")) && warning.contains("threads and pools")
            });
            assert!(!is_shared || is_told, "{}: {:?}", machine.source, plan.warnings);
        }
    });
}

#[test]
fn plans_are_the_same_from_run_to_run_and_in_any_order_of_roles() {
    for (machine, again) in machines().iter().zip(machines()) {
        for request in requests() {
            let mut turned = request.clone();
            turned.roles.reverse();
            assert_eq!(plan(machine, &request), plan(&again, &turned), "{}", machine.source);
        }
    }
}

#[test]
fn names_are_unique_and_every_instance_has_its_control() {
    for_all(|machine, plan| {
        let instances: BTreeSet<_> = plan.plan.iter().map(|one| (one.role, one.instance)).collect();
        assert_eq!(instances.len(), plan.plan.len());
        for assignment in &plan.plan {
            let names: BTreeSet<_> = assignment.threads.iter().map(|thread| &thread.name).collect();
            assert_eq!(names.len(), assignment.threads.len(), "{}: {assignment:?}", machine.source);
            let controls = assignment.threads.iter().filter(|thread| thread.kind == Kind::Control).count();
            assert_eq!(controls, 1, "{}: {assignment:?}", machine.source);
        }
    });
}

fn all_cpus(assignment: &Assignment) -> BTreeSet<u32> {
    assignment.threads.iter().flat_map(|thread| thread.pus.iter()).collect()
}

#[test]
fn plot_servers_of_the_guides_host_are_beside_their_gpus_and_apart() {
    let machine = detect::from_xml(&xml("guide-host.xml")).unwrap();
    assert_eq!(machine.online().len(), 192);
    assert_eq!(machine.cpus_of_node(0).to_string(), "0-47,96-143");
    assert_eq!(machine.cpus_of_node(1).to_string(), "48-95,144-191");
    let plan = plan(&machine, &Request::default()).unwrap();
    assert_eq!(plan.plan.len(), 4);
    for (ordinal, assignment) in (0..).zip(&plan.plan) {
        assert_eq!((assignment.role, assignment.instance), (Role::PlotServer, ordinal));
        let gpu = assignment.gpu.as_ref().unwrap();
        let node = if ordinal < 2 { 0 } else { 1 };
        assert_eq!((gpu.ordinal, gpu.numa_node), (Some(ordinal), Some(node)));
        assert!(assignment.threads.iter().all(|thread| thread.numa_node == Some(node)), "{assignment:?}");
        for other in &plan.plan[ordinal as usize + 1..] {
            assert!(all_cpus(assignment).is_disjoint(&all_cpus(other)));
        }
    }
    // `numactl -C 96-127 -l` of the guide, meant for GPU 2: it is node 0, and cores of GPU 1's plot-server.
    let guides: topology::Cpus = "96-127".parse().unwrap();
    assert!(guides.without(&machine.cpus_of_node(0)).is_empty());
    let of_gpu_2 = all_cpus(&plan.plan[2]);
    assert!(guides.iter().all(|cpu| !of_gpu_2.contains(&cpu)));
    let far = plan.warnings.iter().filter(|warning| warning.contains("far from the network")).count();
    assert_eq!(far, 2, "GPUs 2 and 3 are away from eth0: {:?}", plan.warnings);
}

fn member(role: Role, number: u32, cpus: &Cpus) -> Member {
    Member {
        role,
        number,
        gpus: Vec::new(),
        disks: Vec::new(),
        executors: None,
        cpus: cpus.clone(),
        no_pin: false,
    }
}

#[test]
fn what_runs_is_planned_as_what_is_to_run() {
    for machine in machines() {
        for request in requests() {
            let planned = plan(&machine, &request).unwrap();
            let members = planned.plan.iter().rev().map(|one| Member {
                gpus: one.gpu.iter().map(|gpu| gpu.pci_bus_id.clone()).collect(),
                ..member(one.role, one.instance, &machine.allowed)
            });
            let running = plan_members(&machine, &members.collect::<Vec<_>>());
            assert_eq!(running.plan, planned.plan, "{}", machine.source);
        }
    }
}

#[test]
fn executors_that_are_settled_stay_as_many() {
    for machine in machines() {
        for executors in [1, 3, 7] {
            let member =
                Member { executors: Some(executors), ..member(Role::PlotClient, 0, &machine.allowed) };
            let plan = plan_members(&machine, &[member]);
            let count = threads(&plan).iter().filter(|thread| thread.kind == Kind::Executor).count();
            assert_eq!(count, executors as usize, "{}", machine.source);
        }
    }
}

#[test]
fn a_plot_server_with_all_gpus_feeds_each_from_its_node() {
    let machine = detect::from_xml(&xml("guide-host.xml")).unwrap();
    let gpus = machine.gpus.iter().map(|gpu| gpu.pci.bus_id.clone()).collect();
    let server = Member { gpus, ..member(Role::PlotServer, 0, &machine.allowed) };
    let plan = plan_members(&machine, &[server]);
    let [one] = &plan.plan[..] else { panic!("{plan:?}") };
    assert_eq!((one.gpus.len(), one.gpu.as_ref()), (4, one.gpus.first()));
    let of = |kind| one.threads.iter().filter(move |thread| thread.kind == kind);
    let feeders: Vec<_> = of(Kind::Feeder).map(|thread| (thread.name.as_str(), thread.numa_node)).collect();
    let expected =
        [("feeder-0", Some(0)), ("feeder-1", Some(0)), ("feeder-2", Some(1)), ("feeder-3", Some(1))];
    assert_eq!(feeders, expected);
    assert_eq!(of(Kind::Compute).map(|thread| thread.numa_node).collect::<Vec<_>>(), [Some(0), Some(1)]);
}

#[test]
fn who_was_given_less_comes_first_and_others_keep_off() {
    let machine = detect::from_xml(&xml("guide-host.xml")).unwrap();
    let confined: Cpus = "0-7,96-103".parse().unwrap();
    let (small, large) =
        (member(Role::PlotServer, 0, &confined), member(Role::PlotServer, 1, &machine.allowed));
    let free = Member { no_pin: true, ..member(Role::PlotClient, 0, &machine.allowed) };
    let plan = plan_members(&machine, &[large.clone(), free, small.clone()]);
    let roles: Vec<_> = plan.plan.iter().map(|one| (one.role, one.instance)).collect();
    assert_eq!(roles, [(Role::PlotClient, 0), (Role::PlotServer, 0), (Role::PlotServer, 1)]);
    assert!(plan.plan[0].threads.iter().all(|thread| thread.pus == machine.allowed));
    assert!(all_cpus(&plan.plan[1]).iter().all(|&cpu| confined.contains(cpu)));
    assert!(all_cpus(&plan.plan[2]).iter().all(|&cpu| !confined.contains(cpu)));
    // Two who were given the same divide it; two who overlap and have nothing else share it, and that is told.
    let twin = Member { number: 2, ..small.clone() };
    let twins = plan_members(&machine, &[small.clone(), twin]);
    assert!(all_cpus(&twins.plan[0]).is_disjoint(&all_cpus(&twins.plan[1])));
    let inner = member(Role::ProofServer, 0, &"0-3,96-99".parse().unwrap());
    let outer = member(Role::ProofServer, 1, &"4-7,100-103".parse().unwrap());
    let crowded = plan_members(&machine, &[small, inner, outer]);
    assert_eq!(crowded.plan.len(), 3);
    assert!(crowded.warnings.iter().any(|text| text.contains("0-7,96-103")), "{:?}", crowded.warnings);
}

#[test]
fn who_has_disks_is_near_those() {
    let machine =
        detect::from_description("pack:2 [numa] core:16 pu:2 | nic@0 nvme@0 nvme@0 nvme@1 nvme@1").unwrap();
    let with = |role, disks: &[&str]| Member {
        disks: disks.iter().map(ToString::to_string).collect(),
        ..member(role, 0, &machine.allowed)
    };
    for cache in [Role::ShardedCache, Role::FullPieceShardedCache] {
        let nodes = |disks: &[&str]| {
            let plan = plan_members(&machine, &[with(cache, disks)]);
            threads(&plan).iter().map(|thread| thread.numa_node).collect::<BTreeSet<_>>()
        };
        assert_eq!(nodes(&[]), BTreeSet::from([Some(0)]), "where disks and network are");
        assert_eq!(nodes(&["nvme3n1"]), BTreeSet::from([Some(1)]));
    }
    let client = Member { executors: Some(2), ..with(Role::PlotClient, &["nvme1n1", "nvme2n1", "sda"]) };
    let plan = plan_members(&machine, &[client]);
    let threads = threads(&plan);
    let executors = threads.iter().filter(|thread| thread.kind == Kind::Executor);
    let near: Vec<_> = executors.map(|thread| (thread.numa_node, thread.reason.as_str())).collect();
    assert_eq!(near, [(Some(0), "near nvme1n1"), (Some(1), "near nvme2n1")]);
}

#[test]
fn cores_of_interrupts_are_left_to_them_where_they_are_few() {
    let kept_off = |text: &str, no_pin| {
        let machine = detect::from_description(text).unwrap();
        let overrides = Overrides { no_pin, ..Overrides::default() };
        let plan = plan(&machine, &Request { roles: vec![Role::PlotClient.into()], overrides }).unwrap();
        let is_told = plan.warnings.iter().any(|text| text.contains("left to interrupts"));
        let used: BTreeSet<u32> = plan.plan.iter().flat_map(all_cpus).collect();
        let are_used = machine.interrupts.iter().any(|cpu| used.contains(&cpu));
        assert_ne!(is_told, are_used, "{text}: {:?}", plan.warnings);
        is_told
    };
    assert!(kept_off("pack:2 [numa] core:8 pu:2 | nvme@0 irqs=0-1", false));
    assert!(!kept_off("pack:2 [numa] core:8 pu:2 | nvme@0 irqs=0-1", true), "it is the system that places");
    assert!(!kept_off("pack:2 [numa] core:8 pu:2 | nvme@0 irqs=0-31", false), "nothing is set aside");
    assert!(!kept_off("core:2 pu:1 | irqs=0", false), "too few to do without");
    assert!(!kept_off("core:8 pu:1 | cpus=0-3 irqs=0-3", false), "it was given those alone");
}

#[test]
fn members_whose_cpus_are_gone_are_left_out() {
    let machine = detect::from_description("core:2 pu:1").unwrap();
    let gone = member(Role::Controller, 0, &"7".parse().unwrap());
    let plan = plan_members(&machine, &[gone, member(Role::Controller, 1, &machine.allowed)]);
    assert_eq!(plan.plan.iter().map(|one| one.instance).collect::<Vec<_>>(), [1]);
}

#[test]
fn pools_of_an_epyc_begin_and_end_with_its_l3_caches() {
    let machine = detect::from_description(DESCRIBED[4]).unwrap();
    assert_eq!(machine.l3_count(), 16);
    let plan = plan(&machine, &Request::default()).unwrap();
    for assignment in &plan.plan {
        let cpus = all_cpus(assignment);
        let caches: BTreeSet<_> =
            machine.cores.iter().filter(|core| cpus.contains(&core.cpus[0])).map(|core| core.l3).collect();
        assert_eq!(caches.len(), 4, "{assignment:?}");
    }
}

#[test]
fn a_storage_host_has_an_executor_a_disk_on_the_disks_node_and_pools_on_both() {
    let machine = detect::from_description(DESCRIBED[9]).unwrap();
    let plan = plan(&machine, &Request::default()).unwrap();
    let threads = &plan.plan[0].threads;
    let of = |kind| threads.iter().filter(move |thread| thread.kind == kind);
    let executors: Vec<_> = of(Kind::Executor).map(|thread| thread.numa_node.unwrap()).collect();
    assert_eq!(executors, [0, 1], "six cores a node: one executor, not four");
    assert!(threads[1].reason.contains("nvme2n1, nvme3n1, nvme4n1, nvme5n1"), "{}", threads[1].reason);
    assert_eq!(of(Kind::Compute).map(|thread| thread.numa_node).collect::<Vec<_>>(), [Some(0), Some(1)]);
}

#[test]
fn memory_only_nodes_offline_cores_and_foreign_gpus_are_seen_as_such() {
    let machine = detect::from_xml(&xml("memory-only-nodes.xml")).unwrap();
    assert_eq!((machine.nodes.len(), machine.nodes_with_cores()), (4, vec![0, 1]));
    assert_eq!(machine.gpus[1].pci.node(), Some(1));
    let machine = detect::from_xml(&xml("offline-cores.xml")).unwrap();
    assert_eq!((machine.online().to_string(), machine.cores.len()), ("0-1,4-6,8,12-14".into(), 5));
    let machine = detect::from_xml(&xml("laptop.xml")).unwrap();
    assert!(machine.gpus.is_empty(), "the display of the processor is no GPU for CUDA");
    assert_eq!((machine.nics[0].name.as_str(), machine.disks[0].name.as_str()), ("wlp1s0", "nvme0n1"));
    let machine = detect::from_xml(&xml("gpu-nowhere.xml")).unwrap();
    assert_eq!(machine.gpus[0].pci.node(), None);
}

#[test]
fn operators_overrule_within_what_the_process_was_given() {
    let machine = detect::from_xml(&xml("guide-host.xml")).unwrap();
    let with = |overrides: Overrides| plan(&machine, &Request { roles: vec![], overrides });
    let cpus = Overrides { cpus: Some("96-127".parse().unwrap()), ..Overrides::default() };
    let of_guide = with(cpus).unwrap();
    assert!(threads(&of_guide).iter().all(|thread| thread.numa_node == Some(0)));
    assert!(
        of_guide.warnings.iter().any(|warning| warning.starts_with("GPU 2") && warning.contains("node 1"))
    );
    let node = with(Overrides { nodes: vec![1], ..Overrides::default() }).unwrap();
    assert!(threads(&node).iter().all(|thread| thread.numa_node == Some(1)));
    let free = with(Overrides { no_pin: true, ..Overrides::default() }).unwrap();
    assert!(threads(&free).iter().all(|thread| thread.pus.len() == 192 && thread.numa_node.is_none()));
}

#[test]
fn what_cannot_be_planned_is_an_error() {
    let machine = detect::from_xml(&xml("given-half.xml")).unwrap();
    assert_eq!(machine.allowed.to_string(), "0-7");
    let error =
        |overrides: Overrides| plan(&machine, &Request { roles: vec![], overrides }).unwrap_err().to_string();
    let cpus = |list: &str| Overrides { cpus: Some(list.parse().unwrap()), ..Overrides::default() };
    assert!(error(cpus("0,99-101")).contains("no CPUs 99-101"), "{}", error(cpus("0,99-101")));
    assert!(error(cpus("6-9")).contains("8-9 are outside"), "{}", error(cpus("6-9")));
    let nodes = |node| Overrides { nodes: vec![node], ..Overrides::default() };
    assert!(error(nodes(7)).contains("no node 7"));
    assert!(error(nodes(1)).contains("no CPU is left"));
    for text in ["plot", "", "plot-server=0", "plot-server=65", "plot-server=x", "plot-server="] {
        assert!(text.parse::<RoleCount>().is_err(), "{text:?}");
    }
}

#[test]
fn files_and_descriptions_that_are_no_machine_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("machine.xml");
    let good = std::fs::read_to_string(xml("one-gpu.xml")).unwrap();
    let long = "1 ".repeat(5000);
    for text in ["", "<", "\0", "<topology/>", "nonsense", &good[..good.len() / 2], &good.replace("PU", "UP")]
    {
        std::fs::write(&path, text).unwrap();
        assert!(detect::from_xml(&path).is_err(), "{text:.40}");
    }
    assert!(detect::from_xml(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    for text in [
        "",
        "nonsense",
        "core:0",
        "core:-1",
        "pack:99999999 core:99999999 pu:99999999",
        "core:4097",
        "core:18446744073709551617",
        "core:2 pu:1 | gpu",
        "core:2 pu:1 | gpu@9",
        "core:2 pu:1 | gpu@0x0",
        "core:2 pu:1 | cpus=2",
        "core:2 pu:1 | cpus=",
        &long,
    ] {
        assert!(detect::from_description(text).is_err(), "{text:.40}");
    }
}

/// Cases of the tests below; `PROPTEST_CASES` has more.
fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    let is_asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    if is_asked_for { default } else { ProptestConfig::with_cases(64) }
}

proptest! {
    #![proptest_config(cases())]

    /// Files that were damaged give a machine that can be planned for, or an error.
    #[test]
    fn damaged_files_are_planned_for_or_refused(
        file in prop::sample::select(vec!["one-gpu.xml", "laptop.xml", "memory-only-nodes.xml", "given-half.xml"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(xml(file)).unwrap();
        for (at, byte) in changes {
            // Digits into other digits: the form stays, what it says changes.
            let at = at.index(bytes.len());
            let byte_there = &mut bytes[at];
            *byte_there = if byte_there.is_ascii_digit() { b'0' + byte % 10 } else { byte };
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.xml");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(machine) = detect::from_xml(&path) {
            plan(&machine, &request(&Role::ALL.map(Role::token))).unwrap();
        }
    }

    #[test]
    fn descriptions_of_any_kind_are_planned_for_or_refused(
        text in "((pack|numa|l3|core|pu|die|group|[a-z]{1,3}|\\[numa\\]|)(:[0-9]{0,2})?(\\(indexes=[0-9,:*]{0,6}\\))? ){0,5}(\\| ?(gpu@[0-3?] ?|nic@0 ?|cpus=[0-9,-]{1,4} ?){0,3})?"
    ) {
        if let Ok(machine) = detect::from_description(&text) {
            plan(&machine, &request(&Role::ALL.map(Role::token))).unwrap();
        }
    }
}
