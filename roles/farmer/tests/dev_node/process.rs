//! The command as a process: how it begins, ends and fails.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::chain::copy_of_chain;

fn command(base_path: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.args(["dev-node", "--listen", "127.0.0.1:0", "--base-path"]).arg(base_path);
    command.env("RUST_LOG", "info").stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The error line of a command that must fail.
fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}

/// Waits for a line with `text` in the log.
fn wait_for(child: &mut Child, text: &str) {
    let log = BufReader::new(child.stderr.as_mut().unwrap());
    assert!(log.lines().map(Result::unwrap).any(|line| line.contains(text)), "no '{text}' in the log");
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn ends_on_sigterm_with_its_report_and_survives_sigkill() {
    let folder = copy_of_chain();
    let base_path = folder.path().join("base");
    let report = folder.path().join("report.json");
    let start = || {
        let mut child = command(&base_path).arg("--report").arg(&report).spawn().unwrap();
        wait_for(&mut child, "development node listens");
        child
    };
    let mut killed = start();
    let error = failure(&mut command(&base_path));
    assert!(error.contains("in use by another process"), "{error}");
    signal(&killed, rustix::process::Signal::KILL);
    killed.wait().unwrap();

    let mut child = start();
    std::thread::sleep(Duration::from_millis(1500));
    let asked = Instant::now();
    signal(&child, rustix::process::Signal::TERM);
    assert!(child.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["segments"], 1);
    assert!(report["slots"].as_u64().unwrap() >= 1);
}

#[test]
fn failures_are_one_line_that_says_what_to_do() {
    let folder = copy_of_chain();
    let base_path = folder.path().join("base");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut listening = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    listening.args(["dev-node", "--listen", &address, "--base-path"]).arg(&base_path);
    listening.stderr(Stdio::piped());
    for (command, text) in [
        (&mut listening, address.as_str()),
        (command(&base_path).args(["--max-pieces-in-sector", "7"]), "--max-pieces-in-sector 2, not 7"),
        (command(&base_path).args(["--kzg-parameters", "/no/such/file"]), "/no/such/file"),
        (command(&folder.path().join("new")).args(["--history", "/no/such/history"]), "/no/such/history"),
        (command(&folder.path().join("new")).args(["--slot-probability", "3/2"]), "3/2"),
        (command(Path::new("/proc/base")).args(["--slot-ms", "100"]), "/proc/base"),
    ] {
        let error = failure(command);
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_told_once_and_stops_nothing() {
    let folder = copy_of_chain();
    let mut command = command(&folder.path().join("base"));
    let mut child = command.args(["--report", "/proc/report.json"]).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut lines: Vec<_> = log.by_ref().take_while(|line| !line.contains("listens")).collect();
    std::thread::sleep(Duration::from_millis(2500));
    signal(&child, rustix::process::Signal::TERM);
    lines.extend(log);
    assert!(child.wait().unwrap().success());
    let told = lines.iter().filter(|line| line.contains("cannot write the report /proc/report.json"));
    assert_eq!(told.count(), 1, "{lines:?}");
}

#[test]
fn a_peer_of_another_chain_is_refused_in_one_line() {
    let (one, other) = (copy_of_chain(), copy_of_chain());
    let genesis = other.path().join("base/genesis.json");
    let changed = fs::read_to_string(&genesis).unwrap().replace("\"eraBlocks\": 30", "\"eraBlocks\": 31");
    fs::write(&genesis, changed).unwrap();
    let mut peer = command(&one.path().join("base")).spawn().unwrap();
    let mut log = BufReader::new(peer.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = log.find(|line| line.contains("listens address=")).unwrap();
    let address = line.split_once("address=").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let mut node =
        command(&other.path().join("base")).args(["--peer", &format!("ws://{address}")]).spawn().unwrap();
    let log = BufReader::new(node.stderr.take().unwrap()).lines().map(Result::unwrap);
    std::thread::sleep(Duration::from_secs(4));
    for child in [&node, &peer] {
        signal(child, rustix::process::Signal::TERM);
    }
    let lines: Vec<_> = log.filter(|line| line.contains("peer")).collect();
    assert!(lines.len() == 1 && lines[0].contains("another chain"), "{lines:?}");
    assert!(node.wait().unwrap().success() && peer.wait().unwrap().success());
}

#[test]
fn unknown_flags_are_named() {
    let output = command(Path::new("/tmp")).arg("--no-such-flag").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("--no-such-flag"), "{text}");
}
