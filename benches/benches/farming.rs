//! What plotting, auditing and proving cost on one core, at every CPU level that the machine has.
//! Run with `cargo bench -p benches --bench farming`.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use benches::{piece, unit};
use consensus::challenge::SectorSlotChallenge;
use consensus::constants::{MAX_PIECES_IN_SECTOR, RECORD_CHUNKS, S_BUCKETS, sector_size};
use consensus::kzg::{Kzg, insecure};
use consensus::pos::{Seed, Tables, is_valid};
use consensus::sector::{
    Bitfield, ContentsMap, RecordDecoder, RecordEncoder, RecordMetadata, SectorAssembler,
};
use consensus::{CpuLevel, audit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const SEED: Seed = [7; 32];
/// Chunks that a slot audits in a sector of 1000 pieces, about.
const AUDITED_CHUNKS: usize = 512;
/// Pieces of the sector that is put together.
const SECTOR_PIECES: u16 = 8;

fn table(c: &mut Criterion) {
    for level in CpuLevel::available() {
        let mut tables = Tables::new(level);
        c.bench_function(&format!("table/{level}"), |b| b.iter(|| tables.build(black_box(&SEED))));
        let found = (0..=u16::MAX).filter_map(|s_bucket| tables.proof(s_bucket)).count() as u64;
        let mut group = c.benchmark_group("proofs of a table");
        group.throughput(Throughput::Elements(found));
        group.bench_function(level.name(), |b| {
            b.iter(|| (0..=u16::MAX).filter_map(|s_bucket| tables.proof(s_bucket)).count());
        });
    }
    let mut tables = Tables::new(CpuLevel::detect());
    tables.build(&SEED);
    let (s_bucket, proof) =
        (0..).find_map(|s_bucket| Some((s_bucket, tables.proof(s_bucket)?))).expect("most have a proof");
    c.bench_function("verify a proof of space", |b| {
        b.iter(|| is_valid(black_box(&SEED), u32::from(s_bucket), &proof));
    });
}

fn encode(c: &mut Criterion) {
    let original = piece(0);
    for level in CpuLevel::available() {
        let mut encoder = RecordEncoder::new(level);
        let mut record = original.view().record.to_vec();
        c.bench_function(&format!("encode a record/{level}"), |b| {
            b.iter(|| {
                record.copy_from_slice(original.view().record);
                encoder.encode(black_box(&SEED), &mut record).expect("the chunks are scalars")
            });
        });
    }
    c.bench_function("BLAKE3 of a piece", |b| b.iter(|| black_box(&original).view().hash()));
}

fn assemble(c: &mut Criterion) {
    let mut encoder = RecordEncoder::new(CpuLevel::detect());
    let pieces: Vec<_> = (0..SECTOR_PIECES).map(|number| piece(number.into())).collect();
    let metadata: Vec<_> = pieces.iter().map(|piece| RecordMetadata::of(&piece.view())).collect();
    let mut records: Vec<_> = pieces.iter().map(|piece| piece.view().record.to_vec()).collect();
    let bitfields: Vec<_> = records
        .iter_mut()
        .map(|record| encoder.encode(&SEED, record).expect("the chunks are scalars"))
        .collect();
    let mut sector = vec![0; sector_size(SECTOR_PIECES)];
    let mut group = c.benchmark_group("put a sector together");
    group.throughput(Throughput::Bytes(sector.len() as u64));
    group.bench_function(format!("{SECTOR_PIECES} pieces"), |b| {
        b.iter(|| {
            let records = records.iter().map(Vec::as_slice).collect();
            SectorAssembler::new(records, bitfields.clone(), &metadata).fill(&mut sector)
        });
    });
}

/// What auditing and proving look up in a sector of full size before they read it.
fn contents_map(c: &mut Criterion) {
    let bitfields = (0..u64::from(MAX_PIECES_IN_SECTOR)).map(|record| {
        let mut random = blake3::Hasher::new().update(&record.to_le_bytes()).finalize_xof();
        let (mut bits, mut bitfield) = (vec![0; S_BUCKETS], Bitfield::default());
        random.fill(&mut bits);
        // As many as a record has proofs, up to its chunks.
        let set = (0..=u16::MAX).zip(bits).filter(|&(_, bits)| bits < 160).take(RECORD_CHUNKS);
        set.for_each(|(s_bucket, _)| bitfield.set(s_bucket));
        bitfield
    });
    let map = ContentsMap::new(bitfields.collect());
    let sizes = map.s_bucket_sizes();
    let mut group = c.benchmark_group("contents map of 1000 records");
    group.bench_function("sizes of s-buckets", |b| b.iter(|| black_box(&map).s_bucket_sizes()));
    group.bench_function("chunks of the last record", |b| {
        b.iter(|| black_box(&map).chunk_locations(MAX_PIECES_IN_SECTOR - 1, &sizes));
    });
}

fn audit_and_prove(c: &mut Criterion) {
    let chunks: Vec<[u8; 32]> =
        (0..AUDITED_CHUNKS as u64).map(|i| blake3::hash(&i.to_le_bytes()).into()).collect();
    let (global, challenge) = ([3; 32], SectorSlotChallenge([9; 32]));
    let mut group = c.benchmark_group("audit");
    group.throughput(Throughput::Elements(chunks.len() as u64));
    for level in CpuLevel::available() {
        group.bench_function(level.name(), |b| {
            b.iter(|| audit::audit(level, &global, &challenge, 1 << 40, black_box(&chunks)));
        });
    }
    group.finish();

    let kzg = Kzg::from_parameters(&insecure::parameters()).expect("made here");
    let level = CpuLevel::detect();
    let mut record = piece(0).view().record.to_vec();
    let bitfield = RecordEncoder::new(level).encode(&SEED, &mut record).expect("the chunks are scalars");
    let (s_bucket, _) = bitfield.used().next().expect("a record uses s-buckets");
    let mut decoder = RecordDecoder::new(level);
    c.bench_function("prove a chunk", |b| {
        b.iter(|| decoder.prove(&SEED, &record, &bitfield, s_bucket, &kzg).expect("encoded with this seed"));
    });
}

criterion_group! {
    name = suite;
    config = Criterion::default().sample_size(10);
    targets = unit, table, encode, assemble, contents_map, audit_and_prove
}
criterion_main!(suite);
