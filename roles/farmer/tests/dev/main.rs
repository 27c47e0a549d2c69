//! The command `dev` as a process: it farms, ends by itself, and goes on where it was.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../shared_tests/stored_chain.rs"]
mod stored_chain;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use devnet::GenesisParameters;
use serde_json::Value;

/// Sectors of the farm, of two pieces each.
const SECTORS: u64 = 2;
/// How long anything may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(240);

/// Constants at which two sectors of two pieces win something in two slots of three.
fn parameters() -> GenesisParameters {
    GenesisParameters {
        slot_ms: Some(1000),
        slot_probability: Some((1, 3)),
        max_pieces_in_sector: Some(2),
        expected_pieces: Some(4),
        ..GenesisParameters::default()
    }
}

fn dev(base_path: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.args(["dev", "--sectors", &SECTORS.to_string(), "--base-path"]).arg(base_path);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A run that is killed when the test fails.
struct Run(Child);

impl Run {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn end(mut self) -> Output {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        // Neither fills its pipe: some lines each.
        self.wait_until("its end", |run| run.0.try_wait().unwrap().is_some());
        self.0.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        self.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status: self.0.wait().unwrap(), stdout, stderr }
    }

    fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let started = Instant::now();
        while !is_so(self) {
            assert!(started.elapsed() < PATIENCE, "no {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(report: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(report).ok()?).ok()
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

fn hashes(base_path: &Path) -> [blake3::Hash; 2] {
    ["plot.bin", "identity.bin"]
        .map(|file| blake3::hash(&fs::read(base_path.join("farm").join(file)).unwrap()))
}

fn scrub(base_path: &Path) {
    let mut scrub = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    let output = scrub.arg("scrub").arg(base_path.join("farm")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains(&format!("{SECTORS} good")), "{text}");
}

#[test]
fn it_farms_ends_by_itself_and_goes_on_where_it_was() {
    let chain = stored_chain::stored_chain("dev-chain", &parameters());
    let folder = stored_chain::copy_of(&chain);
    let (base_path, report) = (folder.path(), folder.path().join("report.json"));
    fs::rename(base_path.join("base"), base_path.join("node")).unwrap();

    let until_two = ["--until-solutions", "2", "--report"];
    let output = Run::start(dev(base_path).args(until_two).arg(&report)).end();
    let (table, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}{log}");
    let json = read(&report).unwrap();
    assert!(number(&json, "/solutions/accepted") >= 2, "{json}{log}");
    assert!(
        number(&json, "/reward_signatures/valid") >= 2 && number(&json, "/reward_signatures/invalid") == 0
    );
    // On a machine that has other things to do, signatures may come too late; nothing else may be wrong.
    let wrong = |reason: &String| !["not_signed", "late"].contains(&reason.as_str());
    assert!(!json["solutions"]["rejected"].as_object().unwrap().keys().any(wrong), "{json}{log}");
    assert_eq!((number(&json, "/segments"), number(&json, "/pieces")), (1, 256));
    let accepted = number(&json, "/solutions/accepted");
    assert!(table.contains(&format!("solutions accepted     {accepted}")), "{table}");
    assert!(log.contains("pieces cached: "), "{log}");

    // Told to end in the midst of it, it ends well: whatever is plotted stays.
    let mut run = Run::start(dev(base_path).arg("--report").arg(&report));
    let all_there = |report: &Value| number(report, "/audits/count") > 2;
    fs::remove_file(&report).unwrap();
    run.wait_until("audits", |_| read(&report).as_ref().is_some_and(all_there));
    let pid = rustix::process::Pid::from_child(&run.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = run.end();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Everything that is missing is plotted, nothing again.
    let mut run = Run::start(dev(base_path).arg("--report").arg(&report));
    fs::remove_file(&report).unwrap();
    let has_all = |log: &Value| number(log, "/sectors_found") + number(log, "/sectors_plotted") == SECTORS;
    run.wait_until("all sectors", |_| read(&report).as_ref().is_some_and(has_all));
    rustix::process::kill_process(rustix::process::Pid::from_child(&run.0), rustix::process::Signal::TERM)
        .unwrap();
    assert!(run.end().status.success());
    scrub(base_path);
    let plotted = hashes(base_path);
    let output = Run::start(dev(base_path).args(["--until-solutions", "1", "--report"]).arg(&report)).end();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = read(&report).unwrap();
    assert_eq!((number(&json, "/sectors_found"), number(&json, "/sectors_plotted")), (SECTORS, 0), "{json}");
    assert!(hashes(base_path) == plotted, "a sector was plotted again");
}

#[test]
fn failures_are_one_line_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let missing = folder.path().join("missing");
    for (output, text) in [
        (dev(&file).output().unwrap(), "choose another by --base-path"),
        (dev(&folder.path().join("new")).arg("--history").arg(&missing).output().unwrap(), "missing"),
    ] {
        let errors = String::from_utf8(output.stderr).unwrap();
        let line = errors.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(output.status.code() == Some(1) && line.contains(text), "{errors}");
    }
    let output = dev(folder.path()).args(["--sectors", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
