//! Growing the seven tables of a seed and taking proofs out of them.

use super::bucket::{Bucket, Entry, metadata, residue};
use super::children::Children;
use super::function;
use super::matching::Matches;
use super::memory::Memory;
use super::{BUCKET_SIZE, BUCKETS, CAPACITY, EXTRA_BITS, Pointer, Seed, s_bucket_of_target, zeros};
use crate::constants::{POS_K, POS_PROOF_SIZE, S_BUCKETS};
use crate::cpu::CpuLevel;
use crate::simd::{at_every_level, at_level};

/// No entry of table 7 for this s-bucket.
pub(super) const NONE: u64 = u64::MAX;

/// Entries from the start of a bucket to that of the next. Not a power of two: places of all buckets that are written at the
/// same time shall not compete for the same sets of a cache.
const STRIDE: usize = CAPACITY + 4;

/// Sees every entry of every table as it is made, in no promised order; for inspection.
pub trait Observer {
    /// Whether there is something to see; what is not looked at costs nothing.
    const WATCHES: bool = true;

    /// An entry of `table` (1..=7): y, metadata and where it came from.
    fn entry(&mut self, table: u8, y: u32, metadata: u128, pointer: Pointer);
}

/// Looks at nothing.
pub struct NoObserver;

impl Observer for NoObserver {
    const WATCHES: bool = false;

    fn entry(&mut self, _table: u8, _y: u32, _metadata: u128, _pointer: Pointer) {}
}

/// The memory in which the tables of one seed after another are grown: 113 MiB, allocated once.
///
/// Two sets of slots of 36 MiB, 12 of x-values, three times 6 of pointers, 4 of y of table 1 and 2.6 of its key stream; the first
/// three kinds in pages of 2 MiB where the system has them, of which only those written count.
///
/// A table is read bucket by bucket while the next one is written, so two sets of slots take turns. What stays of a table is
/// what proofs need: of table 3 the four x-values under each entry (its metadata is just these), of tables 4 to 6 the pointers.
pub struct Tables {
    pub(super) level: CpuLevel,
    slots: [Slots; 2],
    pub(super) x_values: Kept<X_VALUES_SIZE>,
    /// Of tables 4, 5 and 6.
    pub(super) pointers: [Kept<4>; 3],
    /// Table 7: low bits of y and pointer of the first entry of each s-bucket, or [`NONE`].
    pub(super) first: Box<[u64]>,
    left: Box<Bucket>,
    right: Box<Bucket>,
    matches: Box<Matches>,
    children: Box<Children>,
    y1: Vec<u32>,
    stream: Vec<u8>,
}

/// Entries of a table bucket by bucket, each bucket in position order.
struct Slots {
    counts: Box<[u16; BUCKETS]>,
    entries: Memory<Entry>,
}

impl Slots {
    fn new() -> Self {
        Self { counts: zeros(), entries: Memory::new(BUCKETS * STRIDE) }
    }

    #[inline(always)]
    fn bucket(&self, bucket: usize) -> &[Entry] {
        &self.entries[bucket * STRIDE..][..usize::from(self.counts[bucket])]
    }

    /// Appends; what a full bucket cannot take comes later in position order and is dropped, as consensus has it.
    #[inline(always)]
    fn push(&mut self, bucket: u16, entry: Entry) {
        let count = &mut self.counts[usize::from(bucket)];
        if usize::from(*count) < CAPACITY {
            self.entries[usize::from(bucket) * STRIDE + usize::from(*count)] = entry;
            *count += 1;
        }
    }
}

/// What is kept of a table, in consensus order: `N` bytes an entry.
pub(super) struct Kept<const N: usize> {
    /// Entries before each bucket.
    starts: Box<[u32; BUCKETS]>,
    count: usize,
    values: Memory<[u8; N]>,
}

/// Bytes of the four x-values under an entry of table 3, as they stand in a proof.
pub(super) const X_VALUES_SIZE: usize = POS_PROOF_SIZE / 16;

impl<const N: usize> Kept<N> {
    fn new() -> Self {
        Self { starts: zeros(), count: 0, values: Memory::new(BUCKETS * CAPACITY) }
    }

    #[inline(always)]
    fn push_bucket(&mut self, number: usize, bucket: &Bucket, value: impl Fn(&Entry) -> [u8; N]) {
        self.starts[number] = self.count as u32;
        let values = &mut self.values[self.count..][..bucket.count];
        for (kept, entry) in values.iter_mut().zip(&bucket.entries) {
            *kept = value(entry);
        }
        self.count += bucket.count;
    }

    /// What is kept of the parents of an entry of the next table.
    #[inline(always)]
    pub(super) fn parents(&self, pointer: Pointer) -> [[u8; N]; 2] {
        let left_start = self.starts[pointer.left_bucket()] as usize;
        let right_start = self.starts[pointer.left_bucket() + 1] as usize;
        [self.values[left_start + pointer.left_rank()], self.values[right_start + pointer.right_rank()]]
    }
}

