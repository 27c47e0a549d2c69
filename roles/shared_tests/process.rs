//! Processes of the binary, each with its log in a file, that end with the test.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Lines of each log that a failed test shows.
const TAIL_LINES: usize = 40;

/// A process, and what is needed to start it again.
pub struct Process {
    pub name: &'static str,
    /// The program and what it is told.
    line: Vec<String>,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// `autonomys-farmer ARGS`, with its log in `folder`.
    pub fn start(name: &'static str, args: Vec<String>, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let line: Vec<_> =
            [env!("CARGO_BIN_EXE_autonomys-farmer").to_owned()].into_iter().chain(args).collect();
        let child = spawn(&line, &log).unwrap();
        Self { name, line, log, child }
    }

    /// SIGKILL. What it held of its files is free when this returns.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same again, after [`Process::kill`].
    pub fn start_again(&mut self) {
        self.child = spawn(&self.line, &self.log).unwrap();
    }

    /// Killed, and started again within `within`, say `taskset -c 0`, and told `more`.
    pub fn change(&mut self, within: &[&str], more: &[&str]) {
        self.kill();
        self.line.splice(..0, within.iter().map(ToString::to_string));
        self.line.extend(more.iter().map(ToString::to_string));
        self.start_again();
    }

    /// The last words of its line are not said when it is started again.
    pub fn tell_no_more(&mut self, words: usize) {
        self.line.truncate(self.line.len() - words);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Stops it where it is, or lets it go on.
    pub fn freeze(&self, is_frozen: bool) {
        let signal = if is_frozen { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The most memory that it has had at once.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    fn show_tail(&self) {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("---- the end of {}'s log ----", self.name);
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            eprintln!("{line}");
        }
    }
}

fn spawn(line: &[String], log: &Path) -> io::Result<Child> {
    let log: File = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(&line[0]);
    command
        .args(&line[1..])
        .env("RUST_LOG", "info,bus=debug,cluster=debug,control=debug")
        .env("NO_COLOR", "1")
        .env("CUDA_VISIBLE_DEVICES", "");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

impl Drop for Process {
    fn drop(&mut self) {
        // Kills nothing that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.show_tail();
        }
    }
}
