//! The kernels, run on the CPU in orders drawn from seeds, against consensus and against an obvious implementation of the tables.
#![cfg(feature = "kernel-shim")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod reference;

use consensus::CpuLevel;
use consensus::constants::{RECORD_CHUNKS, RECORD_SIZE};
use consensus::erasure::Extender;
use consensus::pos::Tables;
use consensus::sector::RecordEncoder;
use gpu::device::Device;
use gpu::device::shim::{ShimDevice, ShimOptions};
use gpu::interface::{Kernel, RESULT_NO_PROOF, RecordResult};
use gpu::known::{self, KNOWN, KNOWN_K};
use gpu::workbench::{Workbench, WorkedRecord};
use reference::Reference;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Records of the comparisons at K = 17, and twenty times as many as at K = 20. `make kernels-long` sets it to 200.
fn small_records() -> u64 {
    std::env::var("KERNEL_TEST_RECORDS").map_or(20, |records| records.parse().unwrap())
}

fn bench(k: u32, schedule_seed: Option<u64>) -> Workbench {
    let options = ShimOptions { k, schedule_seed, os_threads: 1, memory_bytes: 256 << 20 };
    Workbench::new(&ShimDevice::new(options).unwrap()).unwrap()
}

/// Pseudo-random bytes of a name and a number.
fn random(name: &str, number: u64, bytes: &mut [u8]) {
    blake3::Hasher::new().update(name.as_bytes()).update(&number.to_le_bytes()).finalize_xof().fill(bytes);
}

fn seed(number: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    random("seed", number, &mut seed);
    seed
}

fn record(number: u64) -> Vec<u8> {
    let mut record = vec![0; RECORD_SIZE];
    random("record", number, &mut record);
    // Below the modulus, and still using its upper bits.
    record.chunks_mut(32).for_each(|chunk| chunk[0] &= 0x3F);
    record
}

fn parity(record: &[u8]) -> Vec<u8> {
    let mut parity = vec![[0; 32]; RECORD_CHUNKS];
    let mut extender = Extender::new(CpuLevel::detect(), RECORD_CHUNKS).unwrap();
    extender.extend_record(record.as_chunks().0, &mut parity).unwrap();
    parity.into_flattened()
}

/// PROTOCOL 5.2, chunk by chunk: the bitfield and the encoded record.
fn place(record: &[u8], proof: impl Fn(u16) -> Option<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    let parity = parity(record);
    let halves = [record, &parity];
    let chunk = |s_bucket: usize| &halves[s_bucket % 2][s_bucket / 2 * 32..][..32];
    let (mut bitfield, mut encoded, mut unencoded) = (vec![0; 8192], Vec::new(), Vec::new());
    for s_bucket in 0..1 << 16 {
        match proof(s_bucket as u16).filter(|_| encoded.len() < RECORD_SIZE) {
            Some(proof) => {
                bitfield[s_bucket / 8] |= 1 << (s_bucket % 8);
                let hash = *blake3::hash(&proof).as_bytes();
                encoded.extend(chunk(s_bucket).iter().zip(hash).map(|(byte, hash)| byte ^ hash));
            }
            None => unencoded.extend_from_slice(chunk(s_bucket)),
        }
    }
    unencoded.truncate(RECORD_SIZE - encoded.len());
    encoded.extend(unencoded);
    (bitfield, encoded)
}

