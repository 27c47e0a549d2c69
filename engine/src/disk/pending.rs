//! One operation of a disk, from asking to answer. Never: deciding what becomes of it, which is [`super::core`]'s.

use super::places::Spot;
use super::scheduler::Class;
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// A read without an answer for this long may hang at a bad place.
const HANGS: Duration = Duration::from_secs(1);
/// An operation as it was asked for.
pub(super) struct What<'a> {
    pub class: Class,
    pub action: Action,
    pub file: &'a Arc<DirectFile>,
    pub offset: u64,
    pub bytes: u64,
}

/// An operation on its way, from asking to answer.
pub(super) struct Pending {
    pub class: Class,
    pub action: Action,
    pub file: Arc<DirectFile>,
    pub offset: u64,
    pub bytes: u64,
    pub asked: Instant,
    pub stage: Stage,
    pub waker: Option<Waker>,
    pub verdict: Option<Verdict>,
    /// Let through to a sick disk, to learn how it is.
    pub is_probe: bool,
}

/// Where it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Waits,
    Granted,
    Begun(Instant),
    Answered,
}

/// What its asker is told before it has ended.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    Late(Duration),
    Sick,
}

impl Pending {
    pub fn error(&self, verdict: Verdict) -> IoError {
        let (action, path) = (self.action, self.file.path().to_owned());
        match verdict {
            Verdict::Late(limit) => {
                let (offset, wanted, class) = (self.offset, self.bytes, self.class.as_str());
                IoError::Late { action, path, offset, wanted, class, limit }
            }
            Verdict::Sick => IoError::Sick { action, path },
        }
    }

    pub fn spot(&self) -> Spot {
        Spot::new(&self.file, self.offset, self.bytes)
    }

    pub fn hangs(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Begun(at) if now.saturating_duration_since(at) >= HANGS)
    }
}

/// Syncs and reservations take what they take: only transfers tell by their silence that a disk hangs.
pub(super) fn is_transfer(action: Action) -> bool {
    matches!(action, Action::Read | Action::Write)
}
