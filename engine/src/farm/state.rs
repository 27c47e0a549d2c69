//! What is in memory of a farm's sectors.

use super::RecordFault;
use super::sizes::Sizes;

/// What is in memory of a sector.
#[derive(Clone, Default)]
pub(super) struct Sector {
    pub state: State,
    pub being_written: bool,
    /// The record on disk is surely a mark, made durable since the farm was opened, so that the bytes may change.
    pub is_marked: bool,
    /// Grows whenever the bytes on disk may change, so that a read notices.
    pub generation: u32,
}

#[derive(Clone, Default)]
pub(super) enum State {
    #[default]
    NotPlotted,
    Expired,
    /// The disk did not give the record.
    Unreadable,
    /// The record is wrong; whether the bytes are whole is not known yet.
    Doubtful {
        fault: RecordFault,
        /// What stands in the record as history size.
        noted: u64,
    },
    Plotted {
        history_size: u64,
        sizes: Sizes,
    },
}

impl Sector {
    /// Bytes of memory, beside this value itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.state {
            State::Plotted { sizes, .. } => sizes.heap_bytes(),
            State::NotPlotted | State::Expired | State::Unreadable | State::Doubtful { .. } => 0,
        }
    }
}