/// Runs `test` for each number, on two threads.
fn each(numbers: u64, test: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers {
                return;
            }
            test(number);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

fn assert_encoded(worked: &WorkedRecord, record: &[u8], proof: impl Fn(u16) -> Option<Vec<u8>>, number: u64) {
    let (bitfield, chunks) = place(record, proof);
    assert!(worked.bitfield == bitfield, "bitfield of record {number}");
    assert!(worked.chunks == chunks, "chunks of record {number}");
    let encoded: u32 = bitfield.iter().map(|byte| byte.count_ones()).sum();
    let RecordResult { flags, invalid, encoded_chunks, .. } = worked.result;
    assert_eq!((flags, invalid, encoded_chunks), (0, 0, encoded), "result of record {number}");
}

#[test]
fn small_records_in_any_order_of_threads() {
    let (ties, records) = (AtomicUsize::new(0), small_records());
    each(records, |number| {
        let (seed, record) = (seed(number), record(number % 4));
        let reference = Reference::grow(17, &seed);
        let worked = bench(17, Some(number + 1)).encode(&seed, &record).unwrap();
        assert_encoded(&worked, &record, |s_bucket| reference.proof(s_bucket), number);
        let tied = (0..=u16::MAX).filter(|s_bucket| reference.is_tie(*s_bucket)).count();
        ties.fetch_add(tied, Ordering::Relaxed);
    });
    // Else this would not have tested what it is for.
    let ties = ties.into_inner();
    println!("{records} records: {ties} proofs decided by position");
    assert!(ties as u64 > 50 * records, "{ties}");
}

#[test]
fn what_is_known_of_records_is_what_the_tables_say() {
    let digests = (0..KNOWN.len()).map(|number| {
        let (seed, record) = known::input(number);
        let reference = Reference::grow(KNOWN_K, &seed);
        let (bitfield, chunks) = place(&record, |s_bucket| reference.proof(s_bucket));
        known::digest(&bitfield, &chunks)
    });
    assert_eq!(digests.collect::<Vec<_>>(), KNOWN);
    known::check(&bench(KNOWN_K, Some(5))).unwrap();
    let error = known::check(&bench(16, None)).unwrap_err().to_string();
    assert!(error.contains("record 0") && error.contains(KNOWN[0]), "{error}");
}

#[test]
fn full_records_in_any_order_of_threads() {
    let ties = AtomicUsize::new(0);
    each(small_records().div_ceil(20), |number| {
        let (seed, record) = (seed(1000 + number), record(number));
        let worked = bench(20, Some(number + 1)).encode(&seed, &record).unwrap();
        let mut encoder = RecordEncoder::new(CpuLevel::detect());
        let mut expected = record.clone();
        let bitfield = encoder.encode(&seed, expected.as_chunks_mut().0).unwrap();
        assert!(worked.bitfield == bitfield.as_bytes(), "bitfield of record {number}");
        assert!(worked.chunks == expected, "chunks of record {number}");
        if number == 0 {
            let reference = Reference::grow(20, &seed);
            ties.fetch_add((0..=u16::MAX).filter(|s| reference.is_tie(*s)).count(), Ordering::Relaxed);
        }
    });
    assert!(ties.into_inner() > 200);
}

#[test]
fn stored_records_may_have_fewer_encoded_chunks() {
    let (seed, record) = (seed(7), record(7));
    let bench = bench(16, None);
    let worked = bench.encode(&seed, &record).unwrap();
    let bits: Vec<_> =
        (0..1usize << 16).filter(|bit| worked.bitfield[bit / 8] >> (bit % 8) & 1 != 0).collect();
    assert_eq!(bits.len(), RECORD_CHUNKS);
    // Every third chunk is stored encoded; the others count as chunks that no proof was found for.
    let (mut bitfield, mut stored, mut rest) = ([0; 8192], Vec::new(), Vec::new());
    for (chunk, bit) in worked.chunks.chunks(32).zip(&bits) {
        if bit % 3 == 0 {
            bitfield[bit / 8] |= 1 << (bit % 8);
            stored.extend_from_slice(chunk);
        } else {
            rest.extend_from_slice(chunk);
        }
    }
    let encoded = stored.len() / 32;
    stored.extend(rest);
    let decoded = bench.decode(&seed, &stored, &bitfield).unwrap();
    assert_eq!((decoded.result.flags, decoded.result.encoded_chunks as usize), (0, encoded));
    let extended = parity(&record);
    for (i, bit) in bits.iter().filter(|bit| *bit % 3 == 0).enumerate() {
        let source = &[&record, &extended][bit % 2][bit / 2 * 32..][..32];
        assert_eq!(decoded.chunks[32 * i..][..32], *source, "s-bucket {bit}");
    }
    assert_eq!(decoded.chunks[32 * encoded..], stored[32 * encoded..]);
}

#[test]
fn a_bitfield_that_does_not_fit_the_table_is_told() {
    let (seed, record) = (seed(8), record(8));
    let bench = bench(16, None);
    bench.grow(&seed).unwrap();
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let without = bench.proofs(&all).unwrap().iter().position(Option::is_none).unwrap();
    let mut bitfield = [0; 8192];
    bitfield[without / 8] = 1 << (without % 8);
    assert_eq!(bench.decode(&seed, &record, &bitfield).unwrap().result.flags, RESULT_NO_PROOF);
    assert_eq!(bench.decode(&seed, &record, &[0; 8192]).unwrap().result.flags, 0);
    assert_eq!(bench.decode(&seed, &record, &[255; 8192]).unwrap().result.flags, RESULT_NO_PROOF);
}

#[test]
fn proofs_are_those_of_consensus() {
    let seed = seed(9);
    let bench = bench(20, Some(3));
    assert_eq!(bench.grow(&seed).unwrap().flags, 0);
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let mut tables = Tables::new(CpuLevel::detect());
    tables.build(&seed);
    for (s_bucket, proof) in all.iter().zip(bench.proofs(&all).unwrap()) {
        assert_eq!(proof, tables.proof(*s_bucket).map(Vec::from), "s-bucket {s_bucket}");
    }
}

#[test]
fn parity_and_hash_of_a_record() {
    let bench = bench(16, Some(4));
    let mut record = record(1);
    assert_eq!(bench.extend(&record).unwrap().0, parity(&record));
    let worked = bench.encode(&seed(1), &record).unwrap();
    let spans = worked.result.spans;
    let pair = |a: &[u8; 32], b| blake3::hazmat::merge_subtrees_non_root(a, b, blake3::hazmat::Mode::Hash);
    let (left, right) = (pair(&spans[0], &spans[1]), pair(&spans[2], &spans[3]));
    let whole = blake3::hazmat::merge_subtrees_root(&left, &right, blake3::hazmat::Mode::Hash);
    assert_eq!(whole, blake3::hash(&record));

    // The largest scalar is none too large; the modulus itself is, and the first of two is named.
    let modulus = hex_bytes("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001");
    record[32 * 77..][..32].copy_from_slice(&modulus);
    record[32 * 77 + 31] = 0;
    assert_eq!(bench.extend(&record).unwrap(), (parity(&record), RecordResult::default()));
    record[32 * 20_000..][..32].copy_from_slice(&[255; 32]);
    record[32 * 77 + 31] = 1;
    assert_eq!(bench.extend(&record).unwrap().1.invalid, RECORD_CHUNKS as u32 - 77);
}

fn hex_bytes(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_module_says_what_it_is() {
    for k in [16, 17, 20] {
        let options = ShimOptions { k, schedule_seed: None, os_threads: 1, memory_bytes: 1 << 20 };
        let device = ShimDevice::new(options).unwrap();
        let layout = device.layout();
        assert_eq!((layout.k, layout.roots_bytes), (k, 2 << 20));
        // Every kernel whose grid is its own has one, and no block is too large for any card.
        for kernel in Kernel::ALL {
            let (blocks, threads) = layout.grid(kernel);
            let callers_own = matches!(kernel, Kernel::WriteProofs | Kernel::HashSpans | Kernel::Assemble);
            assert_eq!(blocks == 0, callers_own, "{kernel:?}");
            assert!((32..=1024).contains(&threads), "{kernel:?}");
        }
    }
}
