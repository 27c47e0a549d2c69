//! Slots as the clock has them, and what tests ask of them: silence, bursts, slots announced again, another proof of time.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use super::pause::ANNOUNCED_AGAIN_MAX;
use super::peers::gossip::Gossip;
use super::shared::Shared;
use super::store::now_ms;

/// Begins slots by the clock. A slot that passed while the machine slept is left out.
pub async fn begin_slots(shared: &Shared) {
    let genesis = shared.store.genesis();
    loop {
        let next = genesis.slot_at(now_ms()).map_or(0, |slot| slot + 1);
        sleep(Duration::from_millis(genesis.slot_time_ms(next).saturating_sub(now_ms()))).await;
        if let Some(slot) = genesis.slot_at(now_ms()).filter(|slot| *slot >= next) {
            pass(shared, slot).await;
        }
    }
}

/// The clock has come to `slot`.
async fn pass(shared: &Shared, slot: u64) {
    shared.chain().pass_to(slot);
    shared.end_separation();
    if shared.is_syncing() {
        return;
    }
    let Some(burst) = burst_at(shared, slot) else { return };
    let forked_from = shared.chain().end_time_changes(slot);
    if let Some(from_slot) = forked_from {
        announce_from(shared, from_slot);
    }
    for slot in slot.saturating_sub(burst.max(1) - 1)..=slot {
        begin_slot(shared, slot);
        // Connections get their turn: subscribers are not to be lost for a burst alone.
        yield_now().await;
    }
}

/// How many slots are announced in `slot`, this one and before it the newest of those held back; none while a pause lasts.
fn burst_at(shared: &Shared, slot: u64) -> Option<u64> {
    let mut pause = shared.pausing();
    match pause.take() {
        Some(lasting) if slot < lasting.until_slot => {
            *pause = Some(lasting);
            None
        }
        Some(ended) => Some(ended.burst),
        None => Some(1),
    }
}

fn begin_slot(shared: &Shared, slot: u64) {
    if shared.chain().begin_slot(slot) {
        announce(shared, slot);
        shared.slot.send_replace(slot);
    }
}

/// Tells farms of a slot. Who is told may answer.
fn announce(shared: &Shared, slot: u64) {
    let mut chain = shared.chain();
    // The chain is held, so that no solution comes before the slot counts as announced.
    let told = shared.slot_subscribers.publish(&chain.slot_info(slot));
    if !told.is_empty() && shared.is_unsafe_allowed() {
        chain.announce(slot);
    }
}

/// Announces the newest slots once more.
pub fn announce_newest(shared: &Shared, slots: u64) {
    let end = shared.slots_begun();
    announce_from(shared, end.saturating_sub(slots));
}

/// Announces the slots from `from_slot` on that have begun once more, the newest if there are many.
pub fn announce_from(shared: &Shared, from_slot: u64) {
    let end = shared.slots_begun();
    let first = from_slot.max(end.saturating_sub(ANNOUNCED_AGAIN_MAX));
    (first..end).for_each(|slot| announce(shared, slot));
}

/// Gives the last `back` slots another challenge and announces them once more. All that follow differ as well, with `ahead` just
/// so many, and on this node alone.
pub fn change_time(shared: &Shared, back: u64, ahead: Option<u64>) {
    let end = shared.slots_begun();
    let from_slot = end.saturating_sub(back);
    let change = shared.chain().change_time(from_slot, ahead.map(|ahead| end.saturating_add(ahead)));
    announce_from(shared, from_slot);
    if change.until_slot.is_none() {
        shared.tell(&Gossip::Time(change));
    }
}
