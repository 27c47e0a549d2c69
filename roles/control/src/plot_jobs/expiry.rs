//! How long plotted sectors live: PROTOCOL 5.1, and what is known of the segments that decide it.

use crate::messages::ProtocolInfo;
use consensus::sector::{SectorId, expiration_check_history_size};
use std::collections::{BTreeMap, BTreeSet};

/// Segment commitments asked for in one look over a farm: the rest follows in the next.
pub const MAX_COMMITMENTS_ASKED: usize = 512;

/// How old a plotted sector is, at the present history size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It does not expire yet, or the segment that decides it does not exist.
    Good,
    /// It expires with the next segment.
    AboutToExpire,
    /// It has expired.
    Expired,
}

impl Age {
    /// Of a sector that expires at history size `expires_at` (PROTOCOL 5.1; none = arithmetic overflow, which no valid sector has),
    /// when the history has `history_size` segments (PROTOCOL 7, expiry handling).
    pub fn of(expires_at: Option<u64>, history_size: u64) -> Self {
        match expires_at {
            None => Self::Expired,
            Some(at) if at <= history_size => Self::Expired,
            Some(at) if at <= history_size.saturating_add(1) => Self::AboutToExpire,
            Some(_) => Self::Good,
        }
    }
}

/// Index of the segment that decides when a sector plotted at `history_size` expires, once it exists.
pub fn deciding_segment(history_size: u64, info: &ProtocolInfo) -> Option<u64> {
    let check_size = expiration_check_history_size(history_size, info.min_sector_lifetime)?;
    (check_size <= info.history_size).then(|| check_size.saturating_sub(1))
}

/// The commitments that decide about the sectors of one farm: no more than it has sectors.
#[derive(Debug)]
pub(super) struct Segments {
    key_hash: [u8; 32],
    known: BTreeMap<u64, [u8; 48]>,
    asked: BTreeSet<u64>,
}

impl Segments {
    /// Of a farm whose public key has this hash.
    pub fn new(key_hash: [u8; 32]) -> Self {
        Self { key_hash, known: BTreeMap::new(), asked: BTreeSet::new() }
    }

    /// The age of a sector. Good while its segment's commitment is not known.
    pub fn age(&self, sector: u16, history_size: u64, info: &ProtocolInfo) -> Age {
        let commitment = deciding_segment(history_size, info).and_then(|segment| self.known.get(&segment));
        let Some(commitment) = commitment else { return Age::Good };
        let id = SectorId::new(&self.key_hash, sector, history_size);
        let expires_at = id.expiration_history_size(history_size, info.min_sector_lifetime, commitment);
        Age::of(expires_at, info.history_size)
    }

    /// A commitment that was asked for. Others are not kept.
    pub fn learn(&mut self, segment: u64, commitment: [u8; 48]) {
        if self.asked.remove(&segment) {
            self.known.insert(segment, commitment);
        }
    }

    /// Keeps what decides about sectors of these history sizes, and gives what is to be asked for.
    pub fn needed(&mut self, sizes: impl Iterator<Item = u64>, info: &ProtocolInfo) -> Vec<u64> {
        let needed: BTreeSet<_> = sizes.filter_map(|size| deciding_segment(size, info)).collect();
        self.known.retain(|segment, _| needed.contains(segment));
        let unknown = needed.into_iter().filter(|segment| !self.known.contains_key(segment));
        self.asked = unknown.take(MAX_COMMITMENTS_ASKED).collect();
        self.asked.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_follows_the_protocol() {
        assert_eq!(Age::of(Some(20), 20), Age::Expired);
        assert_eq!(Age::of(Some(19), 20), Age::Expired);
        assert_eq!(Age::of(Some(21), 20), Age::AboutToExpire);
        assert_eq!(Age::of(Some(22), 20), Age::Good);
        assert_eq!(Age::of(None, 1), Age::Expired);
        assert_eq!(Age::of(Some(u64::MAX), u64::MAX), Age::Expired);
    }

    #[test]
    fn only_what_decides_is_asked_for_and_kept() {
        let info = |history_size| ProtocolInfo {
            history_size,
            max_pieces_in_sector: 2,
            recent_segments: 5,
            recent_history_fraction: (1, 10),
            min_sector_lifetime: 4,
        };
        let mut segments = Segments::new([1; 32]);
        assert_eq!(segments.needed([9, 10, u64::MAX].into_iter(), &info(13)), [12], "the rest is to come");
        assert_eq!(segments.age(0, 9, &info(1000)), Age::Good, "unknown");
        segments.learn(12, [2; 48]);
        segments.learn(13, [2; 48]);
        assert_eq!(segments.age(0, 9, &info(1000)), Age::Expired);
        assert_eq!(segments.age(0, 10, &info(1000)), Age::Good, "nobody asked for segment 13");
        assert_eq!(segments.needed([9].into_iter(), &info(14)), [0u64; 0]);
        assert_eq!(segments.needed([10].into_iter(), &info(14)), [13]);
        assert_eq!(segments.age(0, 9, &info(1000)), Age::Good, "no longer kept");
    }
}
