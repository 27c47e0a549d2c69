//! A second, obvious implementation of PROTOCOL 1 for any K from 16 to 20: sort, look for targets, hash one by one.

use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher};

const COLUMNS: u32 = 127;
const BC: u32 = 119 * COLUMNS;

#[derive(Clone, Copy)]
struct Entry {
    y: u32,
    metadata: u128,
    parents: (u32, u32),
}

/// Tables 1 to 7, each in consensus order; `parents` are indexes into the table before.
pub struct Reference {
    k: u32,
    tables: Vec<Vec<Entry>>,
}

impl Reference {
    pub fn grow(k: u32, seed: &[u8; 32]) -> Self {
        let mut tables = vec![first(k, seed)];
        for table in 2..=7 {
            tables.push(next(k, table, &tables[table - 2]));
        }
        Self { k, tables }
    }

    /// The entry of table 7 whose proof is the s-bucket's, and whether its y is shared by the entry after it.
    fn entry_of(&self, s_bucket: u16) -> Option<(usize, bool)> {
        let target = u32::from(s_bucket.swap_bytes()) << (self.k - 16);
        let last = &self.tables[6];
        let first = last.partition_point(|entry| entry.y >> 6 < target);
        let entry = last.get(first).filter(|entry| entry.y >> 6 == target)?;
        Some((first, last.get(first + 1).is_some_and(|next| next.y == entry.y)))
    }

    /// Whether position, not y, decides which proof the s-bucket has.
    pub fn is_tie(&self, s_bucket: u16) -> bool {
        self.entry_of(s_bucket).is_some_and(|(_, tie)| tie)
    }

    /// 64 values of K bits.
    pub fn proof(&self, s_bucket: u16) -> Option<Vec<u8>> {
        let (index, _) = self.entry_of(s_bucket)?;
        let mut values = Vec::new();
        self.x_values(6, index, &mut values);
        let mut bits = BitString::default();
        values.iter().for_each(|value| bits.push(u128::from(*value), self.k));
        Some(bits.bytes().to_vec())
    }

    fn x_values(&self, table: usize, index: usize, values: &mut Vec<u32>) {
        let (left, right) = self.tables[table][index].parents;
        if table == 0 {
            return values.push(left);
        }
        self.x_values(table - 1, left as usize, values);
        self.x_values(table - 1, right as usize, values);
    }
}

/// Bits one after another, the most significant first, padded with zeros to whole bytes.
#[derive(Default)]
struct BitString {
    bytes: Vec<u8>,
    waiting: u128,
    waiting_bits: u32,
}

impl BitString {
    fn push(&mut self, value: u128, bits: u32) {
        // At most 7 bits wait, and no part has more than 80.
        self.waiting = self.waiting << bits | value;
        self.waiting_bits += bits;
        while self.waiting_bits >= 8 {
            self.waiting_bits -= 8;
            self.bytes.push((self.waiting >> self.waiting_bits) as u8);
        }
        self.waiting &= (1 << self.waiting_bits) - 1;
    }

    fn bytes(&mut self) -> &[u8] {
        if self.waiting_bits > 0 {
            self.push(0, 8 - self.waiting_bits);
        }
        &self.bytes
    }
}

fn metadata_bits(k: u32, table: usize) -> u32 {
    k * [0, 1, 2, 4, 4, 3, 2, 0][table]
}

fn bits_of(bytes: &[u8; 32], from: u32, count: u32) -> u128 {
    if count == 0 {
        return 0;
    }
    let start = (from / 8) as usize;
    let number =
        u128::from_be_bytes(*bytes[start..].first_chunk().expect("the bits lie at the front of a hash"));
    number << (from % 8) >> (128 - count)
}

/// Stable, so that equal y keep the order in which they were made.
fn sorted(mut table: Vec<Entry>) -> Vec<Entry> {
    table.sort_by_key(|entry| entry.y);
    table
}

fn first(k: u32, seed: &[u8; 32]) -> Vec<Entry> {
    let mut stream = vec![0; ((k as usize) << k) / 8 + 16];
    ChaCha8::new(seed.into(), &[0; 12].into()).apply_keystream(&mut stream);
    let entry = |x: u32| {
        let at = (k * x) as usize;
        let bytes = u64::from_be_bytes(*stream[at / 8..].first_chunk().expect("the stream is longer"));
        let prefix = (bytes << (at % 8) >> (64 - k)) as u32;
        Entry { y: prefix << 6 | x >> (k - 6), metadata: u128::from(x), parents: (x, x) }
    };
    sorted((0..1 << k).map(entry).collect())
}

fn child(k: u32, table: usize, left: &Entry, right: &Entry, parents: (u32, u32)) -> Entry {
    let bits = metadata_bits(k, table - 1);
    let mut input = BitString::default();
    input.push(left.y.into(), k + 6);
    input.push(left.metadata, bits);
    input.push(right.metadata, bits);
    let hash = *blake3::hash(input.bytes()).as_bytes();
    let metadata = match table {
        2 | 3 => left.metadata << bits | right.metadata,
        _ => bits_of(&hash, k + 6, metadata_bits(k, table)),
    };
    Entry { y: bits_of(&hash, 0, k + 6) as u32, metadata, parents }
}

fn next(k: u32, table: usize, input: &[Entry]) -> Vec<Entry> {
    let buckets = (1u32 << (k + 6)).div_ceil(BC);
    let start_of = |bucket: u32| input.partition_point(|entry| entry.y < bucket * BC);
    let mut out = Vec::new();
    // For each r of the right bucket: its first entry, and how many there are.
    let mut right = vec![(0, 0); BC as usize];
    for bucket in 0..buckets {
        let (from, middle, to) = (start_of(bucket), start_of(bucket + 1), start_of(bucket + 2));
        right.fill((0, 0));
        for (index, entry) in (middle..to).zip(&input[middle..to]).rev() {
            let slot = &mut right[(entry.y - (bucket + 1) * BC) as usize];
            *slot = (index as u32, slot.1 + 1);
        }
        for (left_index, left) in (from..middle).zip(&input[from..middle]) {
            let r = left.y - bucket * BC;
            let target = |m: u32| {
                let root = 2 * m + bucket % 2;
                (r / COLUMNS + m) % 119 * COLUMNS + (root * root + r) % COLUMNS
            };
            let mut targets: Vec<_> = (0..64).map(target).filter(|r| right[*r as usize].1 > 0).collect();
            targets.sort_unstable();
            for (first, count) in targets.into_iter().map(|r| right[r as usize]) {
                for index in first..first + count {
                    let parents = (left_index as u32, index);
                    out.push(child(k, table, left, &input[index as usize], parents));
                }
            }
        }
    }
    sorted(out)
}
