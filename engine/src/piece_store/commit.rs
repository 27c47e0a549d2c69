//! Making writes to one file durable together: an fdatasync costs the same for one write and for many.
//!
//! ```text
//!   puts    a written ─▶ waits          b, c written ─▶ wait          all that wait share the next
//!   file               fdatasync 1 ───────────────────▶ fdatasync 2 ─▶ b, c durable
//! ```
//! Owns: when the file is synced; one fdatasync is under way at most. A write waits for one that began after it had ended.
//! Never: to call a write durable that was under way, or done and not synced, when an fdatasync failed: the kernel may have dropped
//! what it could not write, and the next fdatasync says nothing of it.

use crate::disk::{Class, Disk};
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::task;
use futures::channel::oneshot;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// The syncs of one file.
pub(super) struct Commit(Rc<Inner>);

struct Inner {
    disk: Disk,
    file: Arc<DirectFile>,
    /// A task that syncs is on its way.
    is_running: Cell<bool>,
    /// How often an fdatasync failed.
    failures: Cell<u64>,
    waiting: RefCell<Vec<Waiter>>,
}

struct Waiter {
    class: Class,
    /// Failures before its write began.
    failures: u64,
    done: oneshot::Sender<Result<(), IoError>>,
}

impl Commit {
    pub fn new(disk: Disk, file: Arc<DirectFile>) -> Self {
        let (is_running, failures, waiting) = Default::default();
        Self(Rc::new(Inner { disk, file, is_running, failures, waiting }))
    }

    /// Carries out a write, and waits until it is durable. Nothing is known of a write that failed, or whose future was dropped.
    pub async fn durably(
        &self,
        class: Class,
        write: impl Future<Output = Result<(), IoError>>,
    ) -> Result<(), IoError> {
        let failures = self.0.failures.get();
        write.await?;
        let (done, synced) = oneshot::channel();
        self.0.waiting.borrow_mut().push(Waiter { class, failures, done });
        if !self.0.is_running.replace(true) {
            task::spawn_local(self.0.clone().sync_while_needed()).detach();
        }
        let closed = || IoError::Closed { action: Action::Sync, path: self.0.file.path().to_owned() };
        synced.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl Inner {
    async fn sync_while_needed(self: Rc<Self>) {
        loop {
            let waiting = self.waiting.take();
            let Some(class) = waiting.iter().map(|waiter| waiter.class).min() else { break };
            let synced = self.disk.sync(class, &self.file).await;
            self.failures.set(self.failures.get() + u64::from(synced.is_err()));
            for waiter in waiting {
                let answer = match &synced {
                    Ok(()) if waiter.failures == self.failures.get() => Ok(()),
                    Ok(()) => Err(self.forgotten()),
                    Err(error) => Err(error.again()),
                };
                // Who waited may have gone.
                let _ = waiter.done.send(answer);
            }
        }
        self.is_running.set(false);
    }

    fn forgotten(&self) -> IoError {
        let source = io::Error::other("fdatasync failed meanwhile, and what was written may be lost");
        IoError::refused(Action::Sync, self.file.path(), 0, 0, source)
    }
}
