//! The binary as a process whose words are read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Tests share two cores with others.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// `autonomys-farmer`, logging as it does for operators, on a machine without GPUs.
pub fn farmer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.env("RUST_LOG", "info").env("NO_COLOR", "1").env("CUDA_VISIBLE_DEVICES", "");
    command
}

/// `autonomys-farmer cluster --nats-server URL LINE`.
pub fn member(nats_url: &str, line: &[&str]) -> Command {
    let mut command = farmer();
    command.args(["cluster", "--nats-server", nats_url]).args(line);
    command
}

/// A running process; killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// All that it has said.
    said: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, said: String::new() }
    }

    /// The next line of its log that has all these parts.
    pub fn hear(&mut self, parts: &[&str]) -> String {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            match self.line(give_up_at) {
                Some(line) if parts.iter().all(|part| line.contains(part)) => return line,
                Some(_) => {}
                None => panic!("{parts:?} was not said: {}", self.said),
            }
        }
    }

    pub fn has_said(&self, part: &str) -> bool {
        self.said.contains(part)
    }

    /// The next line; none at the end of the log or of all patience.
    fn line(&mut self, give_up_at: Instant) -> Option<String> {
        let line = match self.lines.recv_timeout(give_up_at.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        self.said += &line;
        self.said.push('\n');
        Some(line)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// SIGTERM, and whether it ended well.
    pub fn terminate(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.wait().success(), "{}", self.said);
    }

    /// Reads to the end of the log, and waits for the end of the process.
    fn wait(&mut self) -> ExitStatus {
        let give_up_at = Instant::now() + PATIENCE;
        while self.line(give_up_at).is_some() {}
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up_at, "it does not end: {}", self.said);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a command says which must fail with `code` and these words. A failure is one `error:` line and no panic.
fn fails(command: &mut Command, code: i32, parts: &[&str]) -> String {
    let mut process = Running::start(command);
    let status = process.wait();
    let said = std::mem::take(&mut process.said);
    assert_eq!(status.code(), Some(code), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    for part in parts {
        assert!(said.contains(part), "'{part}' was not said: {said}");
    }
    said
}

/// A command that starts to work and cannot.
pub fn refused(command: &mut Command, parts: &[&str]) -> String {
    fails(command, 1, parts)
}

/// A command line that is wrong.
pub fn misunderstood(command: &mut Command, parts: &[&str]) -> String {
    fails(command, 2, parts)
}

/// All files below a folder and what they hold.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(contents(&entry.path())),
            false => drop(all.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    all
}
