//! What a running node does beside answering: slots begin, blocks are made, segments archived, the report written.

use std::sync::Arc;
use std::time::Duration;

use consensus::constants::SEGMENT_SIZE;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::archivist::{Archivist, ArchivistError};
use super::chain::{BODY_SIZE_MAX, Block, Due};
use super::report_file::ReportFile;
use super::shared::Shared;
use super::store::{StoreError, now_ms};
use node::RewardSigning;

/// How long a block or vote waits for its signature.
const SIGNING_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the archivist waits for acknowledgements of a segment.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// Blocks that are enough for a segment, whatever waits already.
const FILLING_BLOCKS: usize = SEGMENT_SIZE / BODY_SIZE_MAX as usize + 1;

const NO_PANIC: &str = "work on other threads does not panic";

/// Begins slots by the clock. A slot that passed while the machine slept is left out.
pub async fn begin_slots(shared: &Shared) {
    let genesis = shared.store.genesis();
    loop {
        let next = genesis.slot_at(now_ms()).map_or(0, |slot| slot + 1);
        sleep(Duration::from_millis(genesis.slot_time_ms(next).saturating_sub(now_ms()))).await;
        let slot = genesis.slot_at(now_ms());
        if let Some(slot) = slot.filter(|slot| *slot >= next)
            && !shared.is_syncing()
        {
            begin_slot(shared, slot);
        }
    }
}

fn begin_slot(shared: &Shared, slot: u64) {
    let mut chain = shared.chain();
    if !chain.begin_slot(slot) {
        return;
    }
    // The chain is held, so that no solution comes before the slot counts as announced.
    let told = shared.slot_subscribers.publish(&chain.slot_info(slot));
    if !told.is_empty() && shared.is_unsafe_allowed() {
        chain.announce(slot);
    }
    drop(chain);
    shared.slot.send_replace(slot);
}

/// Makes blocks and votes out of the solutions of slots that are due, and, every `segment_every_slots`, blocks without an
/// author that are enough for a segment.
pub async fn make_blocks(shared: &Arc<Shared>, segment_every_slots: Option<u64>) -> Result<(), StoreError> {
    let mut slots = shared.slot.subscribe();
    let mut last_filled = None;
    while slots.changed().await.is_ok() {
        let now = *slots.borrow_and_update();
        while let Some(due) = { shared.chain().take_due(now) } {
            settle(shared, due).await?;
        }
        let Some(every) = segment_every_slots else { continue };
        if now.saturating_sub(*last_filled.get_or_insert(now)) >= every && shared.unarchived().is_empty() {
            last_filled = Some(now);
            let blocks = shared.chain().authorless_blocks(FILLING_BLOCKS);
            store_blocks(shared, blocks).await?;
        }
    }
    Ok(())
}

async fn settle(shared: &Arc<Shared>, due: Due) -> Result<(), StoreError> {
    let verifier = shared.verifier;
    let judged = spawn_blocking(move || due.judge(&verifier)).await.expect(NO_PANIC);
    let requests = shared.chain().settle(judged);
    for request in requests {
        let notification = RewardSigning { hash: request.hash, public_key: request.public_key };
        shared.signing_subscribers.publish(&notification);
    }
    let signed = async {
        while !shared.chain().is_round_complete() {
            shared.signed.notified().await;
        }
    };
    // Whether all signed or time is up, the round ends with what there is.
    let _ = timeout(SIGNING_TIMEOUT, signed).await;
    let block = shared.chain().finish_round();
    match block {
        Some(block) => store_blocks(shared, vec![block]).await,
        None => Ok(()),
    }
}

/// Continues the chain with blocks, once they are safe.
async fn store_blocks(shared: &Arc<Shared>, blocks: Vec<Block>) -> Result<(), StoreError> {
    let store = Arc::clone(&shared.store);
    let append = move || store.append_blocks(&blocks).map(|()| blocks);
    let blocks = spawn_blocking(append).await.expect(NO_PANIC)?;
    let mut chain = shared.chain();
    for block in &blocks {
        chain.import(block).expect("one task makes all blocks, each on top of the chain");
    }
    drop(chain);
    shared.unarchived().extend(blocks);
    shared.block_stored.notify_one();
    Ok(())
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
        if let Err(error) = file.write(shared).await {
            tracing::warn!(%error, path = %file.path().display(), "cannot write the report");
        }
    }
}
