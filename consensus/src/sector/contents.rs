//! Which s-buckets each record of a sector uses: the contents map (PROTOCOL 5.3).

use std::iter;

use crate::constants::{HASH_SIZE, RECORD_CHUNKS, S_BUCKET_BITFIELD_SIZE, S_BUCKETS, contents_map_size};

/// One bit for each s-bucket, least significant bit of the first byte first: set where a record has an encoded chunk.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield([u8; S_BUCKET_BITFIELD_SIZE]);

impl Default for Bitfield {
    fn default() -> Self {
        Self([0; S_BUCKET_BITFIELD_SIZE])
    }
}

impl std::fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitfield({} of {S_BUCKETS} set)", self.count())
    }
}

/// Why bytes are no contents map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentsMapError {
    /// Wrong number of bytes.
    #[error("contents map has {actual} bytes instead of {expected}")]
    Length {
        /// Bytes that a sector of so many pieces needs.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The checksum does not fit the bitfields.
    #[error("contents map is damaged (checksum mismatch): the sector must be plotted again")]
    Checksum,
    /// A record has more encoded chunks than a record has chunks.
    #[error(
        "contents map gives record {piece_offset} more than {RECORD_CHUNKS} chunks: the sector must be plotted again"
    )]
    TooManyChunks {
        /// The record.
        piece_offset: u16,
    },
}

impl Bitfield {
    /// Takes the bytes as they lie in a contents map; more than 32 768 bits are an error (None).
    pub fn from_bytes(bytes: &[u8; S_BUCKET_BITFIELD_SIZE]) -> Option<Self> {
        let bitfield = Self(*bytes);
        (bitfield.count() <= RECORD_CHUNKS).then_some(bitfield)
    }

    /// The bytes as they lie in a contents map.
    pub fn as_bytes(&self) -> &[u8; S_BUCKET_BITFIELD_SIZE] {
        &self.0
    }

    /// Whether the record has an encoded chunk in this s-bucket.
    #[inline]
    pub fn get(&self, s_bucket: u16) -> bool {
        self.0[usize::from(s_bucket / 8)] >> (s_bucket % 8) & 1 != 0
    }

    /// Notes an encoded chunk.
    #[inline]
    pub fn set(&mut self, s_bucket: u16) {
        self.0[usize::from(s_bucket / 8)] |= 1 << (s_bucket % 8);
    }

    /// Encoded chunks of the record.
    pub fn count(&self) -> usize {
        self.words().map(|word| word.count_ones() as usize).sum()
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        self.0.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Every s-bucket that the record uses, ascending, and whether its chunk there is encoded. A record of fewer than 32 768 encoded chunks
    /// fills up with unencoded ones in the lowest s-buckets left.
    pub fn used(&self) -> impl Iterator<Item = (u16, bool)> + '_ {
        (0..).step_by(64).zip(self.used_words()).flat_map(|(first, Used { encoded, unencoded })| {
            let mut left = encoded | unencoded;
            iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(((first + bit) as u16, encoded >> bit & 1 != 0))
            })
        })
    }

    /// The s-buckets that the record uses, 64 at a time.
    fn used_words(&self) -> impl Iterator<Item = Used> + '_ {
        let mut unencoded_left = RECORD_CHUNKS.saturating_sub(self.count());
        self.words().map(move |encoded| {
            let unencoded = lowest(!encoded, unencoded_left);
            unencoded_left -= unencoded.count_ones() as usize;
            Used { encoded, unencoded }
        })
    }

    /// Whether the record uses this s-bucket, and if so whether encoded.
    pub fn usage(&self, s_bucket: u16) -> Option<bool> {
        if self.get(s_bucket) {
            return Some(true);
        }
        let set_before: usize =
            self.words().take(usize::from(s_bucket) / 64).map(|word| word.count_ones() as usize).sum();
        let word = self.words().nth(usize::from(s_bucket) / 64).expect("1024 words");
        let set_before = set_before + (word & ((1 << (s_bucket % 64)) - 1)).count_ones() as usize;
        let unused_before = usize::from(s_bucket) - set_before;
        (unused_before < RECORD_CHUNKS.saturating_sub(self.count())).then_some(false)
    }
}

