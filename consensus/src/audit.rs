//! Auditing: which chunks of a sector's s-bucket come close enough to the challenge of a slot (PROTOCOL 6).

use crate::challenge::{SectorSlotChallenge, audit_distance};
use crate::cpu::CpuLevel;
use crate::lanes::Parameters;
use crate::simd::{MAX_LANES, Quad, at_every_level, at_level};

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
    mut take: impl FnMut(usize, u64),
) {
    at_level!(
        level,
        hash_chunks(&Parameters::keyed(&challenge.0, 32), chunks, |chunk_offset, audit| {
            take(chunk_offset, audit_distance(global_challenge, audit));
        })
    );
}

/// Where the halves of 16 chunks lie among 32 quads.
const LOW_HALVES: [u16; MAX_LANES] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
const HIGH_HALVES: [u16; MAX_LANES] = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31];

at_every_level! { use crate::lanes;
    /// Calls `take` with the number of each chunk and the first 64 bits of its hash.
    fn hash_chunks[F: FnMut(usize, u64)](parameters: &Parameters, chunks: &[[u8; 32]], mut take: F) {
        let mut halves: [Quad; 2 * MAX_LANES] = [[0; 4]; 2 * MAX_LANES];
        for (batch, chunks) in chunks.chunks(LANES).enumerate() {
            for (halves, chunk) in halves.as_chunks_mut::<2>().0.iter_mut().zip(chunks) {
                let words = halves.as_flattened_mut().iter_mut().zip(chunk.as_chunks::<4>().0);
                words.for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
            }
            let [a, b, c, d] = load_quads(&halves, &LOW_HALVES);
            let [e, f, g, h] = load_quads(&halves, &HIGH_HALVES);
            let hash = hash(parameters, &[a, b, c, d, e, f, g, h]);
            let (mut low, mut high) = ([0; MAX_LANES], [0; MAX_LANES]);
            store(&mut low, hash[0]);
            store(&mut high, hash[1]);
            for lane in 0..chunks.len() {
                take(batch * LANES + lane, u64::from(high[lane]) << 32 | u64::from(low[lane]));
            }
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
