//! Sums of the points of each bucket.
//!
//! Entries come sorted by bucket. A bucket's stretch of them is cut into *runs* of [`RUN_MAX`] at most. Runs are sorted by
//! length, and each lane of a *group* takes one run, so that lanes of a group work on equal lengths and never on the same
//! bucket. The points of a group lie one block behind the other; a *round* adds the second half of the blocks to the
//! first, until one block is left. Rounds go through as many groups together as fit the arena, which shares inversions.
//! Where a bucket had several runs, their sums are summed in the same way again.

use super::lanes::{LANES_MAX, NO_ENTRY, PointLanes, Sum};

/// Points that a round works on: enough to make an inversion small change, and a block for each eight of them fits the
/// second-level cache together with the products (0.7 MB with vectors).
const ARENA_POINTS: usize = 4096;

/// Entries of a run. Random scalars make sixteen or so.
const RUN_MAX: usize = 64;

/// Working memory, reused from one call to the next.
pub(super) struct Arena<L: PointLanes> {
    pub(super) blocks: Vec<L::Block>,
    pub(super) entries: Vec<u32>,
    pub(super) sums: Vec<Sum>,
    pub(super) scratch: L::Scratch,
}

/// Sums of buckets.
pub(super) struct BucketSums<L: PointLanes> {
    /// Sums of runs, among them those of all buckets.
    pub(super) points: Vec<L::Stored>,
    /// For each bucket the place of its sum in `points`, or [`NO_ENTRY`].
    pub(super) entries: Vec<u32>,
}

/// A stretch of entries of one bucket.
#[derive(Debug, Clone, Copy)]
struct Run {
    bucket: u32,
    start: u32,
    length: u32,
}

/// Blocks of the arena that one group of runs takes.
#[derive(Debug, Clone, Copy)]
struct Group {
    first: usize,
    length: usize,
}

impl<L: PointLanes> Arena<L> {
    pub(super) fn new() -> Self {
        Self { blocks: Vec::new(), entries: Vec::new(), sums: Vec::new(), scratch: L::Scratch::default() }
    }

    /// Makes sure that there are so many blocks; what they hold is anything.
    pub(super) fn reserve(&mut self, lanes: L, blocks: usize) {
        if self.blocks.len() < blocks {
            self.blocks.resize(blocks, lanes.block_infinity());
        }
    }
}

/// Sums the points of each bucket. Bucket `b` has the entries from `bounds[b]` to `bounds[b + 1]`.
pub(super) fn sum_buckets<L: PointLanes>(
    lanes: L,
    points: &[L::Stored],
    mut entries: Vec<u32>,
    bounds: &[u32],
    arena: &mut Arena<L>,
) -> BucketSums<L> {
    let mut runs = Vec::with_capacity(bounds.len());
    for (bucket, bounds) in bounds.windows(2).enumerate() {
        cut(&mut runs, bucket as u32, bounds[0], bounds[1]);
    }
    let mut out = BucketSums { points: Vec::new(), entries: vec![NO_ENTRY; bounds.len() - 1] };
    let mut is_first = true;
    while !runs.is_empty() {
        let done = out.points.len();
        out.points.resize(done + runs.len(), lanes.stored_infinity());
        let (before, sums) = out.points.split_at_mut(done);
        sum_runs(lanes, if is_first { points } else { before }, &entries, &runs, sums, arena);
        is_first = false;
        (entries, runs) = settle(&runs, done as u32, &mut out.entries);
    }
    out
}

/// Notes the sums of buckets that had one run. The runs' sums of other buckets are the entries of the next pass.
fn settle(runs: &[Run], first: u32, places: &mut [u32]) -> (Vec<u32>, Vec<Run>) {
    let (mut entries, mut next) = (Vec::new(), Vec::new());
    let mut sum = first;
    for runs in runs.chunk_by(|a, b| a.bucket == b.bucket) {
        let (bucket, sums) = (runs[0].bucket, sum..sum + runs.len() as u32);
        if runs.len() == 1 {
            places[bucket as usize] = sum;
        } else {
            let start = entries.len() as u32;
            entries.extend(sums.clone());
            cut(&mut next, bucket, start, entries.len() as u32);
        }
        sum = sums.end;
    }
    (entries, next)
}

