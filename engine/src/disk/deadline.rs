//! How long an operation may take, by what it is for. When that is over its asker is told; the kernel goes on with it.

use super::scheduler::Class;
use crate::error::Action;
use std::time::{Duration, Instant};

/// A reward signature: the node that asked for it waits no longer.
const REWARD_SIGNATURE: Duration = Duration::from_millis(500);
/// An audit read: half of the four seconds that a slot gives, so that a proof can still be made and sent.
const AUDIT_READ: Duration = Duration::from_secs(2);
/// A read for a proof: what is left of the slot when the disk was the slowest part of it.
const PROOF_READ: Duration = Duration::from_secs(3);
/// A transfer in the background: a hard disk tries a bad place for up to half a minute before it errs, and that error says
/// more than lateness.
const BACKGROUND: Duration = Duration::from_secs(30);
/// Making written bytes durable: a disk may have gigabytes in its cache.
const SYNC: Duration = Duration::from_secs(60);
/// Reserving space: some file systems write zeroes for it.
const ALLOCATE: Duration = Duration::from_secs(600);
/// The wait of a background request for its turn. Yielding to audits is its lot, and no lateness; but one that had no turn
/// for this long waits behind requests that never end.
const BACKGROUND_QUEUE: Duration = Duration::from_secs(120);

/// What an operation of a class may take. An urgent one counts from when it was asked for, also while it waits for its turn,
/// since its answer is worth nothing later; one in the background from when the device was given it.
pub fn limit(class: Class, action: Action) -> Duration {
    match (class, action) {
        (Class::RewardSignature, _) => REWARD_SIGNATURE,
        (_, Action::Allocate) => ALLOCATE,
        (_, Action::Sync) => SYNC,
        (Class::AuditRead, _) => AUDIT_READ,
        (Class::ProofRead, _) => PROOF_READ,
        (Class::Serving | Class::SectorWrite | Class::Scrub, _) => BACKGROUND,
    }
}

/// What an operation of a class may wait before the device is given it.
pub(super) fn turn(class: Class, action: Action) -> Duration {
    if class.is_background() { BACKGROUND_QUEUE } else { limit(class, action) }
}

/// The limit that is over, if one is, of an operation asked for at `asked` and given to the device at `began`.
pub(super) fn passed(
    class: Class,
    action: Action,
    asked: Instant,
    began: Option<Instant>,
    now: Instant,
) -> Option<Duration> {
    let (from, limit) = match began {
        Some(began) if class.is_background() => (began, limit(class, action)),
        _ => (asked, turn(class, action)),
    };
    (now.saturating_duration_since(from) >= limit).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::super::scheduler::CLASSES;
    use super::*;

    #[test]
    fn urgent_classes_end_well_within_a_slot_and_count_their_wait() {
        let now = Instant::now() + Duration::from_secs(3600);
        let ago = |ms| now - Duration::from_millis(ms);
        for class in CLASSES.into_iter().filter(|class| !class.is_background()) {
            assert!(limit(class, Action::Read) <= Duration::from_secs(3), "{class:?}");
            assert!(passed(class, Action::Read, ago(3000), None, now).is_some(), "{class:?}");
            assert!(passed(class, Action::Read, ago(3000), Some(ago(1)), now).is_some(), "{class:?}");
        }
        let scrub = |asked, began| passed(Class::Scrub, Action::Read, asked, began, now);
        assert_eq!(scrub(ago(110_000), None), None, "it yields to audits");
        assert_eq!(scrub(ago(110_000), Some(ago(29_000))), None);
        assert_eq!(scrub(ago(110_000), Some(ago(30_000))), Some(BACKGROUND));
        assert_eq!(scrub(ago(120_000), None), Some(BACKGROUND_QUEUE));
    }
}
