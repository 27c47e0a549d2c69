//! A real nats-server of its own for a test: free port, temporary store, killed when dropped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The binary: from `NATS_SERVER`, else what `scripts/nats-server.sh` has installed or installs now.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("NATS_SERVER") {
            return path.into();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/nats-server.sh");
        let output = Command::new(&script).stderr(Stdio::inherit()).output().expect("the script runs");
        assert!(output.status.success(), "{} failed; or set NATS_SERVER", script.display());
        String::from_utf8(output.stdout).unwrap().trim().into()
    })
}

pub struct NatsServer {
    child: Child,
    directory: tempfile::TempDir,
    config: String,
    port: u16,
}

impl NatsServer {
    /// With JetStream.
    pub fn start() -> Self {
        Self::start_with("jetstream { store_dir: STORE }")
    }

    /// With this configuration; `STORE` becomes its store directory.
    pub fn start_with(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config.replace("STORE", &format!("{:?}", directory.path().join("store")));
        let child = spawn(directory.path(), &config, -1);
        let mut server = Self { child, directory, config, port: 0 };
        server.port = server.await_ports_file();
        server.await_greeting();
        server
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Again on the same port, with the same store.
    pub fn start_again(&mut self) {
        self.child = spawn(self.directory.path(), &self.config, i32::from(self.port));
        self.await_greeting();
    }

    /// Forgets the store; only while killed.
    pub fn lose_store(&mut self) {
        std::fs::remove_dir_all(self.directory.path().join("store")).unwrap();
    }

    /// Stops the process where it is: connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        // The signal takes each thread when it is next looked at.
        let tasks = format!("/proc/{}/task", self.child.id());
        wait_for("standstill", || {
            let mut stats = std::fs::read_dir(&tasks)
                .ok()?
                .map(|task| std::fs::read_to_string(task?.path().join("stat")));
            stats.all(|stat| stat.is_ok_and(|stat| stat.contains(") T "))).then_some(())
        });
    }

    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: kill takes two integers, and the pid is of a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    fn await_ports_file(&self) -> u16 {
        let path = self.directory.path().join(format!("nats-server_{}.ports", self.child.id()));
        wait_for("the ports file", || {
            let text = std::fs::read_to_string(&path).ok()?;
            let (_, after) = text.split_once("nats://127.0.0.1:")?;
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            text.trim_end().ends_with('}').then(|| digits.parse().ok())?
        })
    }

    fn await_greeting(&self) {
        wait_for("the greeting", || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).ok()?;
            (&greeting == b"INFO").then_some(())
        });
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &Path, config: &str, port: i32) -> Child {
    let path = directory.join("nats.conf");
    std::fs::File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
    let mut command = Command::new(binary());
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(path);
    command.arg("--ports_file_dir").arg(directory).arg("-l").arg(directory.join("log"));
    command.spawn().expect("nats-server starts")
}

fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let give_up_at = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < give_up_at, "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
