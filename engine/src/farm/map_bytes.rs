//! The contents map, taken from the first bytes of a sector that is read in order.

use consensus::constants::contents_map_size;
use consensus::sector::{ContentsMap, ContentsMapError};

/// As many of its bytes as have come.
pub struct MapBytes {
    bytes: Vec<u8>,
    size: usize,
}

impl MapBytes {
    /// Of a sector of so many pieces.
    pub fn new(pieces_in_sector: u16) -> Self {
        let size = contents_map_size(pieces_in_sector);
        Self { bytes: Vec::with_capacity(size), size }
    }

    /// Bytes that have not come yet.
    pub fn left(&self) -> usize {
        self.size - self.bytes.len()
    }

    /// The next bytes of the sector.
    pub fn take(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(&part[..self.left().min(part.len())]);
    }

    /// What they say.
    pub fn decode(&self, pieces_in_sector: u16) -> Result<ContentsMap, ContentsMapError> {
        ContentsMap::decode(&self.bytes, pieces_in_sector)
    }
}
