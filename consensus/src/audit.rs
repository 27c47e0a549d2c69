//! Auditing: which chunks of a sector's s-bucket come close enough to the challenge of a slot (PROTOCOL 6).

use crate::challenge::{SectorSlotChallenge, audit_distance};
use crate::cpu::{CpuLevel, Level};
use crate::lanes::{MAX_LANES, Parameters};
use crate::simd::{self, Simd};

/// A chunk that may win a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Place of the chunk within the s-bucket.
    pub chunk_offset: usize,
    /// Distance to the challenge.
    pub distance: u64,
}

/// The chunks, as stored, of the audited s-bucket whose distance is at most half the solution range; closest first, equal ones in order.
pub fn audit(
    level: CpuLevel,
    global_challenge: &[u8; 32],
    challenge: &SectorSlotChallenge,
    solution_range: u64,
    chunks: &[[u8; 32]],
) -> Vec<Candidate> {
    let half = solution_range / 2;
    let mut candidates = Vec::new();
    for_each_distance(level, global_challenge, challenge, chunks, |chunk_offset, distance| {
        if distance <= half {
            candidates.push(Candidate { chunk_offset, distance });
        }
    });
    candidates.sort_by_key(|candidate| candidate.distance);
    candidates
}

/// Distance of every chunk, in order.
pub fn distances(
    level: CpuLevel,
    global_challenge: &[u8; 32],
    challenge: &SectorSlotChallenge,
    chunks: &[[u8; 32]],
) -> Vec<u64> {
    let mut distances = Vec::with_capacity(chunks.len());
    for_each_distance(level, global_challenge, challenge, chunks, |_, distance| distances.push(distance));
    distances
}

fn for_each_distance(
    level: CpuLevel,
    global_challenge: &[u8; 32],
    challenge: &SectorSlotChallenge,
    chunks: &[[u8; 32]],
    take: impl FnMut(usize, u64),
) {
    match level.level() {
        // SAFETY: needs no instruction set.
        Level::Portable => unsafe { in_lanes::<simd::Portable>(global_challenge, challenge, chunks, take) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `CpuLevel` of AVX2 exists only where the processor has it.
        Level::Avx2 => unsafe { in_lanes::<simd::Avx2>(global_challenge, challenge, chunks, take) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, for AVX-512.
        Level::Avx512 => unsafe { in_lanes::<simd::Avx512>(global_challenge, challenge, chunks, take) },
    }
}

/// # Safety
/// The processor has the instruction set of `S`.
unsafe fn in_lanes<S: Simd>(
    global_challenge: &[u8; 32],
    challenge: &SectorSlotChallenge,
    chunks: &[[u8; 32]],
    mut take: impl FnMut(usize, u64),
) {
    let parameters = Parameters::keyed(&challenge.0, 32);
    let mut message = [[0; MAX_LANES]; 8];
    for (batch, chunks) in chunks.chunks(S::LANES).enumerate() {
        for (lane, chunk) in chunks.iter().enumerate() {
            for (words, bytes) in message.iter_mut().zip(chunk.as_chunks::<4>().0) {
                words[lane] = u32::from_le_bytes(*bytes);
            }
        }
        // SAFETY: promised by the caller.
        let [low, high, ..] = unsafe { S::compress(&parameters, &message) };
        for lane in 0..chunks.len() {
            let audit = u64::from(low[lane]) | u64::from(high[lane]) << 32;
            take(batch * S::LANES + lane, audit_distance(global_challenge, audit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::chunk_distance;

    fn chunks(count: u64) -> Vec<[u8; 32]> {
        (0..count).map(|i| blake3::hash(&i.to_le_bytes()).into()).collect()
    }

    #[test]
    fn every_level_equals_hashing_one_by_one() {
        let (global, challenge) = ([3; 32], SectorSlotChallenge([9; 32]));
        let chunks = chunks(37);
        let expected: Vec<u64> =
            chunks.iter().map(|chunk| chunk_distance(&global, &challenge, chunk)).collect();
        for level in CpuLevel::available() {
            for count in [0, 1, 3, 4, 8, 15, 16, 17, 37] {
                assert_eq!(
                    distances(level, &global, &challenge, &chunks[..count]),
                    expected[..count],
                    "{level}"
                );
            }
        }
    }

    #[test]
    fn candidates_are_sorted_and_within_half_the_range() {
        let (global, challenge) = ([3; 32], SectorSlotChallenge([9; 32]));
        let chunks = chunks(500);
        let level = CpuLevel::detect();
        let range = u64::MAX / 4;
        let candidates = audit(level, &global, &challenge, range, &chunks);
        assert!(candidates.is_sorted_by_key(|candidate| candidate.distance));
        let within =
            distances(level, &global, &challenge, &chunks).into_iter().filter(|d| *d <= range / 2).count();
        assert!(candidates.len() == within && within > 50);
        let exact = candidates[3].distance;
        assert_eq!(audit(level, &global, &challenge, 2 * exact, &chunks).len(), 4);
        assert_eq!(audit(level, &global, &challenge, 2 * exact - 1, &chunks).len(), 3);
    }
}