at_every_level! { use crate::pos::bucket, crate::pos::matching, crate::pos::children;
    /// Grows tables 2 to 7 from table 1.
    fn grow_all[O: Observer](tables: &mut Tables, observer: &mut O) {
        grow::<2, O>(tables, observer);
        grow::<3, O>(tables, observer);
        grow::<4, O>(tables, observer);
        grow::<5, O>(tables, observer);
        grow::<6, O>(tables, observer);
        grow::<7, O>(tables, observer);
    }

    /// Reads table `T - 1` bucket by bucket and grows table `T` from the matches of neighbours.
    fn grow[const T: u8, O: Observer](tables: &mut Tables, observer: &mut O) {
        tables.slots[usize::from(T) % 2].counts.fill(0);
        next_bucket::<T>(tables, 0);
        for number in 1..BUCKETS {
            std::mem::swap(&mut tables.left, &mut tables.right);
            next_bucket::<T>(tables, number);
            let Tables { slots, first, left, right, matches, children, .. } = tables;
            find(left, right, (number - 1) % 2, matches);
            make::<T>(left, right, number - 1, matches, children);
            let (buckets, entries) = (&children.buckets[..matches.count], &children.entries[..matches.count]);
            if O::WATCHES {
                show::<T, O>(buckets, entries, observer);
            }
            if T < 7 {
                let slots = &mut slots[usize::from(T) % 2];
                for (bucket, entry) in buckets.iter().zip(entries) {
                    slots.push(*bucket, *entry);
                }
            } else {
                entries.iter().for_each(|entry| note_first(first, entry));
            }
        }
    }

    /// Makes bucket `number` of table `T - 1` the right one, and keeps of it what proofs need.
    #[inline]
    fn next_bucket[const T: u8](tables: &mut Tables, number: usize) {
        let Tables { slots, x_values, pointers, right, .. } = tables;
        sort(right, slots[usize::from(T - 1) % 2].bucket(number));
        match T - 1 {
            3 => x_values.push_bucket(number, right, x_values_of),
            table @ 4..=6 => pointers[usize::from(table) - 4].push_bucket(number, right, |entry| entry[3].to_le_bytes()),
            _ => {}
        }
    }
}

/// The metadata of an entry of table 3 is the x-values under it.
#[inline(always)]
fn x_values_of(entry: &Entry) -> [u8; X_VALUES_SIZE] {
    let [.., a, b, c, d, e, f, g, h, i, j] = metadata(entry).to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j]
}

/// Of table 7, the lowest y and of equal ones the first position is the proof of an s-bucket.
#[inline(always)]
fn note_first(first: &mut [u64], entry: &Entry) {
    let [y, _, _, pointer] = *entry;
    if let Some(s_bucket) = s_bucket_of_target(y >> EXTRA_BITS) {
        // Of y only the bits below the target can differ.
        let rank = u64::from(y & ((1 << EXTRA_BITS) - 1)) << 32 | u64::from(pointer);
        let first = &mut first[usize::from(s_bucket)];
        *first = rank.min(*first);
    }
}

fn show<const T: u8, O: Observer>(buckets: &[u16], entries: &[Entry], observer: &mut O) {
    for (bucket, entry) in buckets.iter().zip(entries) {
        let y = u32::from(*bucket) * BUCKET_SIZE + u32::from(residue(entry));
        let metadata = if T == 7 { 0 } else { metadata(entry) };
        observer.entry(T, y, metadata, Pointer(entry[3]));
    }
}

impl Tables {
    /// Allocates for one seed at a time, to be grown with the instructions of `level`.
    pub fn new(level: CpuLevel) -> Self {
        Self {
            level,
            slots: [Slots::new(), Slots::new()],
            x_values: Kept::new(),
            pointers: [Kept::new(), Kept::new(), Kept::new()],
            first: vec![NONE; S_BUCKETS].into_boxed_slice(),
            left: Box::default(),
            right: Box::default(),
            matches: Box::default(),
            children: Box::default(),
            y1: vec![0; 1 << POS_K],
            stream: Vec::new(),
        }
    }

    /// Grows the tables of `seed`; those of the seed before are gone.
    pub fn build(&mut self, seed: &Seed) {
        self.build_observed(seed, &mut NoObserver);
    }

    /// As [`Self::build`], showing every entry to `observer`.
    pub fn build_observed<O: Observer>(&mut self, seed: &Seed, observer: &mut O) {
        self.first.fill(NONE);
        self.x_values.count = 0;
        self.pointers.iter_mut().for_each(|kept| kept.count = 0);
        self.grow_first(seed, observer);
        let level = self.level;
        at_level!(level, grow_all(self, observer));
    }

    fn grow_first<O: Observer>(&mut self, seed: &Seed, observer: &mut O) {
        function::f1(seed, &mut self.stream, &mut self.y1);
        let slots = &mut self.slots[1];
        slots.counts.fill(0);
        for (x, y) in self.y1.iter().enumerate() {
            let x = x as u32;
            if O::WATCHES {
                observer.entry(1, *y, x.into(), Pointer(x));
            }
            slots.push((y / BUCKET_SIZE) as u16, [x, 0, (y % BUCKET_SIZE) << 16, x]);
        }
    }
}
