//! What is in memory of a farm's sectors.

use super::SBucketSizes;
use std::rc::Rc;

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
    Plotted {
        history_size: u64,
        sizes: Rc<SBucketSizes>,
    },
}
