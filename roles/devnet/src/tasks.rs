//! What a running node does beside answering: blocks are made, segments archived, the report written.

use std::sync::Arc;
use std::time::Duration;

use consensus::constants::SEGMENT_SIZE;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::archivist::{Archivist, ArchivistError};
use super::chain::{BODY_SIZE_MAX, Block, Due};
use super::importing::{finalise, import_own};
use super::peers::gossip::Gossip;
use super::report_file::ReportFile;
use super::shared::Shared;
use super::store::StoreError;
use node::RewardSigning;

/// How long a block or vote waits for its signature.
const SIGNING_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the archivist waits for acknowledgements of a segment.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// Blocks that are enough for a segment, whatever waits already.
const FILLING_BLOCKS: usize = SEGMENT_SIZE / BODY_SIZE_MAX as usize + 1;

/// How long blocks without an author can make way for those of peers, and how many slots at least.
const FINAL_AFTER: Duration = Duration::from_secs(3);
const FINAL_SLOTS_MIN: u64 = 4;

const NO_PANIC: &str = "work on other threads does not panic";

/// Takes solutions from the RPC on to their slots.
pub async fn forward_solutions(shared: &Shared) {
    loop {
        shared.submitted.notified().await;
        shared.chain().forward();
    }
}

/// Makes blocks and votes out of the solutions of slots that are due, and, every `segment_every_slots`, blocks without an
/// author that are enough for a segment.
pub async fn make_blocks(shared: &Arc<Shared>, segment_every_slots: Option<u64>) -> Result<(), StoreError> {
    let mut slots = shared.slot.subscribe();
    let final_slots = final_slots(shared.store.genesis().slot_ms);
    let mut last_filled = None;
    while slots.changed().await.is_ok() {
        let now = *slots.borrow_and_update();
        while let Some(due) = { shared.chain().take_due(now) } {
            settle(shared, due).await?;
        }
        if let Some(every) = segment_every_slots {
            let period = now / every;
            if period > *last_filled.get_or_insert(period) && may_fill(shared) {
                last_filled = Some(period);
                fill(shared, period * every).await?;
            }
        }
        finalise(shared, final_slots).await;
    }
    Ok(())
}

/// Slots until blocks are final for the archive: peers have had time to tell of theirs, even on a busy machine.
fn final_slots(slot_ms: u64) -> u64 {
    let slots = FINAL_AFTER.as_millis().div_ceil(u128::from(slot_ms.max(1)));
    u64::try_from(slots).unwrap_or(u64::MAX).max(FINAL_SLOTS_MIN)
}

/// Whether all earlier blocks without an author are archived, or on their way.
fn may_fill(shared: &Shared) -> bool {
    shared.unarchived().is_empty() && !shared.chain().has_unfinal_made()
}

/// Blocks for a segment, due in `slot`, unless they are there already: nodes with the same chain make the same ones.
async fn fill(shared: &Arc<Shared>, slot: u64) -> Result<(), StoreError> {
    let blocks = {
        let chain = shared.chain();
        if chain.tip().made_slot >= slot {
            return Ok(());
        }
        chain.made_blocks(FILLING_BLOCKS, slot)
    };
    import_own(shared, blocks).await
}

async fn settle(shared: &Arc<Shared>, due: Due) -> Result<(), StoreError> {
    let verifier = shared.verifier;
    let judged = spawn_blocking(move || due.judge(&verifier)).await.expect(NO_PANIC);
    shared.chain().settle(judged);
    while let Some(request) = { shared.chain().next_request() } {
        let notification = RewardSigning { hash: request.hash, public_key: request.public_key };
        shared.signing_subscribers.publish(&notification);
        let signed = async {
            while !shared.chain().is_present_signed() {
                shared.signed.notified().await;
            }
        };
        // Whether it was signed or time is up, the next one follows.
        let _ = timeout(SIGNING_TIMEOUT, signed).await;
    }
    let signed = shared.chain().finish_round();
    signed.votes.into_iter().for_each(|vote| shared.tell(&Gossip::Vote(Box::new(vote))));
    match signed.block {
        Some(block) => import_own(shared, vec![Block::Authored(Box::new(block))]).await,
        None => Ok(()),
    }
}

/// Archives stored blocks. After each segment waits until its subscribers have acknowledged it.
pub async fn archive(shared: &Arc<Shared>, mut archivist: Archivist) -> Result<(), ArchivistError> {
    loop {
        let block = shared.unarchived().pop_front();
        let step = move || {
            if let Some(block) = &block {
                archivist.add(block)?;
            }
            let header = archivist.next_segment()?;
            Ok::<_, ArchivistError>((archivist, block.is_some(), header))
        };
        let (returned, had_block, header) = spawn_blocking(step).await.expect(NO_PANIC)?;
        archivist = returned;
        match header {
            Some(header) => {
                shared.announce_segment(header);
                await_acknowledgements(shared).await;
            }
            None if !had_block => shared.block_stored.notified().await,
            None => {}
        }
    }
}

async fn await_acknowledgements(shared: &Shared) {
    let acknowledged = async {
        while shared.acknowledgements().pending().is_some() {
            shared.acknowledged.notified().await;
        }
    };
    if timeout(ACKNOWLEDGEMENT_TIMEOUT, acknowledged).await.is_err() {
        tracing::warn!("some subscribers have not acknowledged the new segment in time");
        shared.acknowledgements().give_up();
    }
}

/// Writes the report after every slot.
pub async fn report(shared: &Shared, file: Option<&ReportFile>) {
    let mut slots = shared.slot.subscribe();
    let Some(file) = file else { return std::future::pending().await };
    while slots.changed().await.is_ok() {
        slots.mark_unchanged();
        file.write(shared).await;
    }
}
