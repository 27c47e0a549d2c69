//! Checking a proof without a table (PROTOCOL 1, "Verification").

use super::function::{f_single, f1_single};
use super::{BUCKET_SIZE, COLUMNS, PROOF_VALUES, Proof, ROWS, Seed, TARGETS, challenge_target, unpack_proof};
use crate::constants::POS_K;

/// Whether `proof` is a proof of space for the challenge index under this seed.
///
/// As consensus has it, pairs are compared by their residues in a bucket and the parity of the left bucket only: neither
/// adjacency of the buckets nor distinct x-values are asked for (tables never produce anything else).
pub fn is_valid(seed: &Seed, challenge_index: u32, proof: &Proof) -> bool {
    let mut y = [0; PROOF_VALUES];
    let mut metadata = [0; PROOF_VALUES];
    for (i, x) in unpack_proof(proof).into_iter().enumerate() {
        y[i] = f1_single(seed, x);
        metadata[i] = u128::from(x);
    }
    fold::<2>(&mut y, &mut metadata)
        && fold::<3>(&mut y[..32], &mut metadata)
        && fold::<4>(&mut y[..16], &mut metadata)
        && fold::<5>(&mut y[..8], &mut metadata)
        && fold::<6>(&mut y[..4], &mut metadata)
        && fold::<7>(&mut y[..2], &mut metadata)
        && y[0] >> (super::Y_BITS - POS_K) == challenge_target(challenge_index)
}

/// Replaces the entries by those of table `T` that their adjacent pairs make; false when a pair does not match.
fn fold<const T: u8>(y: &mut [u32], metadata: &mut [u128]) -> bool {
    for i in 0..y.len() / 2 {
        let (left, right) = (2 * i, 2 * i + 1);
        if !matches(y[left], y[right]) {
            return false;
        }
        (y[i], metadata[i]) = f_single::<T>(y[left], metadata[left], metadata[right]);
    }
    true
}

fn matches(left_y: u32, right_y: u32) -> bool {
    let parity = left_y / BUCKET_SIZE % 2;
    let (left, right) = (left_y % BUCKET_SIZE, right_y % BUCKET_SIZE);
    (0..TARGETS as u32).any(|m| {
        let row = (left / COLUMNS + m) % ROWS;
        let root = 2 * m + parity;
        row * COLUMNS + (root * root + left) % COLUMNS == right
    })
}
