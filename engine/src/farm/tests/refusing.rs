//! A disk that refuses to read some bytes of some files, or a write or sync, for as long as a test wants.

use super::meddled::{Meddle, Meddled};
use super::*;
use crate::disk::Limits;
use crate::error::Action;
use crate::file::DirectFile;
use crate::ring::Ring;
use std::cell::RefCell;
use std::ops::Range;

/// Name of a file, and bytes of it.
type Refused = (&'static str, Range<u64>);

/// What is refused; clones are handles to the same list.
#[derive(Clone, Default)]
pub struct Refusals(Rc<List>);

#[derive(Default)]
struct List {
    reads: RefCell<Vec<Refused>>,
    changes: RefCell<Changes>,
    reads_seen: RefCell<Vec<Refused>>,
}

/// Writes and syncs that are refused.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    #[default]
    None,
    /// The one after so many others.
    Once(u64),
    /// That one, and all that come later.
    From(u64),
    /// One was refused; those to come are not.
    Refused,
}

impl Refusals {
    pub fn set(&self, refused: &[Refused]) {
        *self.0.reads.borrow_mut() = refused.to_vec();
    }

    pub fn set_changes(&self, changes: Changes) {
        *self.0.changes.borrow_mut() = changes;
    }

    /// What has become of [`Refusals::set_changes`].
    pub fn changes(&self) -> Changes {
        *self.0.changes.borrow()
    }

    /// How many times these bytes were read since this was last asked.
    pub fn reads_of(&self, (name, bytes): Refused) -> usize {
        let seen = self.0.reads_seen.take();
        seen.iter().filter(|(of, read)| *of == name && meets(read, &bytes)).count()
    }
}

fn meets(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

impl Meddle for Refusals {
    fn refuses(&self, action: Action, file: &DirectFile, bytes: &Range<u64>) -> bool {
        if action != Action::Read {
            let changes = &mut *self.0.changes.borrow_mut();
            let (next, is_refused) = match *changes {
                Changes::Once(0) => (Changes::Refused, true),
                Changes::From(0) => (Changes::From(0), true),
                Changes::Once(left) => (Changes::Once(left - 1), false),
                Changes::From(left) => (Changes::From(left - 1), false),
                none => (none, false),
            };
            *changes = next;
            return is_refused;
        }
        let name = [METADATA_FILE, PLOT_FILE].into_iter().find(|name| file.path().ends_with(name));
        self.0.reads_seen.borrow_mut().extend(name.map(|name| (name, bytes.clone())));
        self.0.reads.borrow().iter().any(|(of, refused)| name == Some(*of) && meets(refused, bytes))
    }
}

/// Runs a test on an executor with such a disk.
pub fn on_refusing_disk<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(Disk, Pool, Refusals) -> F + Send + 'static,
) {
    on_disk(move |_, pool| async move {
        let (ring, refusals) = (Ring::new(&pool, 64).unwrap(), Refusals::default());
        let device = Meddled { ring: ring.clone(), meddle: refusals.clone() };
        test(Disk::over(Box::new(device), &pool, Limits::default()), pool, refusals).await;
        ring.close().await;
    });
}
