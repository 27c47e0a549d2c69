//! The wish that a role should end, from the operator, the supervisor, or whoever runs several roles in one process.

use std::io;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long a role that was told to end may take: more than all it waits for by its own limits, and less than supervisors wait before
/// they kill.
pub const END_WITHIN: Duration = Duration::from_secs(45);

/// Something hangs: a disk that does not answer, or a step of the start that waits for NATS.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("told to end, this role has not within {} s, and is broken off: a disk or NATS does not answer", END_WITHIN.as_secs())]
pub struct Hangs;

/// Tells whoever holds a clone that it should end.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<()>);

/// Keeps what it was made with running; dropped, all clones of its [`Shutdown`] are told to end.
#[derive(Debug)]
pub struct KeepRunning(#[expect(dead_code, reason = "its drop is the message")] watch::Sender<()>);

impl Shutdown {
    /// One that is told when the other half is dropped.
    pub fn new() -> (KeepRunning, Self) {
        let (sender, receiver) = watch::channel(());
        (KeepRunning(sender), Self(receiver))
    }

    /// One that is told by the first SIGINT (Ctrl-C) or SIGTERM. Must be called inside a tokio runtime with its I/O driver.
    pub fn on_signals() -> io::Result<Self> {
        let requested = requested()?;
        let (keep_running, shutdown) = Self::new();
        tokio::spawn(async move {
            requested.await;
            drop(keep_running);
        });
        Ok(shutdown)
    }

    /// Runs `role` to its end, or, told to end, until [`END_WITHIN`] is over: no hanging disk or bus keeps a process alive.
    pub async fn bound<T>(&self, role: impl Future<Output = T>) -> Result<T, Hangs> {
        let out_of_patience = async {
            self.requested().await;
            tokio::time::sleep(END_WITHIN).await;
        };
        tokio::select! {
            ended = role => Ok(ended),
            () = out_of_patience => Err(Hangs),
        }
    }

    /// Ready when it is time to end, also when asked again.
    pub async fn requested(&self) {
        // Nothing is ever sent: the sender's end is the message.
        while self.0.clone().changed().await.is_ok() {}
    }
}

/// Ends at the first SIGINT (Ctrl-C) or SIGTERM. From the call on, neither kills the process any more.
///
/// Must be called inside a tokio runtime with its I/O driver.
pub fn requested() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Taken from its default, which kills: a limit on the size of files is the error of a write, and told as such.
    let _ = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("shutting down");
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn a_role_that_hangs_is_broken_off_once_it_was_told_to_end_and_none_before() {
        let (keep_running, shutdown) = Shutdown::new();
        let mut hangs = Box::pin(shutdown.bound(std::future::pending::<()>()));
        assert!(tokio::time::timeout(END_WITHIN * 9, &mut hangs).await.is_err(), "nobody told it to end");
        drop(keep_running);
        let told_at = tokio::time::Instant::now();
        assert!(hangs.await.is_err());
        assert_eq!(told_at.elapsed(), END_WITHIN);
        let ends = async { tokio::time::sleep(END_WITHIN / 2).await };
        assert!(shutdown.bound(ends).await.is_ok(), "it takes its time, and ends by itself");
    }

    #[test]
    fn supervisors_that_we_give_wait_longer() {
        let files = [
            include_str!("../../../deploy/systemd/autonomys-farmer@.service"),
            include_str!("../../../deploy/supervisor/node-host.conf"),
            include_str!("../../../deploy/supervisor/plotting-host.conf"),
            include_str!("../../../deploy/supervisor/storage-host.conf"),
        ];
        for file in files {
            let lines = file.lines().filter_map(|line| line.split_once('='));
            let limits = lines.filter(|(name, _)| ["TimeoutStopSec", "stopwaitsecs"].contains(name));
            let limits: Vec<u64> = limits.map(|(_, seconds)| seconds.parse().unwrap()).collect();
            assert!(!limits.is_empty() && limits.iter().all(|seconds| *seconds > END_WITHIN.as_secs()));
        }
    }

    #[tokio::test]
    async fn all_clones_are_told_and_stay_told() {
        let (keep_running, shutdown) = Shutdown::new();
        let clone = shutdown.clone();
        assert!(shutdown.requested().now_or_never().is_none());
        drop(keep_running);
        for told in [&shutdown, &clone, &clone] {
            told.requested().await;
        }
    }
}
