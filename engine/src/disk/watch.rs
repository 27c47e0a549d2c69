//! Who looks in at a disk while something is asked of it or it is not well: a task of its executor.
//!
//! Finds what is too late and what hangs, sends the probes of a disk that is sick or in doubt, and asks the system whether it
//! still has the device, apart from the executor since that may block. Ends when there is nothing to look at.

use super::core::Core;
use super::health::{Answer, Event};
use super::place::Place;
use super::places::Spot;
use crate::BLOCK_BYTES;
use crate::error::IoError;
use crate::file::DirectFile;
use crate::pool::SlabMut;
use crate::task;
use glommio::TaskQueueHandle;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;
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

/// Asks the system what lies at `path`, apart from the executor, since a mount that hangs would block it. Until that is answered, if
/// ever, the disk is called by the path.
pub(super) fn find_place(core: &Rc<Core>, path: &Path) {
    let (disk, path) = (Rc::downgrade(core), path.to_owned());
    task::spawn_local(async move {
        let place = task::off_executor("disk-look", move || Place::of(&path)).await;
        if let (Ok(place), Some(core)) = (place, disk.upgrade()) {
            core.is_seen_at(place);
        }
    })
    .detach();
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

/// Reads a block somewhere else than what hangs or erred, if it is time for that.
fn probe(core: &Rc<Core>, now: Instant) {
    let (ms, mut state) = (core.ms(now), core.state.borrow_mut());
    if !state.machine.wants_probes(ms) {
        state.probe_memory.clear();
    }
    if !state.machine.is_probe_due(ms) {
        return;
    }
    if state.probe_memory.is_empty() {
        let slab = core.pool.try_acquire();
        state.probe_memory = slab.map_or_else(Vec::new, |slab| slab.split_into(BLOCK_BYTES));
    }
    // Without a file that is still open, or memory, what is asked of the disk next is the probe.
    let Some((file, block)) = state.probe_spot(now) else { return };
    let Some(buf) = state.probe_memory.pop() else { return };
    state.machine.probe_began(ms);
    drop(state);
    // Not kept open for it: who closes it may want to open and lock it anew.
    let (core, file) = (core.clone(), Arc::downgrade(&file));
    task::spawn_local(async move {
        let has_vanished = is_gone(&core).await;
        if has_vanished {
            core.note(Event::Vanished);
        }
        let answer = match file.upgrade() {
            Some(file) => read(&core, &file, block, buf, has_vanished).await,
            None => Answer::Bad,
        };
        core.note(Event::Probed(answer));
    })
    .detach();
}

async fn read(core: &Core, file: &Arc<DirectFile>, block: u64, buf: SlabMut, has_vanished: bool) -> Answer {
    let began = Instant::now();
    let (_, read) = core.device.read(file, block, buf, (0, BLOCK_BYTES), None).await;
    match read {
        // A device without a size may answer whatever it likes.
        _ if has_vanished => Answer::Bad,
        Ok(()) if began.elapsed() <= PROBE_LIMIT => Answer::Good,
        Ok(()) => Answer::Late,
        Err(error) => {
            let mut state = core.state.borrow_mut();
            state.places.suspect(Spot::new(file, block, BLOCK_BYTES as u64));
            if matches!(error, IoError::Short { .. }) {
                state.places.ends_before(file, block);
            }
            drop(state);
            // One more place that errs says more than the first once again.
            error.refused_with().into_iter().for_each(|errno| core.note(Event::Failed { errno }));
            Answer::Bad
        }
    }
}

/// Whether the system has given the device up. A question that is not answered in time says nothing.
async fn is_gone(core: &Core) -> bool {
    let asked = task::off_executor("disk-look", core.place().is_gone());
    matches!(task::timeout(PROBE_LIMIT, asked).await, Ok(Ok(true)))
}
