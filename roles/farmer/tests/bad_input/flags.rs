//! Command lines that cannot be meant.

use crate::process::{contents, farmer, member, misunderstood, refused};

/// Nobody listens there, and nobody needs to.
const NATS: &str = "nats://127.0.0.1:1";
/// A valid one.
const ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

#[test]
fn unknown_flags_are_named_by_every_command() {
    let cluster = ["cluster", "--nats-server", NATS];
    let roles = [
        "controller",
        "sharded-cache",
        "full-piece-sharded-cache",
        "plot-server",
        "plot-client",
        "proof-server",
    ];
    let mut lines: Vec<Vec<&str>> = roles.iter().map(|role| [&cluster[..], &[*role]].concat()).collect();
    lines.extend([vec![], vec!["cluster"], vec!["dev-node"], vec!["scrub"], vec!["util", "conformance"]]);
    for line in lines {
        misunderstood(farmer().args(&line).arg("--no-such-flag"), &["--no-such-flag", "--help"]);
    }
    misunderstood(member(NATS, &["plot-clients"]).arg("x"), &["plot-clients", "plot-client"]);
    misunderstood(farmer().args(["cluster", "proof-server", "--threads", "0"]), &["--threads", "'0'"]);
    refused(farmer().args(["cluster", "proof-server"]), &["--nats-server nats://HOST:4222"]);
}

#[test]
fn clusters_are_named_by_a_token() {
    let too_long = "n".repeat(33);
    for name in ["", "a.b", "a b", "*", "ü", &too_long] {
        let mut line = member(NATS, &["proof-server", "--cluster", name]);
        misunderstood(&mut line, &["--cluster", "letters, digits, - and _"]);
    }
}

#[test]
fn nats_servers_that_name_no_host_are_refused() {
    for url in ["", " ", "nats://", "nats://:4222"] {
        refused(&mut member(url, &["proof-server"]), &["nats://HOST:4222"]);
    }
}

#[test]
fn a_cache_is_given_some_time() {
    misunderstood(
        &mut member(NATS, &["controller", "--rebalance-after", "0"]),
        &["--rebalance-after", "1.."],
    );
}

#[test]
fn a_full_piece_cache_is_not_drained_and_a_pace_is_bytes() {
    let mut line = member(NATS, &["full-piece-sharded-cache", "--drain", "path=/nowhere"]);
    misunderstood(&mut line, &["--drain"]);
    misunderstood(&mut member(NATS, &["sharded-cache", "--refill-bandwidth", "0", "path=/x"]), &["200MiB"]);
}

#[test]
fn memory_of_a_cache_that_cannot_be_is_refused() {
    for (size, words) in [("lots", "8GiB"), ("-1", "8GiB"), ("1MiB", "2 MiB")] {
        let mut line = member(NATS, &["sharded-cache", "--mem-cache", size, "path=/nowhere"]);
        misunderstood(&mut line, &["--mem-cache", words]);
    }
}

#[test]
fn groups_are_named_by_one_word() {
    for flag in ["--group", "--cache-group"] {
        for name in ["", "rack 1", "rack.1", "*"] {
            let mut line = member(NATS, &["full-piece-sharded-cache", flag, name, "path=/nowhere"]);
            misunderstood(&mut line, &["--group", "one word of letters, digits, - and _"]);
        }
    }
}

#[test]
fn the_guides_tools_refuse_what_cannot_be() {
    let tool = |arguments: &[&str]| {
        let mut line = farmer();
        line.args([&["util"], arguments].concat());
        line
    };
    for delay in ["-1", "86401", "99999999999999999999", "soon", ""] {
        let line = &["reinitialization-cache", "--nats-servers", NATS, "--delay", delay];
        misunderstood(&mut tool(line), &["--delay"]);
    }
    for (flag, values) in [
        ("--sectors", &["0", "-1", "1000001", "4294967296", "many"][..]),
        ("--epoch", &["0", "-1", "1000001", "99999999999999999999"]),
        ("--concurrency", &["0", "1025", "65536"]),
    ] {
        for value in values {
            let line = &["sharded-cache-benchmark", "--nats-servers", NATS, flag, value];
            misunderstood(&mut tool(line), &[flag, value]);
        }
    }
    let line = &["sharded-cache-benchmark", "--nats-servers", NATS, "--cache-item-type", "segment"];
    misunderstood(&mut tool(line), &["segment", "parity-piece"]);
    refused(&mut tool(&["reinitialization-cache"]), &["--nats-server nats://HOST:4222"]);
    refused(&mut tool(&["reinitialization-cache", "--nats-servers", ""]), &["nats://HOST:4222"]);
}

#[test]
fn cpu_levels_that_the_machine_lacks_are_refused() {
    misunderstood(farmer().args(["util", "cpu-levels", "--cpu-level", "pentium"]), &["pentium", "portable"]);
}

