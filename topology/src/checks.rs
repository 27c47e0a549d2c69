//! Settings of the running system that cost speed, in words that say what to do. Reads, and changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, geteuid, getrlimit};

use crate::cpus::Cpus;
use crate::machine::Machine;

/// Locked memory that some executors with their buffers take; the usual limit, 8 MiB, is enough for one.
const LOCKED_BYTES: u64 = 64 << 20;

/// What an expert would change on this machine, which `machine` is.
pub fn this_machine(machine: &Machine) -> Vec<String> {
    let root = Path::new("/");
    let found = [huge_pages(root), locked_memory(), governor(root, machine), irq_balance(root)];
    let more = [numa_balancing(root, machine), cpu_quota(root, machine)];
    let memory = [memory_quota(root, machine), memory_nodes(root, machine)];
    found.into_iter().chain(more).chain(memory).flatten().collect()
}

/// The memory that this process's cgroup, or one above it, may take; none where that is not limited.
pub fn memory_limit_bytes() -> Option<u64> {
    memory_limit(Path::new("/"))
}

/// The memory that a process could still take: what the kernel reckons to be free or easily freed, and no more than [`memory_limit_bytes`]. None
/// where nobody tells.
pub fn memory_available_bytes() -> Option<u64> {
    memory_available(Path::new("/"))
}

