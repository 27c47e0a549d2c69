//! What follows from a sector's identity alone (PROTOCOL 5.1).

use crate::constants::SEGMENT_PIECES;
use crate::kzg::PointBytes;

/// What the chain says about plotting and proving; the runtime's constants and the current history size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolInfo {
    /// Segments of history so far, at least 1.
    pub history_size: u64,
    /// Most pieces that a sector may have.
    pub max_pieces_in_sector: u16,
    /// How many of the newest segments count as recent.
    pub recent_segments: u64,
    /// Part of a sector that recent segments get, as numerator and denominator in segments.
    pub recent_history_fraction: (u64, u64),
    /// Segments for which a sector lives at least.
    pub min_sector_lifetime: u64,
}

/// Identifies a sector of a farmer at a history size; seeds everything in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SectorId(pub [u8; 32]);

/// Hash of a farmer's public key.
pub fn public_key_hash(public_key: &[u8; 32]) -> [u8; 32] {
    blake3::hash(public_key).into()
}

impl SectorId {
    /// Keyed hash of sector index and history size under the hash of the public key.
    pub fn new(public_key_hash: &[u8; 32], sector_index: u16, history_size: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(public_key_hash);
        hasher.update(&sector_index.to_le_bytes()).update(&history_size.to_le_bytes());
        Self(hasher.finalize().into())
    }

    /// Seed of the proof-of-space table that encodes the record at `piece_offset`.
    pub fn evaluation_seed(&self, piece_offset: u16) -> crate::pos::Seed {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(&piece_offset.to_le_bytes());
        hasher.finalize().into()
    }

    /// Which piece of history lies at `piece_offset` of a sector plotted at `history_size` segments. The rule goes by the
    /// protocol's maximum of pieces in a sector, not by the sector's own number. History of more than 2^56 segments, whose
    /// pieces no index can name, counts as that much.
    pub fn piece_index(&self, piece_offset: u16, history_size: u64, info: &ProtocolInfo) -> u64 {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&piece_offset.to_le_bytes());
        let hash: [u8; 32] = blake3::keyed_hash(&key, &self.0).into();
        let pieces = SEGMENT_PIECES as u64;
        let total = history_size.saturating_mul(pieces).max(1);
        let recent = info.recent_segments.saturating_mul(pieces).max(1);
        let (numerator, denominator) = info.recent_history_fraction;
        let (numerator, denominator) =
            (numerator.saturating_mul(pieces).max(1), denominator.saturating_mul(pieces).max(1));
        let threshold = recent.saturating_mul(denominator) / numerator;
        let interleaved = u64::from(info.max_pieces_in_sector).saturating_mul(numerator) / denominator * 2;
        let is_recent =
            total > threshold && u64::from(piece_offset) < interleaved.max(1) && piece_offset % 2 == 1;
        if is_recent {
            remainder(&hash, recent).saturating_add(total - recent.min(total))
        } else {
            remainder(&hash, total)
        }
    }

    /// The history size at which the sector expires, or None where the arithmetic overflows (such a sector is invalid).
    /// `commitment` is that of the segment with index [`expiration_check_history_size`] - 1.
    pub fn expiration_history_size(
        &self,
        history_size: u64,
        min_sector_lifetime: u64,
        commitment: &PointBytes,
    ) -> Option<u64> {
        let check_size = expiration_check_history_size(history_size, min_sector_lifetime)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(commitment);
        let hash: [u8; 32] = hasher.finalize().into();
        let expires_in = min_sector_lifetime
            .checked_add(history_size.checked_mul(4)?)?
            .checked_sub(check_size)
            .filter(|modulus| *modulus != 0)?;
        check_size.checked_add(remainder(&hash, expires_in))
    }
}

/// The history size whose newest segment decides when a sector expires; None on overflow.
pub fn expiration_check_history_size(history_size: u64, min_sector_lifetime: u64) -> Option<u64> {
    history_size.checked_add(min_sector_lifetime)
}

/// A 256-bit little-endian number modulo a non-zero one.
fn remainder(number: &[u8; 32], modulus: u64) -> u64 {
    let limbs = number.as_chunks::<8>().0.iter().rev();
    let rest = limbs
        .fold(0u128, |rest, limb| (rest << 64 | u128::from(u64::from_le_bytes(*limb))) % u128::from(modulus));
    rest as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: ProtocolInfo = ProtocolInfo {
        history_size: 1,
        max_pieces_in_sector: 1000,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        hex::decode(hex).unwrap().try_into().unwrap()
    }

    #[test]
    fn figures_of_the_network() {
        let key = bytes("aa497028f4ddbebed7c0eee5ae5ca819e3aee2b7da38f8dc6fded9e35db602dd");
        let hash = public_key_hash(&key);
        assert_eq!(hash, bytes("8927ceb669bbcef51a0966dc56ef2c38ddc20e6388d5fb4b1bf7f9ccf8d8669e"));
        let id = SectorId::new(&hash, 0, 1);
        assert_eq!(id.0, bytes("236430a186a4168a4ca26d51201ee2089ea63bac94d5c716d0c9379ad8d55226"));
        let seed = bytes("12c79803a1e84e66f14b715942bd043474c4ebbb3af07d37425d8af77fb42b30");
        assert_eq!(id.evaluation_seed(0), seed);
        let id = SectorId::new(&hash, 7, 1);
        assert_eq!([0, 1, 2].map(|offset| id.piece_index(offset, 1, &INFO)), [45, 175, 247]);
    }

    #[test]
    fn remainders_of_wide_numbers() {
        assert_eq!(remainder(&[255; 32], 10), 5);
        assert_eq!(remainder(&[255; 32], u64::MAX), 0);
        let mut number = [0; 32];
        number[8] = 1;
        assert_eq!(remainder(&number, 1000), ((1u128 << 64) % 1000) as u64);
    }

    #[test]
    fn extremes_do_not_panic() {
        let id = SectorId([7; 32]);
        let hostile = ProtocolInfo { recent_history_fraction: (0, 0), recent_segments: u64::MAX, ..INFO };
        for size in [0, 1, u64::MAX] {
            id.piece_index(1, size, &hostile);
            id.piece_index(1, size, &INFO);
            id.expiration_history_size(size, u64::MAX, &[0; 48]);
            id.expiration_history_size(size, 0, &[0; 48]);
        }
        assert_eq!(id.expiration_history_size(1, u64::MAX, &[0; 48]), None);
    }

    #[test]
    fn odd_offsets_of_a_long_history_are_recent() {
        let id = SectorId([3; 32]);
        let size = 1000;
        for offset in 0..400 {
            let index = id.piece_index(offset, size, &INFO);
            assert!(index < size * 256);
            if offset % 2 == 1 && offset < 200 {
                assert!(index >= (size - 5) * 256, "offset {offset}");
            }
        }
    }
}