/// What a record has in 64 s-buckets, a bit each.
struct Used {
    encoded: u64,
    unencoded: u64,
}

/// The lowest `count` of the set bits.
fn lowest(bits: u64, count: usize) -> u64 {
    if count >= bits.count_ones() as usize {
        return bits;
    }
    let above = (0..count).fold(bits, |left, _| left & (left - 1));
    bits ^ above
}

/// How many records use each of 64 s-buckets: bit n of plane p is bit p of the count of s-bucket n. So a record is counted in all 64
/// at once; one by one, the records of a full sector would take a third of a second.
#[derive(Clone, Default)]
struct Tally([u64; u16::BITS as usize]);

impl Tally {
    /// Counts a record in each of these s-buckets.
    fn add(&mut self, s_buckets: u64) {
        let mut carry = s_buckets;
        for plane in &mut self.0 {
            (*plane, carry) = (*plane ^ carry, *plane & carry);
            if carry == 0 {
                return;
            }
        }
    }

    fn count(&self, s_bucket: u32) -> u16 {
        (0..).zip(&self.0).map(|(bit, plane)| ((plane >> s_bucket & 1) as u16) << bit).sum()
    }
}

/// How many of the records use each s-bucket.
fn count_users(records: &[Bitfield]) -> Vec<u16> {
    let mut tallies = vec![Tally::default(); S_BUCKETS / 64];
    for record in records {
        for (tally, Used { encoded, unencoded }) in tallies.iter_mut().zip(record.used_words()) {
            tally.add(encoded | unencoded);
        }
    }
    tallies.iter().flat_map(|tally| (0..64).map(|s_bucket| tally.count(s_bucket))).collect()
}

/// The bitfields of all records of a sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentsMap(Vec<Bitfield>);

impl ContentsMap {
    /// Of the records' bitfields in order of piece offset.
    pub fn new(bitfields: Vec<Bitfield>) -> Self {
        Self(bitfields)
    }

    /// Reads the contents map of a sector of `pieces_in_sector` pieces and checks it.
    pub fn decode(bytes: &[u8], pieces_in_sector: u16) -> Result<Self, ContentsMapError> {
        let expected = contents_map_size(pieces_in_sector);
        if bytes.len() != expected {
            return Err(ContentsMapError::Length { expected, actual: bytes.len() });
        }
        let (bitfields, checksum) = bytes.split_at(expected - HASH_SIZE);
        if blake3::hash(bitfields).as_bytes() != checksum {
            return Err(ContentsMapError::Checksum);
        }
        let decode = |(piece_offset, bytes): (usize, &[u8; S_BUCKET_BITFIELD_SIZE])| {
            let piece_offset = piece_offset as u16;
            Bitfield::from_bytes(bytes).ok_or(ContentsMapError::TooManyChunks { piece_offset })
        };
        bitfields.as_chunks().0.iter().enumerate().map(decode).collect::<Result<_, _>>().map(Self)
    }

