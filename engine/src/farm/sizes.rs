//! Where each s-bucket of a sector lies.
//!
//! ```text
//!   s-buckets   │ 0 … 255 │ 256 … 511 │ …                 │ 65280 … 65535 │      256 groups of 256
//!   both        └─ chunks up to the end of each group, u32 ───────────────┘      1 KiB
//!   exact       a byte an s-bucket: its deviation from the mean of its group     64 KiB more
//!   lean        nothing more: the group's 512 bytes are read from metadata.bin when one of its s-buckets is wanted
//! ```
//! The sizes of neighbouring s-buckets differ little, so a byte does for nearly all of them; a size too far off its mean goes into
//! a list. What lean reads is checked against what is in memory: a record that changed under the farm is found before a byte of
//! the wrong place is read.

use super::RecordFault;
use consensus::constants::S_BUCKETS;
use std::ops::Range;
use std::rc::Rc;

/// S-buckets that share a mean, and whose sizes lean reads together.
const GROUP: usize = 256;
const GROUPS: usize = S_BUCKETS / GROUP;
/// Bytes of a group's sizes in a sector's record.
pub(super) const GROUP_BYTES: usize = GROUP * size_of::<u16>();
/// Where the sizes begin in a record, after sector index and pieces (PROTOCOL 5.4).
const SIZES_AT: u64 = 2 * size_of::<u16>() as u64;
/// Marks a size that does not fit a byte of deviation.
const EXCEPTION: i8 = i8::MIN;

/// What an open farm keeps in memory of the s-buckets of each plotted sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditMemory {
    /// Where each lies: about 65 KiB a sector, and an audit is one read.
    #[default]
    Exact,
    /// Where every 256th lies: 1 KiB a sector, and an audit first reads a block, at an edge two, of the sector's record.
    Lean,
}

impl AuditMemory {
    /// Bytes for a sector of full size; those of few pieces may take some more in [`AuditMemory::Exact`].
    pub const fn sector_bytes(self) -> usize {
        let starts = GROUPS * size_of::<u32>();
        match self {
            Self::Exact => starts + S_BUCKETS,
            Self::Lean => starts,
        }
    }
}

/// What is in memory of a sector's s-buckets.
#[derive(Debug, Clone)]
pub(super) enum Sizes {
    Exact(Rc<SBucketSizes>),
    Lean(GroupEnds),
}

/// Where an s-bucket's chunks are, counted from the sector's first one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Known(Range<u32>),
    /// As a look at the group's sizes in the record tells.
    InGroup(Group),
}

impl Sizes {
    /// Of the plain table. Panics unless it has 65 536 sizes.
    pub fn new(memory: AuditMemory, sizes: &[u16]) -> Self {
        match memory {
            AuditMemory::Exact => Self::Exact(Rc::new(SBucketSizes::new(sizes))),
            AuditMemory::Lean => Self::Lean(GroupEnds::new(sizes)),
        }
    }

    /// Where an s-bucket is. In a group without chunks nothing has to be looked up.
    pub fn place(&self, s_bucket: u16) -> Place {
        match self {
            Self::Exact(sizes) => Place::Known(sizes.chunks(s_bucket)),
            Self::Lean(ends) => match ends.group(s_bucket) {
                Group { chunks, .. } if chunks.is_empty() => Place::Known(chunks),
                group => Place::InGroup(group),
            },
        }
    }

    /// Bytes of memory, beside this value itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Exact(sizes) => size_of::<SBucketSizes>() + sizes.heap_bytes(),
            Self::Lean(ends) => size_of_val(&*ends.0),
        }
    }
}

/// The first s-bucket that two plain tables give different sizes.
pub(super) fn first_difference(left: &[u16], right: &[u16]) -> Option<u16> {
    (0..=u16::MAX).zip(left.iter().zip(right)).find(|(_, (left, right))| left != right).map(|(at, _)| at)
}

/// Chunks of a sector up to the end of each group of s-buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupEnds(Box<[u32; GROUPS]>);

impl GroupEnds {
    /// Of the plain table. Panics unless it has 65 536 sizes.
    pub fn new(sizes: &[u16]) -> Self {
        assert_eq!(sizes.len(), S_BUCKETS, "a sector has 65536 s-buckets");
        let (mut ends, mut end) = (Box::new([0; GROUPS]), 0);
        for (group, slot) in sizes.chunks(GROUP).zip(ends.iter_mut()) {
            end += group.iter().map(|&size| u32::from(size)).sum::<u32>();
            *slot = end;
        }
        Self(ends)
    }

    fn group(&self, s_bucket: u16) -> Group {
        let group = usize::from(s_bucket) / GROUP;
        let start = group.checked_sub(1).map_or(0, |before| self.0[before]);
        Group { s_bucket, chunks: start..self.0[group] }
    }

    /// Errs with the first group of which a record says something else.
    pub fn check(&self, sizes: &[u16]) -> Result<(), RecordFault> {
        let of_record = Self::new(sizes);
        match self.0.iter().zip(&*of_record.0).position(|(ours, theirs)| ours != theirs) {
            None => Ok(()),
            Some(group) => Err(RecordFault::Group((group * GROUP) as u16)),
        }
    }
}

