//! Where each s-bucket of a sector lies, in half the memory of the plain table.
//!
//! The sizes of 256 neighbouring s-buckets differ little, so each is kept as one byte of deviation from their mean, beside
//! the number of chunks before each group: 66 KiB a sector. A size too far off its mean (hardly ever) goes into a list.

use consensus::constants::S_BUCKETS;
use std::ops::Range;

/// S-buckets that share a mean.
const GROUP: usize = 256;
/// Marks a size that does not fit a byte of deviation.
const EXCEPTION: i8 = i8::MIN;

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
        let within: u32 = (group..s_bucket).map(|before| u32::from(self.size(before))).sum();
        let start = self.starts[usize::from(s_bucket) / GROUP] + within;
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

    /// The first s-bucket whose size is another in the plain table.
    pub fn first_difference(&self, sizes: &[u16]) -> Option<u16> {
        (0..=u16::MAX).zip(sizes).find(|&(s_bucket, &size)| self.size(s_bucket) != size).map(|(at, _)| at)
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
