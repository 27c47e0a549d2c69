//! Bringing encoded records into on-disk order, as fast as the consumer takes the bytes.

use super::session::EncodedRecord;
use crate::finished::WAITING_SLABS;
use crate::{FinishError, FinishedSector, SectorError, SectorPlan};
use consensus::Workers;
use consensus::sector::{SectorAssembler, SectorMetadata};
use engine::pool::{Pool, Slab};
use engine::threads::ThreadWorkers;
use futures::future::{Either, select};
use std::pin::pin;
use std::sync::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Starts a thread, on the cores of `threads`, that makes the sector's bytes; it waits for the consumer most of the time,
/// which a worker must not. Returns when the sector's metadata is known.
pub(super) async fn start(
    plan: SectorPlan,
    records: Vec<EncodedRecord>,
    threads: &ThreadWorkers,
    pool: &Pool,
) -> Result<FinishedSector, FinishError> {
    let (metadata, known) = oneshot::channel();
    let (output, slabs) = mpsc::channel(WAITING_SLABS);
    let (threads, pool) = (threads.clone(), pool.clone());
    let maker = std::thread::Builder::new().name("assembly".into()).spawn(move || {
        let work = Mutex::new(Some((records, metadata, output)));
        threads.run(1, &|_| {
            let work = work.lock().expect("nothing panics while it holds the lock").take();
            let (records, metadata, output) = work.expect("the one job runs once");
            futures::executor::block_on(assemble(plan, &records, metadata, &output, &pool));
            // Memory first: whoever sees the end of the output may count on it.
            drop(records);
            drop(output);
        });
    });
    let maker = maker.map_err(|error| FinishError::Thread(error.to_string()))?;
    let metadata = known.await.map_err(|_| FinishError::Dropped)?;
    Ok(FinishedSector::new(metadata, slabs, maker))
}

async fn assemble(
    plan: SectorPlan,
    records: &[EncodedRecord],
    known: oneshot::Sender<SectorMetadata>,
    output: &mpsc::Sender<Result<Slab, SectorError>>,
    pool: &Pool,
) {
    let metadata: Vec<_> = records.iter().map(|record| record.metadata).collect();
    let bitfields = records.iter().map(|record| record.bitfield.clone()).collect();
    let chunks = records.iter().map(|record| record.record.chunks()).collect();
    let mut assembler = SectorAssembler::new(chunks, bitfields, &metadata);
    if known.send(assembler.sector_metadata(plan.sector_index, plan.history_size)).is_err() {
        return;
    }
    // Each wait ends also when the consumer is gone.
    while let Ok(place) = output.reserve().await {
        let mut slab = match select(pin!(pool.acquire()), pin!(output.closed())).await {
            Either::Left((Ok(slab), _)) => slab,
            Either::Left((Err(error), _)) => return place.send(Err(error.into())),
            Either::Right(_) => return,
        };
        let (room, filled) = (slab.len(), assembler.fill(&mut slab));
        if filled > 0 {
            place.send(Ok(slab.narrow(..filled).freeze()));
        }
        if filled < room {
            return;
        }
    }
}
