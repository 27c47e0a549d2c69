//! What the guide has operators type.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::scene::{PIECES, PIECES_IN_SECTOR, Scene};

/// `autonomys-farmer util LINE` with all NATS servers named as the guide names them.
fn tool(scene: &Scene, flag: &str, line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.args(["util", line[0]]);
    for url in scene.house.nats.urls() {
        command.args([flag, &url]);
    }
    command.args(&line[1..]).env("NO_COLOR", "1").env("CUDA_VISIBLE_DEVICES", "");
    command
}

fn run(what: &str, mut command: Command) -> String {
    let began = Instant::now();
    well(what, began, command.output().unwrap())
}

/// What it said, if it ended well.
fn well(what: &str, began: Instant, output: Output) -> String {
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    eprintln!("{what}: {:.1} s\n{said}", began.elapsed().as_secs_f32());
    assert!(output.status.success(), "{what}: {said}{errors}");
    said
}

const REINITIALIZE: [&str; 3] = ["reinitialization-cache", "--delay", "0"];
const BENCHMARK: [&str; 7] =
    ["sharded-cache-benchmark", "--sectors", "256", "--epoch", "1", "--cache-item-type", "piece"];
const SHORT_BENCHMARK: [&str; 3] = ["sharded-cache-benchmark", "--sectors", "8"];
/// By then other servers lead what the dead one has led.
const ELECTS: Duration = Duration::from_secs(10);

pub fn the_guides_commands(scene: &mut Scene, shards: usize) {
    a_new_epoch(scene, shards);
    benchmarks(scene);
    with_a_server_less(scene, shards);
    in_vain(scene);
}

/// The first one is also what a cache waits for that is drained: what it holds belongs to one that does not come back.
fn a_new_epoch(scene: &mut Scene, shards: usize) {
    let (old, began) = (scene.epoch().unwrap().number, Instant::now());
    // Two operators at once, by both spellings: one epoch.
    let both = ["--nats-servers", "--nats-server"].map(|flag| {
        let mut command = tool(scene, flag, &REINITIALIZE);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let both = both.map(|running| well("two reinitialisations", began, running.wait_with_output().unwrap()));
    for said in &both {
        assert!(said.contains(&format!("epoch {} has begun", old + 1)), "{said}");
        assert!(said.contains("the caches hold what they should"), "{said}");
    }
    // Whoever looks when the other has just written finds nobody missing.
    assert!(both.iter().any(|said| said.contains("not heard: it has a share now, and will have none")));
    let epoch = scene.epoch().unwrap();
    // With the one that drains.
    assert_eq!((epoch.number, epoch.members.len()), (old + 1, shards + 1));
    let ended = scene.house.until_ended("shard-0");
    assert!(ended.success(), "{ended:?}");
    let drained = scene.house.processes.remove("shard-0").unwrap();
    assert!(drained.log().contains("this cache may be taken away"));
}

fn benchmarks(scene: &Scene) {
    let said = run("benchmark", tool(scene, "--nats-servers", &BENCHMARK));
    let of = format!("{} pieces of {} segments", 256 * u64::from(PIECES_IN_SECTOR), PIECES / 256);
    assert!(said.contains(&of) && said.contains("missing 0"), "{said}");
}

fn with_a_server_less(scene: &mut Scene, shards: usize) {
    let old = scene.epoch().unwrap().number;
    scene.house.nats.servers[0].kill();
    std::thread::sleep(ELECTS);
    let said = run("benchmark without a server", tool(scene, "--nats-servers", &SHORT_BENCHMARK));
    assert!(said.contains("missing 0"), "{said}");
    let said = run("reinitialisation without a server", tool(scene, "--nats-servers", &REINITIALIZE));
    assert!(said.contains(&format!("epoch {} has begun", old + 1)), "{said}");
    scene.house.nats.servers[0].start_again();
    let epoch = scene.epoch().unwrap();
    assert_eq!((epoch.number, epoch.members.len()), (old + 1, shards));
}

fn in_vain(scene: &Scene) {
    for line in [&REINITIALIZE[..], &SHORT_BENCHMARK] {
        let mut command = tool(scene, "--nats-servers", line);
        let output = command.args(["--cluster", "elsewhere"]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("no controller has been in cluster `elsewhere`"), "{errors}");
    }
}
