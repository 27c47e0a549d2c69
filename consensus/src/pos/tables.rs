//! Growing the seven tables of a seed and taking proofs out of them.

use super::bucket::{Bucket, Entry, MatchList};
use super::function::{self, input_bits, input_bytes, input_words, message_word, output};
use super::{
    BUCKET_SIZE, BUCKETS, CAPACITY, EXTRA_BITS, PROOF_VALUES, Pointer, Proof, Seed, TABLES, pack_proof,
    s_bucket_of_target,
};
use crate::constants::{POS_K, S_BUCKETS};
use crate::cpu::{CpuLevel, Level};
use crate::lanes::{Lanes, MAX_LANES, Parameters};
use crate::simd::{self, Simd};

/// No entry of table 7 for this s-bucket.
const NONE: u64 = u64::MAX;

/// Sees every entry of every table as it is made, in no promised order; for inspection, at no cost when unused.
pub trait Observer {
    /// An entry of `table` (1..=7): y, metadata and where it came from.
    fn entry(&mut self, table: u8, y: u32, metadata: u128, pointer: Pointer);
}

/// Looks at nothing.
pub struct NoObserver;

impl Observer for NoObserver {
    #[inline(always)]
    fn entry(&mut self, _table: u8, _y: u32, _metadata: u128, _pointer: Pointer) {}
}

/// The memory in which the tables of one seed after another are grown: 110 MB, allocated once.
pub struct Tables {
    level: CpuLevel,
    /// Buckets of the table being read and of the one being grown, in position order.
    slots: [Slots; 2],
    /// Tables 1 to 6 in consensus order: where each entry came from.
    origins: [Origins; TABLES - 1],
    /// Table 7: low bits of y and pointer of the first entry of each s-bucket, or [`NONE`].
    first: Box<[u64]>,
    left: Box<Bucket>,
    right: Box<Bucket>,
    matches: Box<MatchList>,
    y1: Vec<u32>,
    stream: Vec<u8>,
}

/// Entries of a table bucket by bucket, each bucket in position order.
struct Slots {
    counts: Vec<u16>,
    entries: Vec<Entry>,
}

impl Slots {
    fn new() -> Self {
        Self { counts: vec![0; BUCKETS], entries: vec![Entry::default(); BUCKETS * CAPACITY] }
    }

    #[inline(always)]
    fn bucket(&self, bucket: usize) -> &[Entry] {
        &self.entries[bucket * CAPACITY..][..usize::from(self.counts[bucket])]
    }

    /// Appends; what a full bucket cannot take comes later in position order and is dropped, as consensus has it.
    #[inline(always)]
    fn push(&mut self, y: u32, metadata: u128, pointer: Pointer) {
        let bucket = (y / BUCKET_SIZE) as usize;
        let count = usize::from(self.counts[bucket]);
        if count < CAPACITY {
            self.entries[bucket * CAPACITY + count] = Entry::new(y % BUCKET_SIZE, metadata, pointer);
            self.counts[bucket] += 1;
        }
    }
}

/// Pointers of a table in consensus order, and where each bucket starts among them.
#[derive(Default)]
struct Origins {
    starts: Vec<u32>,
    pointers: Vec<Pointer>,
}

impl Origins {
    #[inline(always)]
    fn push_bucket(&mut self, bucket: &Bucket) {
        self.starts.push(self.pointers.len() as u32);
        self.pointers.extend(bucket.entries().iter().map(|entry| entry.pointer));
    }

    fn get(&self, bucket: usize, rank: usize) -> Pointer {
        self.pointers[self.starts[bucket] as usize + rank]
    }

    fn clear(&mut self) {
        self.starts.clear();
        self.pointers.clear();
    }
}

/// Matches on their way into table `T`, hashed a vector at a time; `N` message words an input.
struct Batch<const T: u8, const N: usize> {
    count: usize,
    words: [Lanes; N],
    pointers: [Pointer; MAX_LANES],
    left_metadata: [u128; MAX_LANES],
    right_metadata: [u128; MAX_LANES],
}

