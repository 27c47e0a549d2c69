//! Where one record of a sector lies on its device.

use super::rooms::Lease;
use crate::device::DeviceAddress;
use consensus::constants::RECORD_SIZE;
use std::sync::Arc;

/// The place of one record in an area. Of the places that live at a time, only one is of this record and area; clones of it are the same.
#[derive(Clone)]
pub(super) struct Place {
    area: Arc<Lease>,
    piece_offset: u16,
}

impl Place {
    pub fn new(area: Arc<Lease>, piece_offset: u16) -> Self {
        Self { area, piece_offset }
    }

    /// Its chunks, 1 MiB.
    pub fn chunks(&self) -> DeviceAddress {
        self.area.area().records() + self.column() * RECORD_SIZE as u64
    }

    /// Its first word.
    pub fn words(&self) -> DeviceAddress {
        self.area.area().words() + self.column() * size_of::<u32>() as u64
    }

    /// Its first rank.
    pub fn ranks(&self) -> DeviceAddress {
        self.area.area().ranks() + self.column() * size_of::<u16>() as u64
    }

    /// From one of its words, or ranks, to the next.
    pub fn column_stride(&self) -> u64 {
        self.area.area().column_stride() as u64
    }

    fn column(&self) -> u64 {
        self.piece_offset.into()
    }
}