fn cut(runs: &mut Vec<Run>, bucket: u32, from: u32, to: u32) {
    for start in (from..to).step_by(RUN_MAX) {
        runs.push(Run { bucket, start, length: (to - start).min(RUN_MAX as u32) });
    }
}

/// Sums each run; `sums[i]` is that of `runs[i]`.
fn sum_runs<L: PointLanes>(
    lanes: L,
    points: &[L::Stored],
    entries: &[u32],
    runs: &[Run],
    sums: &mut [L::Stored],
    arena: &mut Arena<L>,
) {
    let order = by_length(runs);
    let mut stored = [lanes.stored_infinity(); LANES_MAX];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let count = fitting(L::LANES, runs, rest);
        let (now, later) = rest.split_at(count);
        rest = later;
        let groups = lay_out::<L>(entries, runs, now, &mut arena.entries);
        arena.reserve(lanes, arena.entries.len() / L::LANES);
        lanes.gather(points, &arena.entries, &mut arena.blocks[..arena.entries.len() / L::LANES]);
        add_rounds(lanes, &groups, arena);
        for (group, members) in groups.iter().zip(now.chunks(L::LANES)) {
            lanes.scatter(&arena.blocks[group.first], &mut stored[..L::LANES]);
            for (run, sum) in members.iter().zip(&stored) {
                sums[*run as usize] = *sum;
            }
        }
    }
}

/// Numbers of the runs, the shortest run first.
fn by_length(runs: &[Run]) -> Vec<u32> {
    let mut ends = [0; RUN_MAX + 1];
    runs.iter().for_each(|run| ends[run.length as usize] += 1);
    let mut sum = 0;
    for end in &mut ends {
        sum += std::mem::replace(end, sum);
    }
    let mut order = vec![0; runs.len()];
    for (number, run) in runs.iter().enumerate() {
        let place = &mut ends[run.length as usize];
        order[*place] = number as u32;
        *place += 1;
    }
    order
}

/// How many of these runs, in groups, fit the arena; one group at least.
fn fitting(lanes: usize, runs: &[Run], order: &[u32]) -> usize {
    let mut points = 0;
    let groups = order.chunks(lanes).take_while(|group| {
        points += lanes * longest(runs, group);
        points <= ARENA_POINTS
    });
    groups.map(<[u32]>::len).sum::<usize>().max(lanes).min(order.len())
}

/// Length of the longest run of a group: its last.
fn longest(runs: &[Run], group: &[u32]) -> usize {
    group.last().map_or(0, |run| runs[*run as usize].length as usize)
}

/// Lists the entries of runs as blocks take them: a block for each place in a run, a lane for each run.
fn lay_out<L: PointLanes>(entries: &[u32], runs: &[Run], order: &[u32], places: &mut Vec<u32>) -> Vec<Group> {
    let mut groups = Vec::with_capacity(order.len().div_ceil(L::LANES));
    places.clear();
    for members in order.chunks(L::LANES) {
        let first = places.len();
        let length = longest(runs, members);
        groups.push(Group { first: first / L::LANES, length });
        places.resize(first + length * L::LANES, NO_ENTRY);
        for (lane, run) in members.iter().enumerate() {
            let run = runs[*run as usize];
            let own = &entries[run.start as usize..][..run.length as usize];
            let lane_places = places[first + lane..].iter_mut().step_by(L::LANES);
            lane_places.zip(own).for_each(|(place, entry)| *place = *entry);
        }
    }
    groups
}

/// Adds up the blocks of each group into its first.
fn add_rounds<L: PointLanes>(lanes: L, groups: &[Group], arena: &mut Arena<L>) {
    let mut groups = groups.to_vec();
    loop {
        arena.sums.clear();
        for group in &mut groups {
            let Group { first, length } = *group;
            arena.sums.extend(
                (0..length / 2)
                    .map(|i| Sum { target: (first + i) as u32, other: (first + length - 1 - i) as u32 }),
            );
            group.length = length.div_ceil(2);
        }
        if arena.sums.is_empty() {
            return;
        }
        lanes.add(&mut arena.blocks, &arena.sums, &mut arena.scratch);
    }
}
