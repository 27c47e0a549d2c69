//! Proof of space: seven tables of about 2^20 entries grown from a 32-byte seed (PROTOCOL section 1).
//!
//! ```text
//!  seed ─ ChaCha8 ─▶ table 1: y, x            an entry of table t+1 = a matching pair of table t
//!                       │ match, BLAKE3          in adjacent buckets of y
//!                      ...
//!                    table 7: y ─▶ first entry of each s-bucket ─▶ walk back to 64 x-values = the proof
//! ```
//!
//! [`Tables`] builds and searches, [`is_valid`] checks a proof without any table. One bucket after another is brought into
//! order (`bucket`), matched with the one beside it (`matching`), and what comes out is hashed (`children`) and put where the
//! next table has it (`tables`). What decides between equal candidates is the *position* of an entry, which its [`Pointer`] carries in 31
//! bits that order as consensus wants.

mod bucket;
mod children;
mod function;
mod matching;
mod memory;
mod proofs;
mod tables;
mod verify;

pub use proofs::{ProofHash, ProofHashes};
pub use tables::{NoObserver, Observer, Tables};
pub use verify::is_valid;

use crate::constants::{POS_K, POS_PROOF_SIZE};

/// Seed of a table: the evaluation seed of a piece in a sector.
pub type Seed = [u8; 32];
/// Proof of space: 64 x-values of 20 bits, most significant bit first.
pub type Proof = [u8; POS_PROOF_SIZE];

/// Bits that y has beyond K.
const EXTRA_BITS: u32 = 6;
/// Bits of y.
const Y_BITS: u32 = POS_K + EXTRA_BITS;
/// Rows of a bucket.
const ROWS: u32 = 119;
/// Columns of a bucket.
const COLUMNS: u32 = 127;
/// Values of y in a bucket.
const BUCKET_SIZE: u32 = ROWS * COLUMNS;
/// Buckets of a table.
const BUCKETS: usize = (1u32 << Y_BITS).div_ceil(BUCKET_SIZE) as usize;
/// Targets that a left entry has in the right bucket.
const TARGETS: usize = 64;
/// Entries kept of a bucket, and matches kept of a pair of buckets; never reached in practice (largest seen: 374).
const CAPACITY: usize = 512;
/// Tables.
const TABLES: usize = 7;
/// x-values of a proof.
const PROOF_VALUES: usize = 1 << (TABLES - 1);

const _: () = assert!(BUCKETS == 4441);

/// Column distance of target `m` from a left column, by the parity of the left bucket: (2m + parity)^2 mod 127.
const SHIFTS: [[u8; TARGETS]; 2] = [shifts(0), shifts(1)];

const fn shifts(parity: u32) -> [u8; TARGETS] {
    let mut shifts = [0; TARGETS];
    let mut m = 0;
    while m < TARGETS {
        let root = 2 * m as u32 + parity;
        shifts[m] = (root * root % COLUMNS) as u8;
        m += 1;
    }
    shifts
}

/// Where an entry came from: left bucket (13 bits), rank of the left parent in it (9), rank of the right parent in the next
/// bucket (9). Comparing two pointers of one table compares their positions (PROTOCOL 1, "Order inside tables").
/// In table 1 it is x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Pointer(u32);

impl Pointer {
    /// Bucket of the left parent; without meaning in table 1.
    #[inline(always)]
    pub fn left_bucket(self) -> usize {
        (self.0 >> 18) as usize
    }

    #[inline(always)]
    fn left_rank(self) -> usize {
        (self.0 >> 9 & 511) as usize
    }

    #[inline(always)]
    fn right_rank(self) -> usize {
        (self.0 & 511) as usize
    }
}

/// The 20 bits of y that a proof for this challenge index must have: the index's little-endian bytes read as a big-endian
/// number, its top 20 bits (PROTOCOL 1, "Lookup").
pub fn challenge_target(challenge_index: u32) -> u32 {
    challenge_index.swap_bytes() >> (32 - POS_K)
}

/// The s-bucket whose target is `target`, if one is: the low four bits of an s-bucket's target are zero.
#[inline(always)]
fn s_bucket_of_target(target: u32) -> Option<u16> {
    (target & 15 == 0).then(|| ((target >> 4) as u16).swap_bytes())
}

/// An array on the heap that was never on the stack.
fn zeros<T: Default + Copy, const N: usize>() -> Box<[T; N]> {
    vec![T::default(); N]
        .into_boxed_slice()
        .try_into()
        .unwrap_or_else(|_| unreachable!("N values are N values"))
}

/// The 64 x-values of a proof.
fn unpack_proof(proof: &Proof) -> [u32; PROOF_VALUES] {
    let mut values = [0; PROOF_VALUES];
    for (pair, bytes) in values.as_chunks_mut::<2>().0.iter_mut().zip(proof.as_chunks::<5>().0) {
        let [a, b, c, d, e] = *bytes;
        let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        *pair = [(bits >> POS_K) as u32, bits as u32 & ((1 << POS_K) - 1)];
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_bucket_targets() {
        for s_bucket in [0u16, 1, 255, 256, 0x1234, 65535] {
            let target = challenge_target(u32::from(s_bucket));
            assert_eq!(target, u32::from(s_bucket & 255) << 12 | u32::from(s_bucket >> 8) << 4);
            assert_eq!(s_bucket_of_target(target), Some(s_bucket));
            assert_eq!(s_bucket_of_target(target + 1), None);
        }
    }

    #[test]
    fn proofs_are_20_bits_a_value() {
        let proof: Proof = std::array::from_fn(|i| (i as u8).wrapping_mul(0x9D));
        let bit = |i: usize| u32::from(proof[i / 8] >> (7 - i % 8) & 1);
        let expected =
            std::array::from_fn(|value| (0..20).fold(0, |bits, i| bits << 1 | bit(20 * value + i)));
        assert_eq!(unpack_proof(&proof), expected);
    }

    #[test]
    fn pointers_order_by_bucket_left_right() {
        let pointer = |bucket: u32, left: u32, right: u32| Pointer(bucket << 18 | left << 9 | right);
        assert!(pointer(1, 0, 0) > pointer(0, 511, 511));
        assert!(pointer(7, 3, 0) > pointer(7, 2, 511));
        let pointer = pointer(4440, 511, 300);
        assert_eq!((pointer.left_bucket(), pointer.left_rank(), pointer.right_rank()), (4440, 511, 300));
    }
}