impl<const T: u8, const N: usize> Batch<T, N> {
    const FITS: () = assert!(N == input_words(T), "N is the number of words that table T hashes");

    fn new() -> Self {
        let () = Self::FITS;
        Self {
            count: 0,
            words: [[0; MAX_LANES]; N],
            pointers: [Pointer::default(); MAX_LANES],
            left_metadata: [0; MAX_LANES],
            right_metadata: [0; MAX_LANES],
        }
    }

    #[inline(always)]
    fn push(&mut self, left_y: u32, left_metadata: u128, right_metadata: u128, pointer: Pointer) {
        let bits = input_bits::<T>(left_y, left_metadata, right_metadata);
        for i in 0..N {
            self.words[i][self.count] = message_word(bits, i);
        }
        self.pointers[self.count] = pointer;
        if T < 4 {
            self.left_metadata[self.count] = left_metadata;
            self.right_metadata[self.count] = right_metadata;
        }
        self.count += 1;
    }

    /// Hashes what is here and puts the new entries into table `T`.
    #[inline(always)]
    fn flush<S: Simd, O: Observer>(&mut self, sink: &mut Sink<'_, O>) {
        // SAFETY: our caller is compiled for the level of `S` and runs only where the processor has it.
        let [a, b, c, d] = unsafe { S::compress::<N>(&Parameters::plain(input_bytes(T)), &self.words) };
        let pointers = self.pointers.iter().take(std::mem::take(&mut self.count));
        for (lane, pointer) in pointers.enumerate() {
            let head = u64::from(a[lane].swap_bytes()) << 32 | u64::from(b[lane].swap_bytes());
            let tail = u64::from(c[lane].swap_bytes()) << 32 | u64::from(d[lane].swap_bytes());
            let hash_bits = u128::from(head) << 64 | u128::from(tail);
            let (y, metadata) = output::<T>(hash_bits, self.left_metadata[lane], self.right_metadata[lane]);
            sink.take::<T>(y, metadata, *pointer);
        }
    }
}

/// Where new entries go.
struct Sink<'a, O> {
    slots: &'a mut Slots,
    first: &'a mut [u64],
    observer: &'a mut O,
}

impl<O: Observer> Sink<'_, O> {
    #[inline(always)]
    fn take<const T: u8>(&mut self, y: u32, metadata: u128, pointer: Pointer) {
        self.observer.entry(T, y, metadata, pointer);
        if T < 7 {
            self.slots.push(y, metadata, pointer);
        } else if let Some(s_bucket) = s_bucket_of_target(y >> EXTRA_BITS) {
            // Lowest y first, then first position; of y only the bits below the target can differ.
            let rank = u64::from(y & ((1 << EXTRA_BITS) - 1)) << 32 | u64::from(pointer.0);
            let first = &mut self.first[usize::from(s_bucket)];
            *first = rank.min(*first);
        }
    }
}

