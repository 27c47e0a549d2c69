//! A farm that is being opened, and what blocks meanwhile: others are farmed on the same executor, and this one's disk may never answer.
//!
//! ```text
//!   open ──▶ take ──▶ apart ──▶ reads and writes by the disk ──▶ apart ──▶ done: the farm's
//!              │        │                   │                      │
//!              └────────┴── an error, or dropped: undone, then unlocked, in a thread ──┘
//! ```
//! Owns: the steps back and the lock, which go together into each thread and come back with its result. Never: the lock free before
//! what was begun is taken back.

use super::FarmError;
use super::info::{FarmInfo, Opened};
use super::undo::Undo;
use crate::error::IoError;
use crate::task;
use std::path::{Path, PathBuf};

/// Name of the threads, as `ps -L` shows it.
const NAME: &str = "farm-open";
const TAKEN: &str = "what was taken comes back after each stretch";

/// A farm that is being opened. Dropped, it gives back what it took, in a thread.
pub(super) struct Begun {
    dir: PathBuf,
    /// None while a thread has it.
    taken: Option<Taken>,
}

/// What is taken of a farm. The steps back come first: they are taken under the lock.
pub(super) struct Taken {
    pub undo: Undo,
    pub opened: Opened,
}

impl Begun {
    /// Takes the farm in `dir` by `take`, in a thread.
    pub async fn take(
        dir: &Path,
        take: impl FnOnce(&Path, &mut Undo) -> Result<Opened, FarmError> + Send + 'static,
    ) -> Result<Self, FarmError> {
        let place = dir.to_owned();
        let work = move || {
            let mut undo = Undo::default();
            let opened = take(&place, &mut undo)?;
            Ok(Self { dir: place, taken: Some(Taken { undo, opened }) })
        };
        task::off_executor(NAME, work).await.map_err(|error| IoError::open(dir, error))?
    }

    /// Does what blocks, in a thread.
    pub async fn apart<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Path, &mut Taken) -> Result<T, FarmError> + Send + 'static,
    ) -> Result<T, FarmError> {
        let mut moved = Self { dir: self.dir.clone(), taken: self.taken.take() };
        let work = move || {
            let done = work(&moved.dir, moved.taken.as_mut().expect(TAKEN));
            (moved, done)
        };
        let (moved, done) =
            task::off_executor(NAME, work).await.map_err(|error| IoError::open(&self.dir, error))?;
        *self = moved;
        done
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn info(&self) -> &FarmInfo {
        &self.taken.as_ref().expect(TAKEN).opened.info
    }

    /// All is well: nothing is taken back.
    pub fn done(mut self) -> Opened {
        let Taken { mut undo, opened } = self.taken.take().expect(TAKEN);
        undo.forget();
        opened
    }

    /// Gives back what was taken, and waits until that is done.
    pub async fn give_back(mut self) {
        let taken = self.taken.take();
        // Where there is no thread to be had, it was dropped here.
        let _ = task::off_executor(NAME, move || drop(taken)).await;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            task::apart(NAME, move || drop(taken));
        }
    }
}
