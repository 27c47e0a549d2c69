//! Who looks in at a disk while something is asked of it or it is not well: a task of its executor.
//!
//! Finds what is too late and what hangs, sends the probes of a sick disk, one at a time, and asks the system whether it still
//! has the device, on a thread of its own since that may block. Ends when there is nothing to look at.

use super::core::{Core, Spot, State};
use super::health::Event;
use crate::BLOCK_BYTES;
use crate::task;
use futures::channel::oneshot;
use glommio::TaskQueueHandle;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

/// How often it looks: deadlines are kept that well.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks in vain before it ends.
const LINGER: u32 = 20;
/// A look this much later than it should be says that the executor was busy: answers may be there that nobody has taken yet.
const BUSY: Duration = Duration::from_millis(150);
/// What a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Sees that somebody looks in, in the task queue of the disk.
pub(super) fn look_in(core: &Rc<Core>, queue: TaskQueueHandle) {
    if !std::mem::replace(&mut core.state.borrow_mut().is_watched, true) {
        task::spawn_into(queue, look(Rc::downgrade(core))).detach();
    }
}

async fn look(disk: Weak<Core>) {
    let (mut in_vain, mut was_busy) = (0, false);
    while in_vain < LINGER {
        let before = Instant::now();
        task::sleep(LOOK_EVERY).await;
        let Some(core) = disk.upgrade() else { return };
        let now = Instant::now();
        // One that is always busy must not keep a hung disk from being seen: the second look in a row counts.
        if now - before > BUSY && !std::mem::replace(&mut was_busy, true) {
            continue;
        }
        was_busy = false;
        core.state.borrow_mut().wants_good = true;
        core.judge_lateness(now);
        core.note(Event::Tick);
        probe(&core, now);
        in_vain = if core.is_at_rest() { in_vain + 1 } else { 0 };
    }
    if let Some(core) = disk.upgrade() {
        core.state.borrow_mut().is_watched = false;
    }
}

/// Reads a block of what was bad last, if it is time for that. Where only that place errs, the next probe reads another one.
fn probe(core: &Rc<Core>, now: Instant) {
    let spot = {
        let state = core.state.borrow();
        if !state.machine.is_probe_due(core.ms(now)) {
            return;
        }
        state.probe_spot()
    };
    // Without a file that is still open, or memory, what is asked of the disk next is the probe.
    let (Some((file, offset)), Some(buf)) = (spot, core.pool.try_acquire()) else { return };
    core.state.borrow_mut().machine.probe_began();
    let core = core.clone();
    task::spawn_local(async move {
        let has_vanished = is_gone(&core).await;
        if has_vanished {
            core.note(Event::Vanished);
        }
        let (began, block) = (Instant::now(), offset - offset % BLOCK_BYTES as u64);
        let (_, read) = core.device.read(&file, block, buf, (0, BLOCK_BYTES), None).await;
        // Whatever it says: a device without a size gives no error, but nothing.
        let errs = has_vanished || read.is_err();
        if errs {
            let mut state = core.state.borrow_mut();
            let State { suspect, good, .. } = &mut *state;
            let other = good.take().unwrap_or_else(|| Spot(std::sync::Arc::downgrade(&file), 0));
            *good = suspect.replace(other);
        }
        core.note(Event::Probed { is_good: !errs && began.elapsed() <= PROBE_LIMIT });
    })
    .detach();
}

/// Whether the system has given the device up. A question that is not answered in time says nothing.
async fn is_gone(core: &Core) -> bool {
    let (answer, answered) = oneshot::channel();
    let ask = core.place.is_gone();
    let asking = std::thread::Builder::new().name("disk-look".into()).spawn(move || {
        // Nobody may wait for it any more.
        let _ = answer.send(ask());
    });
    asking.is_ok() && matches!(task::timeout(PROBE_LIMIT, answered).await, Ok(Ok(true)))
}
