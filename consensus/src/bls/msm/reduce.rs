//! From sums of buckets to the sum of digits times points.
//!
//! The sum over digits d of d B_d takes two sums a bucket: going down from the highest digit, S += B_d and T += S. That is
//! a chain, so each *set* of buckets is cut into chains of consecutive digits, and each lane follows one chain. For the
//! chain of digits o + 1 to o + K it gives S, the plain sum, and T, the sum of (d - o) B_d; the set's sum is that of T + o
//! S over its chains, of which there are few, so `blst` does it point by point.

use super::buckets::{Arena, BucketSums};
use super::lanes::{NO_ENTRY, PointLanes, Sum};
use crate::bls::{G1, G1Affine};

/// Chains in all. More share inversions better but cost more at the end.
const CHAINS: usize = 256;

/// Sums of `sets` sets of `2^log2_buckets` buckets each, for digits 1, 2 and so on.
pub(super) fn reduce<L: PointLanes>(
    lanes: L,
    buckets: &BucketSums<L>,
    sets: usize,
    log2_buckets: usize,
    arena: &mut Arena<L>,
) -> Vec<G1> {
    let set_chains = (CHAINS / sets).max(1).next_power_of_two().min(1 << log2_buckets);
    let chain_length = (1 << log2_buckets) / set_chains;
    let (sums, weighted) = follow_chains(lanes, buckets, chain_length, arena);
    let chains = sums.chunks(set_chains).zip(weighted.chunks(set_chains));
    chains.map(|(sums, weighted)| join_chains(sums, weighted, chain_length)).collect()
}

/// S and T of every chain.
fn follow_chains<L: PointLanes>(
    lanes: L,
    buckets: &BucketSums<L>,
    chain_length: usize,
    arena: &mut Arena<L>,
) -> (Vec<G1Affine>, Vec<G1Affine>) {
    let count = buckets.entries.len() / chain_length;
    let width = count.div_ceil(L::LANES);
    let (first_sum, first_weighted) = (width, 2 * width);
    arena.blocks.clear();
    arena.blocks.resize(3 * width, lanes.block_infinity());
    // T takes S as the step before left it, so that both sums of a step are independent: T comes first, and once more
    // at the end.
    let each = |arena: &mut Arena<L>, target: usize, other: usize| {
        arena.sums.extend((0..width).map(|i| Sum { target: (target + i) as u32, other: (other + i) as u32 }));
    };
    for step in (0..chain_length).rev() {
        let heads = (0..width * L::LANES).map(|chain| chain * chain_length + step);
        arena.entries.clear();
        arena.entries.extend(heads.map(|bucket| buckets.entries.get(bucket).copied().unwrap_or(NO_ENTRY)));
        lanes.gather(&buckets.points, &arena.entries, &mut arena.blocks[..width]);
        arena.sums.clear();
        each(arena, first_weighted, first_sum);
        each(arena, first_sum, 0);
        lanes.add(&mut arena.blocks, &arena.sums, &mut arena.scratch);
    }
    arena.sums.clear();
    each(arena, first_weighted, first_sum);
    lanes.add(&mut arena.blocks, &arena.sums, &mut arena.scratch);
    let unload = |first: usize| unload(lanes, &arena.blocks[first..][..width], count);
    (unload(first_sum), unload(first_weighted))
}

fn unload<L: PointLanes>(lanes: L, blocks: &[L::Block], count: usize) -> Vec<G1Affine> {
    let mut stored = vec![lanes.stored_infinity(); blocks.len() * L::LANES];
    for (block, points) in blocks.iter().zip(stored.chunks_exact_mut(L::LANES)) {
        lanes.scatter(block, points);
    }
    stored[..count].iter().map(|point| lanes.restore(point)).collect()
}

/// The sum of T + o S over the chains of a set, where the offset o of chain q is q times the length, a power of two.
fn join_chains(sums: &[G1Affine], weighted: &[G1Affine], chain_length: usize) -> G1 {
    let (mut sum, mut offsets) = (G1::infinity(), G1::infinity());
    for point in sums[1..].iter().rev() {
        sum = sum.add_affine(point);
        offsets += sum;
    }
    for _ in 0..chain_length.ilog2() {
        offsets = offsets.double();
    }
    weighted.iter().fold(offsets, G1::add_affine)
}
