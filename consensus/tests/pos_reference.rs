//! The tables against a second, slow and obvious implementation of PROTOCOL section 1: sort, look for targets, hash one by one.

use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use consensus::CpuLevel;
use consensus::pos::Tables;

const BC: u32 = 119 * 127;
const METADATA_BITS: [u32; 8] = [0, 20, 40, 80, 80, 60, 40, 0];

#[derive(Clone, Copy)]
struct Entry {
    y: u32,
    metadata: u128,
    parents: (u32, u32),
}

/// A table in consensus order; `parents` are indexes into the table before, in the same order.
type Table = Vec<Entry>;

/// Stable, so that equal y keep their creation order.
fn sorted(mut table: Table) -> Table {
    table.sort_by_key(|entry| entry.y);
    table
}

fn table_1(seed: &[u8; 32]) -> Table {
    let mut stream = vec![0; (20 << 20) / 8];
    ChaCha8::new(seed.into(), &[0; 12].into()).apply_keystream(&mut stream);
    let bit = |i: u32| u32::from(stream[i as usize / 8] >> (7 - i % 8) & 1);
    let entry = |x: u32| {
        let prefix = (0..20).fold(0, |value, i| value << 1 | bit(20 * x + i));
        Entry { y: prefix << 6 | x >> 14, metadata: u128::from(x), parents: (x, x) }
    };
    sorted((0..1 << 20).map(entry).collect())
}

/// The bits of the numbers one after another, most significant first, zero-padded to whole bytes.
fn bit_string(parts: [(u128, u32); 3]) -> Vec<u8> {
    let bits: Vec<u8> = parts
        .iter()
        .flat_map(|&(value, count)| (0..count).rev().map(move |i| (value >> i & 1) as u8))
        .collect();
    bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |all, (i, bit)| all | bit << (7 - i))).collect()
}

fn bits_of(bytes: &[u8], from: u32, count: u32) -> u128 {
    (from..from + count).fold(0, |value, i| value << 1 | u128::from(bytes[i as usize / 8] >> (7 - i % 8) & 1))
}

fn child(table: usize, left: &Entry, right: &Entry, parents: (u32, u32)) -> Entry {
    let bits = METADATA_BITS[table - 1];
    let hash =
        *blake3::hash(&bit_string([(left.y.into(), 26), (left.metadata, bits), (right.metadata, bits)]))
            .as_bytes();
    let metadata = match table {
        2 | 3 => left.metadata << bits | right.metadata,
        _ => bits_of(&hash, 26, METADATA_BITS[table]),
    };
    Entry { y: bits_of(&hash, 0, 26) as u32, metadata, parents }
}

fn next(table: usize, input: &Table) -> Table {
    let mut out = Vec::new();
    for (left_index, left) in input.iter().enumerate() {
        let (bucket, r) = (left.y / BC, left.y % BC);
        let target = |m: u32| {
            let root = 2 * m + bucket % 2;
            (r / 127 + m) % 119 * 127 + (root * root + r) % 127
        };
        let mut targets: Vec<u32> = (0..64).map(target).collect();
        targets.sort_unstable();
        for target in targets {
            let y = (bucket + 1) * BC + target;
            let first = input.partition_point(|entry| entry.y < y);
            for (i, right) in input[first..].iter().take_while(|entry| entry.y == y).enumerate() {
                out.push(child(table, left, right, (left_index as u32, (first + i) as u32)));
            }
        }
    }
    sorted(out)
}

fn x_values(tables: &[Table], table: usize, index: u32, values: &mut Vec<u32>) {
    let (left, right) = tables[table][index as usize].parents;
    if table == 0 {
        values.push(left);
    } else {
        x_values(tables, table - 1, left, values);
        x_values(tables, table - 1, right, values);
    }
}

#[test]
fn every_s_bucket_has_the_proof_of_the_reference() {
    let seed = *blake3::hash(b"reference").as_bytes();
    let mut reference = vec![table_1(&seed)];
    for table in 2..=7 {
        reference.push(next(table, &reference[table - 2]));
    }
    let last = &reference[6];
    let mut tables = Tables::new(CpuLevel::detect());
    tables.build(&seed);
    let (mut proofs, mut ties) = (0, 0);
    for s_bucket in 0..=u16::MAX {
        let target = u32::from(s_bucket & 255) << 12 | u32::from(s_bucket >> 8) << 4;
        let first = last.partition_point(|entry| entry.y >> 6 < target);
        let expected = last.get(first).filter(|entry| entry.y >> 6 == target).map(|entry| {
            ties += usize::from(last.get(first + 1).is_some_and(|next| next.y == entry.y));
            let mut values = Vec::new();
            x_values(&reference, 6, first as u32, &mut values);
            let pairs =
                values.chunks(2).map(|pair| (u64::from(pair[0]) << 20 | u64::from(pair[1])).to_be_bytes());
            pairs.flat_map(|bytes| bytes[3..].to_vec()).collect::<Vec<u8>>()
        });
        proofs += usize::from(expected.is_some());
        assert_eq!(tables.proof(s_bucket).map(Vec::from), expected, "s-bucket {s_bucket}");
    }
    assert!(proofs > 39_000 && ties > 200, "{proofs} proofs, {ties} ties decided by position");
}