/// The group of an s-bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    s_bucket: u16,
    chunks: Range<u32>,
}

impl Group {
    /// Where its sizes begin in the record.
    pub fn offset_in_record(&self) -> u64 {
        SIZES_AT + (usize::from(self.s_bucket) / GROUP * GROUP_BYTES) as u64
    }

    /// The chunks of the s-bucket by the group's sizes as they stand in the record of a sector of so many pieces. Errs when they cannot
    /// be those of this sector.
    pub fn find(&self, sizes: &[u8; GROUP_BYTES], pieces: u16) -> Result<Range<u32>, RecordFault> {
        let first = self.s_bucket - self.s_bucket % GROUP as u16;
        let (mut at, mut found) = (self.chunks.start, self.chunks.start..self.chunks.start);
        for (s_bucket, size) in (first..=u16::MAX).zip(sizes.as_chunks().0) {
            let size = u16::from_le_bytes(*size);
            if size > pieces {
                return Err(RecordFault::TooManyChunks(s_bucket));
            }
            let end = at + u32::from(size);
            if s_bucket == self.s_bucket {
                found = at..end;
            }
            at = end;
        }
        if at == self.chunks.end { Ok(found) } else { Err(RecordFault::Group(first)) }
    }
}

/// The sizes of a sector's 65 536 s-buckets, in chunks, each exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SBucketSizes {
    /// Chunks before each group, and the number of all at the end.
    starts: Box<[u32]>,
    deviations: Box<[i8]>,
    /// S-buckets marked [`EXCEPTION`] and their sizes, ascending.
    exceptions: Box<[(u16, u16)]>,
}

impl SBucketSizes {
    /// Of the plain table. Panics unless it has 65 536 sizes.
    pub fn new(sizes: &[u16]) -> Self {
        assert_eq!(sizes.len(), S_BUCKETS, "a sector has 65536 s-buckets");
        let (mut starts, mut before) = (vec![0], 0);
        let mut deviations = Vec::with_capacity(S_BUCKETS);
        let mut exceptions = Vec::new();
        for group in sizes.chunks(GROUP) {
            let chunks: u32 = group.iter().map(|&size| u32::from(size)).sum();
            let mean = (chunks / GROUP as u32) as i32;
            for &size in group {
                let deviation = i8::try_from(i32::from(size) - mean).ok().filter(|&it| it != EXCEPTION);
                if deviation.is_none() {
                    exceptions.push((deviations.len() as u16, size));
                }
                deviations.push(deviation.unwrap_or(EXCEPTION));
            }
            before += chunks;
            starts.push(before);
        }
        Self { starts: starts.into(), deviations: deviations.into(), exceptions: exceptions.into() }
    }

    /// Chunks in an s-bucket.
    pub fn size(&self, s_bucket: u16) -> u16 {
        match self.deviations[usize::from(s_bucket)] {
            EXCEPTION => {
                let at = self.exceptions.binary_search_by_key(&s_bucket, |&(exception, _)| exception);
                self.exceptions[at.expect("every marked s-bucket is in the list")].1
            }
            deviation => self.mean(s_bucket).wrapping_add_signed(i16::from(deviation)),
        }
    }

    /// The chunks of an s-bucket, counted from the sector's first one.
    pub fn chunks(&self, s_bucket: u16) -> Range<u32> {
        let group = s_bucket - s_bucket % GROUP as u16;
        let before = usize::from(group)..usize::from(s_bucket);
        // Summed without a branch an s-bucket: this is done for each sector and slot.
        let (count, mean) = (before.len() as i32, i32::from(self.mean(s_bucket)));
        let deviations: i32 = self.deviations[before].iter().map(|&deviation| i32::from(deviation)).sum();
        let from = self.exceptions.partition_point(|&(exception, _)| exception < group);
        let exceptions = self.exceptions[from..].iter().take_while(|&&(exception, _)| exception < s_bucket);
        let beyond = |&(_, size): &(u16, u16)| i32::from(size) - mean - i32::from(EXCEPTION);
        let within = count * mean + deviations + exceptions.map(beyond).sum::<i32>();
        let start = self.starts[usize::from(s_bucket) / GROUP].wrapping_add_signed(within);
        start..start + u32::from(self.size(s_bucket))
    }

    /// Chunks of the sector.
    pub fn total(&self) -> u32 {
        *self.starts.last().expect("a start a group and the end")
    }

