//! What moving bytes costs before any of them moves: frames of the transport, handles of the pool.
//! Run with `cargo bench -p benches --bench moving`.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use criterion::{Criterion, criterion_group, criterion_main};
use engine::pool::Pool;
use std::hint::black_box;
use transport::frame::{self, HeaderBuf, Kind, PREFIX_BYTES, Prefix};
use transport::message::{Header, Request, RequestHeader};

fn frames(c: &mut Criterion) {
    let request = Request::GetSectorRange { staging: [7; 16], phase: 64, offset: 9 << 20, length: 1 << 20 };
    let header = RequestHeader { timeout_ms: 500, request };
    let encode = || frame::encode(Kind::Request, 77, 0, |frame| black_box(&header).append(frame));
    c.bench_function("write a request's frame", |b| b.iter(encode));
    let frame = encode();
    c.bench_function("read a request's frame", |b| b.iter(|| read(black_box(&frame))));
}

/// What a receiver does with a frame, all checks included.
fn read(frame: &HeaderBuf) -> RequestHeader {
    let (prefix, header) = frame.split_first_chunk::<PREFIX_BYTES>().expect("a whole frame");
    let decoded = Prefix::decode(prefix).expect("a prefix");
    Prefix::verify(prefix, header).expect("undamaged");
    let request = RequestHeader::read(header).expect("a header");
    request.check(decoded.payload_length).expect("a request within its limits");
    request
}

fn pool(c: &mut Criterion) {
    let pool = Pool::new(16, 16).expect("32 MiB can be mapped");
    c.bench_function("take a slab and give it back", |b| b.iter(|| pool.try_acquire()));
    let slab = pool.try_acquire().expect("16 are free").freeze();
    c.bench_function("slice a shared slab", |b| b.iter(|| black_box(&slab).slice(4096..8192)));
    c.bench_function("split a slab in two and join it", |b| {
        let mut whole = pool.try_acquire();
        b.iter(|| {
            let mut left = whole.take().expect("joined before");
            let right = left.split_off(1 << 20);
            whole = left.join(right).ok();
        });
    });
}

criterion_group!(suite, frames, pool);
criterion_main!(suite);
