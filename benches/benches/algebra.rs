//! What erasure coding and commitments cost on one core. Run with `cargo bench -p benches --bench algebra`.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use benches::{numbers, unit};
use consensus::bls::G1;
use consensus::constants::{RECORD_CHUNKS, S_BUCKETS, SEGMENT_PIECES, SEGMENT_RAW_RECORDS};
use consensus::erasure::{Extender, Recovery, extend, extend_commitments};
use consensus::fft::{fft, root_of_unity};
use consensus::kzg::{Kzg, Opening, Polynomial, TABLE_SIZE_MAX, insecure};
use consensus::{CpuLevel, Serial};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn erasure(c: &mut Criterion) {
    let source = numbers(RECORD_CHUNKS);
    let record: Vec<_> = source.iter().map(|scalar| scalar.to_bytes()).collect();
    let mut parity = source.clone();
    let mut parity_record = record.clone();
    c.bench_function("multiply 2^15 scalars", |b| {
        b.iter(|| source.iter().zip(&mut parity).for_each(|(a, b)| *b *= *a));
    });
    c.bench_function("fft 2^15", |b| b.iter(|| fft(black_box(&mut parity))));
    c.bench_function("extend 2^15 scalars", |b| b.iter(|| extend(black_box(&source), &mut parity)));
    for level in CpuLevel::available() {
        let mut extender = Extender::new(level, RECORD_CHUNKS).expect("a record's width is one");
        c.bench_function(&format!("extend a record: {level}"), |b| {
            b.iter(|| extender.extend_record(black_box(&record), &mut parity_record));
        });
    }

    for (name, count) in [("a sector's record", S_BUCKETS), ("a segment", SEGMENT_PIECES)] {
        let present: Vec<_> = (0..count).map(|place| place * 5 % 8 < 4).collect();
        let source = numbers(count / 2);
        let mut values = source.clone();
        extend(&source, &mut values).expect("half a power of two");
        let mut values: Vec<_> = source.into_iter().zip(values).flat_map(|(s, p)| [s, p]).collect();
        for level in CpuLevel::available() {
            let prepare = format!("prepare recovery of {name}: {level}");
            c.bench_function(&prepare, |b| b.iter(|| Recovery::at_level(level, &present)));
            let recovery = Recovery::at_level(level, &present).expect("half is present");
            let name = format!("recover values of {name}: {level}");
            c.bench_function(&name, |b| b.iter(|| recovery.recover(&mut values)));
        }
        let recovery = Recovery::new(&present).expect("half is present");
        let name = format!("recover polynomial of {name}");
        c.bench_function(&name, |b| b.iter(|| recovery.recover_polynomial(&mut values)));
    }
    let commitments: Vec<_> =
        numbers(SEGMENT_RAW_RECORDS).iter().map(|scalar| (G1::generator() * *scalar).to_bytes()).collect();
    c.bench_function("extend 128 commitments", |b| b.iter(|| extend_commitments(&commitments)));
}

fn kzg(c: &mut Criterion) {
    c.bench_function("make insecure parameters", |b| b.iter(insecure::parameters));
    let parameters = insecure::parameters();
    c.bench_function("decode parameters", |b| b.iter(|| Kzg::from_parameters(&parameters)));
    let kzg = Kzg::from_parameters(&parameters).expect("the parameters are good");

    let record = Polynomial::from_values(&numbers(RECORD_CHUNKS)).expect("a power of two");
    c.bench_function("commit to a record", |b| b.iter(|| kzg.commit(&record)));
    c.bench_function("witness of a chunk", |b| b.iter(|| kzg.witness(&record, S_BUCKETS, 12_345)));
    let segment = Polynomial::from_values(&numbers(SEGMENT_PIECES)).expect("a power of two");
    c.bench_function("commit to a segment", |b| b.iter(|| kzg.commit(&segment)));
    c.bench_function("witness of a record", |b| b.iter(|| kzg.witness(&segment, SEGMENT_PIECES, 99)));

    let commitment = kzg.commit(&segment).expect("not too long");
    let witnesses: Vec<_> = (0..SEGMENT_PIECES)
        .map(|index| kzg.witness(&segment, SEGMENT_PIECES, index).expect("index in range"))
        .collect();
    let omega = root_of_unity(SEGMENT_PIECES.ilog2());
    let openings: Vec<_> = witnesses
        .iter()
        .enumerate()
        .map(|(index, witness)| {
            let value = segment.evaluate(omega.pow(index as u64));
            Opening { commitment: &commitment, num_values: SEGMENT_PIECES, index, value, witness }
        })
        .collect();
    let one = openings[99];
    let verifier = kzg.verifier();
    c.bench_function("verify an opening", |b| {
        b.iter(|| verifier.verify(one.commitment, one.num_values, one.index, &one.value, one.witness));
    });
    c.bench_function("verify a segment's 256 openings", |b| b.iter(|| verifier.verify_batch(&openings)));
}

/// Each level of the machine, without a table and with tables of several sizes.
fn kzg_levels(c: &mut Criterion) {
    let parameters = insecure::parameters();
    let record = Polynomial::from_values(&numbers(RECORD_CHUNKS)).expect("a power of two");
    let segment = Polynomial::from_values(&numbers(SEGMENT_PIECES)).expect("a power of two");
    for level in CpuLevel::available() {
        let plain = Kzg::from_parameters_at(level, &parameters).expect("the parameters are good");
        for size_mib in [0, 16, 32, 64] {
            let kzg = plain.with_table(size_mib << 20, &Serial);
            let what = format!("{level}, table of {} MiB", kzg.size_bytes() >> 20);
            c.bench_function(&format!("commit to a record, {what}"), |b| b.iter(|| kzg.commit(&record)));
            c.bench_function(&format!("witness of a chunk, {what}"), |b| {
                b.iter(|| kzg.witness(&record, S_BUCKETS, 12_345));
            });
            c.bench_function(&format!("witness of a record, {what}"), |b| {
                b.iter(|| kzg.witness(&segment, SEGMENT_PIECES, 99));
            });
        }
        c.bench_function(&format!("make a table of 64 MiB, {level}"), |b| {
            b.iter(|| plain.with_table(TABLE_SIZE_MAX, &Serial));
        });
    }
}

criterion_group! {
    name = suite;
    config = Criterion::default().sample_size(10);
    targets = unit, erasure, kzg, kzg_levels
}
criterion_main!(suite);
