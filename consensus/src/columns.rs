//! Work along the columns of a segment: the chunks at the same place of all its records. Erasure coding of pieces runs
//! along these, while pieces lie in memory record by record.

use crate::constants::{RECORD_CHUNKS, SCALAR_BYTES};

/// Columns that one job handles: 8 KiB of each record, so that few cache lines are shared between jobs.
pub(crate) const GROUP_COLUMNS: usize = 256;
/// Jobs for all columns.
pub(crate) const GROUPS: usize = RECORD_CHUNKS / GROUP_COLUMNS;

/// A run of chunks of one record.
pub(crate) type Run<'a> = &'a mut [[u8; SCALAR_BYTES]];

/// The records' chunks by group of columns: entry `[g][r]` is run `g` of record `r`.
pub(crate) fn split_columns<'a>(records: impl Iterator<Item = Run<'a>>) -> Vec<Vec<Run<'a>>> {
    let mut groups: Vec<Vec<Run<'a>>> = (0..GROUPS).map(|_| Vec::new()).collect();
    for record in records {
        for (group, run) in groups.iter_mut().zip(record.chunks_exact_mut(GROUP_COLUMNS)) {
            group.push(run);
        }
    }
    groups
}