    /// The plain table.
    pub fn to_vec(&self) -> Vec<u16> {
        (0..=u16::MAX).map(|s_bucket| self.size(s_bucket)).collect()
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.deviations) + size_of_val(&*self.exceptions)
    }

    fn mean(&self, s_bucket: u16) -> u16 {
        let group = usize::from(s_bucket) / GROUP;
        ((self.starts[group + 1] - self.starts[group]) / GROUP as u32) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(sizes: &[u16]) {
        let table = SBucketSizes::new(sizes);
        assert_eq!(table.to_vec(), sizes);
        let mut start = 0;
        for s_bucket in 0..=u16::MAX {
            let end = start + u32::from(sizes[usize::from(s_bucket)]);
            assert_eq!(table.chunks(s_bucket), start..end, "s-bucket {s_bucket}");
            start = end;
        }
        assert_eq!(table.total(), start);
        check_lean(sizes);
    }

    fn group_bytes(sizes: &[u16], s_bucket: u16) -> [u8; GROUP_BYTES] {
        let first = usize::from(s_bucket) / GROUP * GROUP;
        let bytes: Vec<_> = sizes[first..][..GROUP].iter().flat_map(|size| size.to_le_bytes()).collect();
        bytes.try_into().unwrap()
    }

    /// Both ways give every s-bucket the same place.
    fn check_lean(sizes: &[u16]) {
        let (exact, lean) = (Sizes::new(AuditMemory::Exact, sizes), Sizes::new(AuditMemory::Lean, sizes));
        assert_eq!(lean.heap_bytes(), AuditMemory::Lean.sector_bytes());
        assert!(lean.heap_bytes() <= 1024);
        for s_bucket in 0..=u16::MAX {
            let chunks = match lean.place(s_bucket) {
                Place::Known(chunks) => {
                    assert!(chunks.is_empty());
                    chunks
                }
                Place::InGroup(group) => group.find(&group_bytes(sizes, s_bucket), u16::MAX).unwrap(),
            };
            let Place::Known(known) = exact.place(s_bucket) else { panic!("exact knows all") };
            assert!(known == chunks || known.is_empty() && chunks.is_empty(), "s-bucket {s_bucket}");
        }
    }

    #[test]
    fn a_group_that_is_not_the_sectors_is_a_fault() {
        let sizes: Vec<u16> = (0..S_BUCKETS).map(|at| (at % 5) as u16).collect();
        let ends = GroupEnds::new(&sizes);
        let group = ends.group(1000);
        assert_eq!(group.offset_in_record(), 4 + 3 * 512);
        let good = group_bytes(&sizes, 1000);
        assert!(group.find(&good, 4).is_ok());
        assert_eq!(group.find(&good, 3), Err(RecordFault::TooManyChunks(769)));
        for bit in 0..8 * GROUP_BYTES {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            let fault = group.find(&bad, 4).unwrap_err();
            let s_bucket = 768 + (bit / 16) as u16;
            assert!([RecordFault::Group(768), RecordFault::TooManyChunks(s_bucket)].contains(&fault));
        }
        assert_eq!(group.find(&[0xff; GROUP_BYTES], 1000), Err(RecordFault::TooManyChunks(768)));
        assert_eq!(group.find(&[0; GROUP_BYTES], 1000), Err(RecordFault::Group(768)));
        // As of the whole table.
        assert_eq!(ends.check(&sizes), Ok(()));
        let mut other = sizes.clone();
        other[1000] += 1;
        assert_eq!(ends.check(&other), Err(RecordFault::Group(768)));
        assert_eq!(ends.check(&vec![0; S_BUCKETS]), Err(RecordFault::Group(0)));
        assert_eq!(first_difference(&sizes, &other), Some(1000));
    }

    #[test]
    fn extremes_are_exact() {
        check(&vec![0; S_BUCKETS]);
        check(&vec![u16::MAX; S_BUCKETS]);
        let mut steps = vec![0; S_BUCKETS];
        steps.iter_mut().step_by(2).for_each(|size| *size = u16::MAX);
        check(&steps);
        // Deviations of exactly -128, -127, 127 and 128.
        let mut edges = vec![1000; S_BUCKETS];
        edges[..4].copy_from_slice(&[872, 1128, 873, 1127]);
        check(&edges);
    }

    #[test]
    fn a_full_sector_takes_one_byte_an_s_bucket() {
        // Mean 607, standard deviation about 15, as in a sector of 1000 pieces.
        let spread = |i: usize| {
            blake3::hash(&i.to_le_bytes()).as_bytes()[..16].iter().map(|b| u16::from(b % 16)).sum::<u16>()
        };
        let sizes: Vec<u16> = (0..S_BUCKETS).map(|i| if i < 54_000 { 487 + spread(i) } else { 0 }).collect();
        let table = SBucketSizes::new(&sizes);
        // Only the group in which the sector's s-buckets run out is uneven.
        assert!(table.exceptions.len() <= GROUP, "{}", table.exceptions.len());
        check(&sizes);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn equal_to_the_plain_table(seed: u64, spread in prop::sample::select(vec![1u32, 2, 200, 256, 300, 65_536])) {
            let mut random = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
            let mut bytes = vec![0; 2 * S_BUCKETS];
            random.fill(&mut bytes);
            let draw = |bytes: &[u8; 2]| (u32::from(u16::from_le_bytes(*bytes)) % spread) as u16;
            check(&bytes.as_chunks().0.iter().map(draw).collect::<Vec<_>>());
        }
    }
}