fn memory_available(root: &Path) -> Option<u64> {
    let text = word(&root.join("proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let limit = memory_limit(root).unwrap_or(u64::MAX);
    Some(kib.checked_mul(1024)?.min(limit))
}

fn word(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn huge_pages(root: &Path) -> Option<String> {
    let transparent = word(&root.join("sys/kernel/mm/transparent_hugepage/enabled"));
    let are_off = transparent.is_none_or(|modes| modes.contains("[never]"));
    let reserved = word(&root.join("proc/sys/vm/nr_hugepages")).is_some_and(|count| count != "0");
    (are_off && !reserved)
        .then(|| "huge pages are off: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".into())
}

fn locked_memory() -> Option<String> {
    let limit = getrlimit(Resource::Memlock).current?;
    (limit < LOCKED_BYTES && !geteuid().is_root()).then(|| {
        format!(
            "locked memory is limited to {} KiB, so rings may not register their buffers: LimitMEMLOCK=infinity (systemd), ulimit -l unlimited",
            limit >> 10
        )
    })
}

fn governor(root: &Path, machine: &Machine) -> Option<String> {
    let governor =
        |cpu: u32| word(&root.join(format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")));
    let others: Vec<_> =
        machine.allowed.iter().filter_map(governor).filter(|governor| governor != "performance").collect();
    let first = others.first()?;
    Some(format!(
        "{} of {} CPUs have the governor {first:?}: cpupower frequency-set -g performance",
        others.len(),
        machine.allowed.len()
    ))
}

fn irq_balance(root: &Path) -> Option<String> {
    let processes = fs::read_dir(root.join("proc")).ok()?.flatten();
    let is_process = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    let mut processes = processes.map(|entry| entry.path()).filter(is_process);
    processes.any(|path| word(&path.join("comm")).is_some_and(|name| name == "irqbalance")).then(|| {
        "irqbalance moves interrupts to any core: keep it off those of feeders and executors (IRQBALANCE_BANNED_CPULIST)"
            .into()
    })
}

fn numa_balancing(root: &Path, machine: &Machine) -> Option<String> {
    let is_on = word(&root.join("proc/sys/kernel/numa_balancing")).is_some_and(|mode| mode != "0");
    (is_on && machine.nodes.len() > 1).then(|| {
        "the kernel moves memory between nodes by itself, which stalls bound threads: sysctl kernel.numa_balancing=0".into()
    })
}

/// The CPU time that this process's cgroup, or one above it, may take.
fn cpu_quota(root: &Path, machine: &Machine) -> Option<String> {
    let quota = |text: String| {
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok().filter(|period| *period > 0.0)?)
    };
    let least = of_cgroups(root, "", "cpu.max").into_iter().filter_map(quota).min_by(f64::total_cmp)?;
    let given = machine.allowed.len();
    // Of counts of CPUs, none is near to what a float cannot hold.
    (least < given as f64).then(|| {
        format!("the cgroup may use {least:.1} CPUs' time of the {given} CPUs given: threads will be stopped for parts of each period; use cpuset.cpus instead of cpu.max")
    })
}

fn memory_quota(root: &Path, machine: &Machine) -> Option<String> {
    let limit = memory_limit(root)?;
    let total = machine.nodes.iter().map(|node| node.memory_bytes).sum::<Option<u64>>();
    total.is_none_or(|total| limit < total).then(|| {
        format!(
            "the cgroup may use {} MiB of memory: plot-servers plan within it, other roles do not ask",
            limit >> 20
        )
    })
}

fn memory_limit(root: &Path) -> Option<u64> {
    // What version 1 says where there is no limit: the largest number that it can, in whole pages.
    const NONE_BYTES: u64 = 1 << 62;
    let unified = of_cgroups(root, "", "memory.max");
    let texts = unified.into_iter().chain(of_cgroups(root, "memory", "memory.limit_in_bytes"));
    texts.filter_map(|text| text.parse().ok()).filter(|&limit| limit < NONE_BYTES).min()
}

/// What `file` says in this process's cgroup and in those above it: of a controller of version 1, or of the unified hierarchy (no name).
fn of_cgroups(root: &Path, controller: &str, file: &str) -> Vec<String> {
    let cgroups = word(&root.join("proc/self/cgroup")).unwrap_or_default();
    let own = cgroups.lines().find_map(|line| {
        // `4:memory:/a/b`, `0::/a/b`.
        let (controllers, folder) = line.split_once(':')?.1.split_once(":/")?;
        controllers.split(',').any(|name| name == controller).then_some(folder)
    });
    let all = root.join("sys/fs/cgroup").join(controller);
    let folders = own.into_iter().flat_map(|own| Path::new(own).ancestors());
    folders.filter_map(|folder| word(&all.join(folder).join(file))).collect()
}

fn memory_nodes(root: &Path, machine: &Machine) -> Option<String> {
    let status = word(&root.join("proc/self/status"))?;
    let given: Cpus =
        status.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:"))?.parse().ok()?;
    let has_cpus = |node: &u32| !machine.cpus_of_node(*node).and(&machine.allowed).is_empty();
    let without: Vec<_> = machine
        .nodes_with_cores()
        .into_iter()
        .filter(|node| has_cpus(node) && !given.contains(*node))
        .collect();
    (!without.is_empty()).then(|| {
        format!("nodes {without:?} have CPUs to use but no memory (cpuset.mems): what runs there works in the memory of nodes {given}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Core, Node};

    fn machine() -> Machine {
        let node = |index| Node { index, memory_bytes: None };
        let core = |cpu| Core { package: 0, node: cpu, l3: None, cpus: vec![cpu] };
        Machine {
            source: "test".into(),
            nodes: vec![node(0), node(1)],
            cores: vec![core(0), core(1)],
            gpus: vec![],
            nics: vec![],
            disks: vec![],
            allowed: [0, 1].into_iter().collect(),
            interrupts: crate::Cpus::default(),
            doubts: vec![],
        }
    }

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// What is said about a system with these files.
    fn said(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), files);
        let (root, machine) = (folder.path(), machine());
        let found = [huge_pages(root), governor(root, &machine), irq_balance(root)];
        let more = [numa_balancing(root, &machine), cpu_quota(root, &machine)];
        let memory = [memory_quota(root, &machine), memory_nodes(root, &machine)];
        found.into_iter().chain(more).chain(memory).flatten().collect()
    }

    #[test]
    fn a_well_kept_system_is_left_in_peace() {
        let none = said(&[
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
            ("proc/sys/kernel/numa_balancing", "0\n"),
            ("proc/self/cgroup", "0::/system.slice/x.service\n"),
            ("sys/fs/cgroup/system.slice/x.service/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/system.slice/x.service/memory.max", "max\n"),
            ("proc/self/status", "Mems_allowed_list:\t0-1\n"),
            ("proc/17/comm", "sshd\n"),
        ]);
        assert_eq!(none, Vec::<String>::new());
    }

    #[test]
    fn each_bad_setting_is_told() {
        let all = said(&[
            ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
            ("proc/sys/vm/nr_hugepages", "0\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
            ("proc/sys/kernel/numa_balancing", "1\n"),
            ("proc/self/cgroup", "0::/system.slice/x.service\n"),
            ("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "3221225472\n"),
            ("proc/self/status", "Mems_allowed_list:\t0\n"),
            ("proc/17/comm", "irqbalance\n"),
        ]);
        for (line, words) in all.iter().zip([
            "huge pages",
            "1 of 2 CPUs",
            "irqbalance",
            "numa_balancing",
            "1.5 CPUs",
            "3072 MiB",
            "nodes [1]",
        ]) {
            assert!(line.contains(words), "{line}");
        }
        assert_eq!(all.len(), 7);
    }

    #[test]
    fn the_least_limit_of_memory_counts_in_both_versions_of_cgroups() {
        let limit = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), files);
            memory_limit(folder.path())
        };
        let unified = ("proc/self/cgroup", "0::/a/b\n");
        assert_eq!(limit(&[unified]), None);
        assert_eq!(
            limit(&[
                unified,
                ("sys/fs/cgroup/a/b/memory.max", "700\n"),
                ("sys/fs/cgroup/a/memory.max", "600\n")
            ]),
            Some(600)
        );
        let first = ("proc/self/cgroup", "5:cpu,memory:/a\n0::/\n");
        let file = "sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        assert_eq!(limit(&[first, (file, "9223372036854771712\n")]), None);
        assert_eq!(limit(&[first, (file, "800\n")]), Some(800));
    }

    #[test]
    fn what_is_free_is_no_more_than_the_cgroup_may_take() {
        let available = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), files);
            memory_available(folder.path())
        };
        let meminfo = ("proc/meminfo", "MemTotal:  900 kB\nMemFree:  100 kB\nMemAvailable:     500 kB\n");
        assert_eq!(available(&[meminfo]), Some(500 << 10));
        let limit = ("sys/fs/cgroup/memory.max", "4096\n");
        assert_eq!(available(&[meminfo, ("proc/self/cgroup", "0::/\n"), limit]), Some(4096));
        assert_eq!(available(&[]), None);
        assert_eq!(available(&[("proc/meminfo", "MemAvailable: lots\n")]), None);
    }
}
