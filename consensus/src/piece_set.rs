//! Which of a segment's pieces somebody has.
//!
//! ```text
//!   32 bytes: the piece at position p is bit p % 8 (the lowest is 0) of byte p / 8
//! ```

use crate::constants::SEGMENT_PIECES;

/// Bytes of a [`PieceSet`].
pub const PIECE_SET_BYTES: usize = SEGMENT_PIECES / 8;

/// A set of positions in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PieceSet([u8; PIECE_SET_BYTES]);

impl PieceSet {
    /// None of them.
    pub const EMPTY: Self = Self([0; PIECE_SET_BYTES]);
    /// All of them.
    pub const FULL: Self = Self([0xff; PIECE_SET_BYTES]);

    /// The set whose bytes these are; any are a set.
    pub const fn from_bytes(bytes: [u8; PIECE_SET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; PIECE_SET_BYTES] {
        self.0
    }

    /// Adds a position.
    pub fn insert(&mut self, position: u8) {
        self.0[usize::from(position / 8)] |= 1 << (position % 8);
    }

    /// Takes a position out.
    pub fn remove(&mut self, position: u8) {
        self.0[usize::from(position / 8)] &= !(1 << (position % 8));
    }

    /// Whether a position is in it.
    pub fn contains(&self, position: u8) -> bool {
        self.0[usize::from(position / 8)] & (1 << (position % 8)) != 0
    }

    /// What is in this one, or in `other`.
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Whether all are in it.
    pub fn is_full(&self) -> bool {
        *self == Self::FULL
    }
}

impl FromIterator<u8> for PieceSet {
    fn from_iter<T: IntoIterator<Item = u8>>(positions: T) -> Self {
        positions.into_iter().fold(Self::EMPTY, |mut set, position| {
            set.insert(position);
            set
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(inserted in prop::collection::vec(any::<u8>(), 0..600), removed in prop::collection::vec(any::<u8>(), 0..9)) {
            let (mut pieces, mut set): (PieceSet, BTreeSet<u8>) = (inserted.iter().copied().collect(), inserted.into_iter().collect());
            let other: PieceSet = removed.iter().copied().collect();
            let both = pieces.union(&other);
            for position in 0..=u8::MAX {
                prop_assert_eq!(both.contains(position), set.contains(&position) || removed.contains(&position));
            }
            for position in removed {
                pieces.remove(position);
                set.remove(&position);
            }
            prop_assert!((0..=u8::MAX).all(|position| pieces.contains(position) == set.contains(&position)));
            prop_assert_eq!(pieces.is_empty(), set.is_empty());
            prop_assert_eq!(pieces.is_full(), set.len() == SEGMENT_PIECES);
            prop_assert_eq!(PieceSet::from_bytes(pieces.to_bytes()), pieces);
        }
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let bytes = [0, 9, 255].into_iter().collect::<PieceSet>().to_bytes();
        assert_eq!((bytes[0], bytes[1], bytes[31]), (1, 2, 0x80));
        assert_eq!((0..=u8::MAX).collect::<PieceSet>(), PieceSet::FULL);
    }
}
