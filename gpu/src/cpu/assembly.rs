//! Bringing encoded records into on-disk order, as fast as the consumer takes the bytes.

use super::buffers::RecordBuffer;
use crate::SectorPlan;
use crate::finished::Output;
use crate::session::EncodedRecord;
use consensus::sector::SectorAssembler;

/// Makes the sector's bytes.
pub(super) fn assemble(plan: SectorPlan, records: &[EncodedRecord<RecordBuffer>], output: &mut Output) {
    let metadata: Vec<_> = records.iter().map(|record| record.metadata).collect();
    let bitfields = records.iter().map(|record| record.bitfield.clone()).collect();
    let chunks = records.iter().map(|record| record.room.chunks()).collect();
    let mut assembler = SectorAssembler::new(chunks, bitfields, &metadata);
    output.tell(assembler.sector_metadata(plan.sector_index, plan.history_size));
    while let Some(mut place) = output.slab() {
        let (room, filled) = (place.slab.len(), assembler.fill(&mut place.slab));
        if filled > 0 {
            place.send(filled);
        }
        if filled < room {
            return;
        }
    }
}