/// A list of GPUs that is empty hides them on a machine that has some.
#[test]
fn machines_without_a_gpu_say_why() {
    for arguments in [&["util", "gpus"][..], &["util", "gpus", "--json"]] {
        let text = refused(farmer().args(arguments).env("CUDA_VISIBLE_DEVICES", ""), &["no GPU: "]);
        let driver = gpu::device::cuda::driver_present();
        assert!(text.contains(if driver { "CUDA_VISIBLE_DEVICES" } else { "libcuda.so.1" }), "{text}");
    }
}

#[test]
fn addresses_that_no_node_can_have_are_refused() {
    for url in ["ws://127.0.0.1:99999", "http://127.0.0.1:9944", "127.0.0.1:9944", "ws://", "nonsense", ""] {
        misunderstood(&mut member(NATS, &["controller", "--node-rpc-url", url]), &["ws://HOST:PORT"]);
    }
}

#[test]
fn wrong_reward_addresses_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let farm = format!("path={},sectors=1", folder.path().join("farm").display());
    let typo = ADDRESS.replace("GKut", "GKvt");
    for (address, words) in [
        (typo.as_str(), "checksum"),
        (&ADDRESS[..40], "instead of"),
        ("0x0202020202020202020202020202020202020202020202020202020202020202", "SS58"),
        ("", "0 bytes"),
    ] {
        let line = ["plot-client", "--reward-address", address, &farm];
        misunderstood(&mut member(NATS, &line), &["--reward-address", words]);
    }
    misunderstood(&mut member(NATS, &["plot-client", &farm]), &["--reward-address"]);
    assert!(contents(folder.path()).is_empty() && !folder.path().join("farm").exists());
}

#[test]
fn farms_and_caches_that_are_not_said_right_are_refused() {
    for (farm, words) in [
        ("path=/tmp/farm", "neither size= nor sectors="),
        ("/tmp/farm", "path=DIRECTORY"),
        ("path=/tmp/farm,sectors=0", "1 to"),
        ("path=/tmp/farm,size=10XB", "7900GB"),
        ("path=/tmp/farm,size=1TB,colour=red", "colour"),
    ] {
        let line = ["plot-client", "--reward-address", ADDRESS, farm];
        misunderstood(&mut member(NATS, &line), &[farm, words]);
    }
    let long = format!("path=/tmp/farm,size=1.{}XB", "1".repeat(100));
    misunderstood(&mut member(NATS, &["plot-client", "--reward-address", ADDRESS, &long]), &["size=1.111"]);
    for (cache, words) in [("size=1TB", "path=DIRECTORY"), ("path=/tmp/cache,size=much", "500GB")] {
        misunderstood(&mut member(NATS, &["sharded-cache", cache]), &[cache, words]);
    }
    misunderstood(&mut member(NATS, &["plot-server"]), &["BASE_PATH"]);
}

#[test]
fn cpus_that_cannot_be_are_refused_by_every_role() {
    let folder = tempfile::tempdir().unwrap();
    let roster = folder.path().to_str().unwrap();
    let cache = format!("path={}", folder.path().join("cache").display());
    let farm = format!("path={},sectors=1", folder.path().join("farm").display());
    let base = folder.path().join("base");
    for role in [
        &["controller"][..],
        &["sharded-cache", &cache],
        &["full-piece-sharded-cache", &cache],
        &["plot-server", "--cpu", base.to_str().unwrap()],
        &["plot-client", "--reward-address", ADDRESS, &farm],
        &["proof-server"],
    ] {
        let line = |flags: &[&str]| member(NATS, &[role, &["--roster", roster], flags].concat());
        refused(&mut line(&["--cpu-cores", "16000"]), &["no CPUs 16000", "online"]);
        refused(&mut line(&["--numa-node", "999"]), &["no node 999"]);
        misunderstood(&mut line(&["--cpu-cores", "x"]), &["--cpu-cores", "0-47,96-143"]);
    }
    assert!(contents(folder.path()).is_empty(), "something is made");
}

#[test]
fn farms_that_cannot_be_asked_for_are_refused() {
    let farms = |line: &[&str]| member(NATS, &[&["farms"], line].concat());
    refused(&mut farms(&["add", "storage-1", "path=/mnt/farm"]), &["neither size= nor sectors="]);
    refused(&mut farms(&["add", "storage-1", "path=farm,sectors=1"]), &["path=farm", "from its root"]);
    misunderstood(&mut farms(&["add", "storage-1"]), &["<FARM>"]);
    misunderstood(&mut farms(&["pause", "storage-1"]), &["pause", "pause-plotting"]);
    refused(farmer().args(["cluster", "farms", "list"]), &["--nats-server nats://HOST:4222"]);
    let client = ["plot-client", "--reward-address", ADDRESS];
    misunderstood(&mut member(NATS, &client), &["<FARM>"]);
    let line = [&client[..], &["--create", "perhaps", "path=/tmp/farm,sectors=1"]].concat();
    misunderstood(&mut member(NATS, &line), &["--create", "perhaps"]);
}