impl Tables {
    /// Allocates for one seed at a time, to be grown with the instructions of `level`.
    pub fn new(level: CpuLevel) -> Self {
        Self {
            level,
            slots: [Slots::new(), Slots::new()],
            origins: Default::default(),
            first: vec![NONE; S_BUCKETS].into_boxed_slice(),
            left: Box::default(),
            right: Box::default(),
            matches: Box::default(),
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
        match self.level.level() {
            Level::Portable => self.build_with::<simd::Portable, O>(seed, observer),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `CpuLevel` of AVX2 exists only where `available` found all the features that the function enables.
            Level::Avx2 => unsafe { self.build_avx2(seed, observer) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, for AVX-512.
            Level::Avx512 => unsafe { self.build_avx512(seed, observer) },
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn build_avx2<O: Observer>(&mut self, seed: &Seed, observer: &mut O) {
        self.build_with::<simd::Avx2, O>(seed, observer);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn build_avx512<O: Observer>(&mut self, seed: &Seed, observer: &mut O) {
        self.build_with::<simd::Avx512, O>(seed, observer);
    }

    #[inline(always)]
    fn build_with<S: Simd, O: Observer>(&mut self, seed: &Seed, observer: &mut O) {
        self.first.fill(NONE);
        self.origins.iter_mut().for_each(Origins::clear);
        self.grow_first(seed, observer);
        self.grow::<2, 3, S, O>(observer);
        self.grow::<3, 4, S, O>(observer);
        self.grow::<4, 6, S, O>(observer);
        self.grow::<5, 6, S, O>(observer);
        self.grow::<6, 5, S, O>(observer);
        self.grow::<7, 4, S, O>(observer);
    }

    #[inline(always)]
    fn grow_first<O: Observer>(&mut self, seed: &Seed, observer: &mut O) {
        function::f1(seed, &mut self.stream, &mut self.y1);
        let slots = &mut self.slots[0];
        slots.counts.fill(0);
        for (x, y) in self.y1.iter().enumerate() {
            let pointer = Pointer(x as u32);
            observer.entry(1, *y, x as u128, pointer);
            slots.push(*y, x as u128, pointer);
        }
    }

    /// Reads table `T - 1` bucket by bucket and grows table `T` from the matches of neighbours.
    #[inline(always)]
    fn grow<const T: u8, const N: usize, S: Simd, O: Observer>(&mut self, observer: &mut O) {
        let Self { slots: [even, odd], origins, first, left, right, matches, .. } = self;
        let (input, slots) = if T.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let origins = &mut origins[usize::from(T) - 2];
        slots.counts.fill(0);
        let mut sink = Sink { slots, first, observer };
        let mut batch = Batch::<T, N>::new();
        left.build(input.bucket(0));
        origins.push_bucket(left);
        for bucket in 0..BUCKETS - 1 {
            right.build(input.bucket(bucket + 1));
            origins.push_bucket(right);
            left.matches::<S>(right, bucket % 2, matches);
            for &(left_rank, right_rank) in matches.ranks() {
                let (left_rank, right_rank) = (usize::from(left_rank), usize::from(right_rank));
                let (l, r) = (&left.entries()[left_rank], &right.entries()[right_rank]);
                let left_y = bucket as u32 * BUCKET_SIZE + l.residue();
                batch.push(left_y, l.metadata(), r.metadata(), Pointer::new(bucket, left_rank, right_rank));
                if batch.count == S::LANES {
                    batch.flush::<S, O>(&mut sink);
                }
            }
            std::mem::swap(left, right);
        }
        batch.flush::<S, O>(&mut sink);
    }

    /// Whether the s-bucket has a proof.
    #[inline]
    pub fn has_proof(&self, s_bucket: u16) -> bool {
        self.first[usize::from(s_bucket)] != NONE
    }

    /// The proof of an s-bucket: that of the entry of table 7 with the lowest y and, of those, the first position.
    pub fn proof(&self, s_bucket: u16) -> Option<Proof> {
        let first = self.first[usize::from(s_bucket)];
        (first != NONE).then(|| self.proof_of(Pointer(first as u32)))
    }

    /// The proof that an entry of table 7 stands for; its pointer is one that an [`Observer`] was shown by the last build.
    pub fn proof_of(&self, pointer: Pointer) -> Proof {
        let mut pointers = [Pointer::default(); PROOF_VALUES];
        pointers[0] = pointer;
        let mut count = 1;
        for origins in self.origins.iter().rev() {
            for i in (0..count).rev() {
                let parent = pointers[i];
                pointers[2 * i] = origins.get(parent.left_bucket(), parent.left_rank());
                pointers[2 * i + 1] = origins.get(parent.left_bucket() + 1, parent.right_rank());
            }
            count *= 2;
        }
        pack_proof(&pointers.map(|x| x.0))
    }
}