    /// The bytes at the start of a sector: bitfields, then their hash.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * S_BUCKET_BITFIELD_SIZE + HASH_SIZE);
        self.0.iter().for_each(|bitfield| bytes.extend(bitfield.0));
        let checksum = blake3::hash(&bytes);
        bytes.extend(checksum.as_bytes());
        bytes
    }

    /// The bitfields in order of piece offset.
    pub fn records(&self) -> &[Bitfield] {
        &self.0
    }

    /// How many records use each s-bucket.
    pub fn s_bucket_sizes(&self) -> Vec<u16> {
        count_users(&self.0)
    }

    /// Which record's chunk is number `chunk_offset` in this s-bucket, and whether it is encoded.
    pub fn record_at(&self, s_bucket: u16, chunk_offset: usize) -> Option<(u16, bool)> {
        let users = self.0.iter().enumerate();
        let mut users = users.filter_map(|(offset, record)| Some((offset as u16, record.usage(s_bucket)?)));
        users.nth(chunk_offset)
    }

    /// Where the chunks of the record at `piece_offset` lie: indexes into the sector's chunks in s-bucket order, first those of the
    /// encoded chunks, then those of the unencoded ones, each ascending. `s_bucket_sizes` are those of this very map.
    pub fn chunk_locations(&self, piece_offset: u16, s_bucket_sizes: &[u16]) -> Option<Vec<u32>> {
        let (before, rest) = self.0.split_at_checked(usize::from(piece_offset))?;
        let record = rest.first()?;
        let mut start = 0;
        let starts: Vec<u32> = s_bucket_sizes
            .iter()
            .map(|size| {
                start += u32::from(*size);
                start - u32::from(*size)
            })
            .collect();
        let ranks = count_users(before);
        let (mut locations, mut unencoded) = (Vec::with_capacity(RECORD_CHUNKS), Vec::new());
        for (s_bucket, encoded) in record.used() {
            let list = if encoded { &mut locations } else { &mut unencoded };
            list.push(starts[usize::from(s_bucket)] + u32::from(ranks[usize::from(s_bucket)]));
        }
        locations.append(&mut unencoded);
        Some(locations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// [`Bitfield::used`], looked up bit by bit.
    fn used_slowly(bitfield: &Bitfield) -> Vec<(u16, bool)> {
        let mut unencoded_left = RECORD_CHUNKS.saturating_sub(bitfield.count());
        let mut used = Vec::new();
        for s_bucket in 0..=u16::MAX {
            if bitfield.get(s_bucket) {
                used.push((s_bucket, true));
            } else if unencoded_left > 0 {
                unencoded_left -= 1;
                used.push((s_bucket, false));
            }
        }
        used
    }

    /// [`ContentsMap::chunk_locations`] of every record, by laying the sector out chunk by chunk.
    fn locations_slowly(map: &ContentsMap) -> Vec<Vec<u32>> {
        let used: Vec<_> = map.records().iter().map(used_slowly).collect();
        let mut at = vec![(Vec::new(), Vec::new()); used.len()];
        let (mut next, mut location) = (vec![0; used.len()], 0);
        for s_bucket in 0..=u16::MAX {
            for (record, used) in used.iter().enumerate() {
                if let Some(&(_, encoded)) = used.get(next[record]).filter(|used| used.0 == s_bucket) {
                    let (encoded_at, unencoded_at) = &mut at[record];
                    if encoded { encoded_at } else { unencoded_at }.push(location);
                    (next[record], location) = (next[record] + 1, location + 1);
                }
            }
        }
        at.into_iter().map(|(encoded, unencoded)| [encoded, unencoded].concat()).collect()
    }

    /// Bitfields of any density: of random bytes, each with some bits more or fewer, cut off somewhere.
    fn any_bitfield() -> impl Strategy<Value = Bitfield> {
        let masks = prop_oneof![Just((0u8, 0u8)), Just((0, 255)), Just((255, 255)), any::<(u8, u8)>()];
        (any::<u64>(), masks, 0..=S_BUCKET_BITFIELD_SIZE).prop_map(|(seed, (or, and), bytes)| {
            let mut bits = [0; S_BUCKET_BITFIELD_SIZE];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bits[..bytes]);
            bits[..bytes].iter_mut().for_each(|byte| *byte = (*byte | or) & and);
            Bitfield(bits)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn words_at_a_time_give_what_bits_do(records in prop::collection::vec(any_bitfield(), 1..6)) {
            let map = ContentsMap::new(records);
            let mut sizes = vec![0; S_BUCKETS];
            for record in map.records() {
                let used = used_slowly(record);
                prop_assert!(record.used().eq(used.iter().copied()));
                used.iter().for_each(|(s_bucket, _)| sizes[usize::from(*s_bucket)] += 1);
            }
            prop_assert_eq!(map.s_bucket_sizes(), &sizes[..]);
            for (offset, expected) in (0..).zip(locations_slowly(&map)) {
                prop_assert!(map.chunk_locations(offset, &sizes).unwrap() == expected, "record {offset}");
            }
        }
    }

    #[test]
    fn a_sector_of_many_records_is_counted() {
        let records = (0..1000).map(|record| bitfield(|s_bucket| s_bucket % 1000 < record)).collect();
        let sizes = ContentsMap::new(records).s_bucket_sizes();
        assert_eq!((sizes[0], sizes[5]), (1000, 1000), "short records fill up from below");
        assert_eq!(sizes.iter().map(|size| usize::from(*size)).sum::<usize>(), 1000 * RECORD_CHUNKS);
    }

    fn bitfield(keep: impl Fn(u16) -> bool) -> Bitfield {
        let mut bitfield = Bitfield::default();
        (0..=u16::MAX)
            .filter(|s_bucket| keep(*s_bucket))
            .take(RECORD_CHUNKS)
            .for_each(|s_bucket| bitfield.set(s_bucket));
        bitfield
    }

    #[test]
    fn short_records_fill_up_from_below() {
        let few = bitfield(|s_bucket| s_bucket % 8 == 3);
        assert_eq!(few.count(), 8192);
        let used: Vec<_> = few.used().collect();
        assert_eq!(used.len(), RECORD_CHUNKS);
        assert!(used.is_sorted());
        assert_eq!(used[..5], [(0, false), (1, false), (2, false), (3, true), (4, false)]);
        for s_bucket in 0..=u16::MAX {
            let expected = used.iter().find(|(used, _)| *used == s_bucket).map(|(_, encoded)| *encoded);
            if s_bucket % 251 == 0 {
                assert_eq!(few.usage(s_bucket), expected, "s-bucket {s_bucket}");
            }
        }
        assert_eq!(few.usage(u16::MAX), None);
    }

    #[test]
    fn maps_round_trip_and_damage_is_found() {
        let map =
            ContentsMap::new(vec![bitfield(|s| s % 3 != 0), bitfield(|s| s % 5 == 0), Bitfield::default()]);
        let bytes = map.encode();
        assert_eq!(bytes.len(), contents_map_size(3));
        assert_eq!(ContentsMap::decode(&bytes, 3).unwrap(), map);
        assert!(matches!(ContentsMap::decode(&bytes, 2), Err(ContentsMapError::Length { .. })));
        for at in [0, 9000, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(ContentsMap::decode(&damaged, 3), Err(ContentsMapError::Checksum));
        }
        let mut full = vec![255; 8192];
        full.extend(blake3::hash(&[255; 8192]).as_bytes());
        assert_eq!(ContentsMap::decode(&full, 1), Err(ContentsMapError::TooManyChunks { piece_offset: 0 }));
    }

    #[test]
    fn locations_cover_the_sector_once() {
        let map = ContentsMap::new(vec![
            bitfield(|s| s % 3 != 0),
            bitfield(|s| s % 7 == 0),
            bitfield(|s| s > 1000),
        ]);
        let sizes = map.s_bucket_sizes();
        let mut all: Vec<u32> =
            (0..3).flat_map(|offset| map.chunk_locations(offset, &sizes).unwrap()).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..3 * RECORD_CHUNKS as u32));
        assert_eq!(map.chunk_locations(3, &sizes), None);
        for s_bucket in [0, 7, 1001, 40_000] {
            let users: Vec<_> = (0..).map_while(|chunk| map.record_at(s_bucket, chunk)).collect();
            assert_eq!(users.len(), usize::from(sizes[usize::from(s_bucket)]));
        }
    }
}
