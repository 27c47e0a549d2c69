//! The encoder of GPUs through the seam, on the kernels that the CPU runs: sectors equal those of `consensus`, and a device that is lost or
//! wrong costs its sectors, never their truth.
#![cfg(feature = "kernel-shim")]
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::await_holding_lock, reason = "what is awaited while a device pauses never waits for it")]

mod common;

use common::{arrived, arrived_with_parity, bytes, expected, piece, plan, submit};
use consensus::CpuLevel;
use consensus::constants::sector_size;
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use futures::executor::block_on;
use futures::{FutureExt, join};
use gpu::card::{Budget, CardEncoder, CardEncoderOptions, EncodingDevice, Wanted};
use gpu::device::Device;
use gpu::device::shim::{Fault, ShimDevice, ShimOptions};
use gpu::{BeginError, FinishError, PieceError, SectorEncoder, SectorError};
use std::sync::Arc;

fn device() -> Arc<ShimDevice> {
    let options = ShimOptions { k: 20, schedule_seed: None, os_threads: 2, memory_bytes: 1 << 30 };
    Arc::new(ShimDevice::new(options).unwrap())
}

/// An encoder for sectors of up to three pieces, one at a time on each device.
fn encoder(devices: &[Arc<ShimDevice>], concurrency: usize, check_every: u64) -> (CardEncoder, Pool) {
    let wanted = Wanted { concurrency: Some(concurrency), sessions: 1, pieces_in_sector: 3, piece_slabs: 1 };
    let planned = |device: &Arc<ShimDevice>| {
        let budget = Budget::plan(device.layout(), device.memory().unwrap(), &wanted).unwrap();
        EncodingDevice { device: device.clone(), budget, feeder: None }
    };
    let devices: Vec<_> = devices.iter().map(planned).collect();
    let memory_slabs = devices.iter().map(|device| device.budget.slabs()).sum();
    let pool = Pool::new(memory_slabs, 64).unwrap();
    let options = CardEncoderOptions {
        devices,
        pieces_in_sector: 3,
        threads: ThreadWorkers::unbound(1),
        level: CpuLevel::detect(),
        pool: pool.clone(),
        memory_slabs,
        check_every,
    };
    (CardEncoder::new(options).unwrap(), pool)
}

/// Makes a sector of one piece, and its expected bytes.
fn one_piece(encoder: &CardEncoder, pool: &Pool) -> (Vec<u8>, Vec<u8>) {
    let sector = block_on(async {
        let session = encoder.begin(plan(1)).await.unwrap();
        assert_eq!(submit((&*session, pool), 0, &piece(0)).await, Ok(()));
        bytes(&mut session.finish().await.unwrap()).await
    });
    (sector, expected(&plan(1), &[piece(0)]).0)
}

#[test]
fn a_sector_out_of_order_with_bad_pieces_between_equals_that_of_consensus() {
    let (encoder, pool) = encoder(&[device()], 3, 1);
    let pieces: Vec<_> = (0..3).map(piece).collect();
    block_on(async {
        let session = encoder.begin(plan(3)).await.unwrap();
        let good = |offset: u16| submit((&*session, &pool), offset, &pieces[usize::from(offset)]);
        let mut wrong = arrived((&*session, &pool), 1, &pieces[1]).await;
        wrong.hash[7] ^= 1;
        let mut invalid = piece(9);
        invalid.record_mut()[30_000] = [0xff; 32];
        invalid.record_mut()[31_000] = [0xff; 32];
        let verdicts = join!(good(2), session.submit(wrong), submit((&*session, &pool), 0, &invalid));
        assert_eq!(verdicts.0, Ok(()));
        assert_eq!(verdicts.1, Err(PieceError::Hash { piece_offset: 1 }));
        assert_eq!(verdicts.2, Err(PieceError::InvalidScalar { piece_offset: 0, chunk: 30_000 }));
        assert_eq!(join!(good(1), good(0)), (Ok(()), Ok(())));
        let mut sector = session.finish().await.unwrap();
        let (expected, metadata) = expected(&plan(3), &pieces);
        assert_eq!((sector.metadata(), sector.size_bytes()), (&metadata, sector_size(3)));
        assert!(bytes(&mut sector).await == expected);
        assert_eq!(sector.checksum().unwrap(), expected[expected.len() - 32..]);
    });
    let stats = encoder.stats();
    assert_eq!((stats.records_encoded, stats.pieces_refused, stats.queued), (3, 2, 0));
    assert_eq!(stats.workers.iter().map(|worker| worker.jobs).sum::<u64>(), 5);
    assert_eq!((stats.slabs_promised, pool.stats().in_use), (0, 0));
    let too_large = block_on(encoder.begin(plan(4))).err();
    assert_eq!(too_large, Some(BeginError::DeviceMemory { pieces_in_sector: 4, limit: 3 }));
}

/// The device takes it as it comes, or the CPU, which looks at the first record, would find nothing amiss; and the device stays in service.
#[test]
fn parity_that_came_with_a_record_is_taken_and_a_wrong_one_is_not_the_devices_fault() {
    let (encoder, pool) = encoder(&[device()], 1, 1000);
    let (ours, other) = (piece(0), piece(1));
    block_on(async {
        let session = encoder.begin(plan(1)).await.unwrap();
        let wrong = arrived_with_parity((&*session, &pool), 0, &ours, &other).await;
        assert_eq!(session.submit(wrong).await, Err(PieceError::Parity { piece_offset: 0 }));
        let right = arrived_with_parity((&*session, &pool), 0, &ours, &ours).await;
        assert_eq!(session.submit(right).await, Ok(()));
        let sector = bytes(&mut session.finish().await.unwrap()).await;
        assert!(sector == expected(&plan(1), &[ours]).0);
    });
    assert_eq!((encoder.stats().slabs_promised, pool.stats().in_use), (0, 0));
}

#[test]
fn records_that_a_device_cannot_do_are_done_by_the_cpu() {
    let device = device();
    // The lowest bit of the first result is that of an overflow.
    device.inject(Fault::FlipBit { copy_out: 1, bit: 0 });
    let (encoder, pool) = encoder(&[device], 1, 1000);
    let (sector, expected) = one_piece(&encoder, &pool);
    assert!(sector == expected);
    assert_eq!(encoder.stats().records_encoded, 1);
}

#[test]
fn a_device_that_encodes_wrongly_goes_out_of_service_and_the_next_takes_over() {
    let devices = [device(), device()];
    // Results, bitfields, and then the chunks of the first record, which are compared.
    devices[0].inject(Fault::FlipBit { copy_out: 3, bit: 12_345 });
    let (encoder, pool) = encoder(&devices, 1, 1000);
    block_on(async {
        let session = encoder.begin(plan(1)).await.unwrap();
        let verdict = submit((&*session, &pool), 0, &piece(0)).await;
        assert_eq!(verdict, Err(PieceError::Dropped { piece_offset: 0 }));
        let again = submit((&*session, &pool), 0, &piece(0)).await;
        assert_eq!(again, Err(PieceError::Dropped { piece_offset: 0 }));
        session.cancel().await;
    });
    let (sector, expected) = one_piece(&encoder, &pool);
    assert!(sector == expected);
    assert_eq!((encoder.stats().slabs_promised, pool.stats().in_use), (0, 0));
}

#[test]
fn a_device_that_calls_good_pieces_bad_is_found_out() {
    // Bits of the first result: of the place of an invalid scalar, of the hash, and of the count of chunks.
    for bit in [40, 128, 64] {
        let device = device();
        device.inject(Fault::FlipBit { copy_out: 1, bit });
        let (encoder, pool) = encoder(&[device], 1, 1000);
        block_on(async {
            let session = encoder.begin(plan(1)).await.unwrap();
            let verdict = submit((&*session, &pool), 0, &piece(0)).await;
            assert_eq!(verdict, Err(PieceError::Dropped { piece_offset: 0 }), "bit {bit}");
            drop(session);
            assert_eq!(encoder.begin(plan(1)).await.err(), Some(BeginError::OutOfService));
        });
        assert_eq!(pool.stats().in_use, 0);
    }
}

#[test]
fn a_device_lost_while_records_are_encoded_costs_the_sector_alone() {
    let device = device();
    let (encoder, pool) = encoder(std::slice::from_ref(&device), 2, 1000);
    device.inject(Fault::LoseAtLaunch(9));
    block_on(async {
        let session = encoder.begin(plan(3)).await.unwrap();
        let mut waiting = encoder.begin(plan(1));
        assert!((&mut waiting).now_or_never().is_none());
        let pieces: Vec<_> = (0..3).map(piece).collect();
        let submitted = |offset: u16| submit((&*session, &pool), offset, &pieces[usize::from(offset)]);
        let dropped = |piece_offset| Err(PieceError::Dropped { piece_offset });
        assert_eq!(join!(submitted(0), submitted(1), submitted(2)), (dropped(0), dropped(1), dropped(2)));
        assert!(matches!(session.finish().await, Err(FinishError::Missing { .. })));
        assert_eq!(waiting.await.err(), Some(BeginError::OutOfService));
    });
    // The two records that were under way stay with the device, which never said that it is done with them.
    assert_eq!((pool.stats().in_use, encoder.stats().queued), (2, 0));
}

#[test]
fn a_device_lost_while_a_sector_leaves_ends_it_early() {
    let device = device();
    let (encoder, pool) = encoder(std::slice::from_ref(&device), 1, 1000);
    block_on(async {
        let session = encoder.begin(plan(1)).await.unwrap();
        assert_eq!(submit((&*session, &pool), 0, &piece(0)).await, Ok(()));
        device.inject(Fault::LoseAtLaunch(1));
        let mut sector = session.finish().await.unwrap();
        let interrupted = SectorError::Interrupted { taken_bytes: 0, size_bytes: sector_size(1) };
        assert_eq!(sector.next().await.unwrap().unwrap_err(), interrupted);
        drop(sector);
        assert_eq!(encoder.begin(plan(1)).await.err(), Some(BeginError::OutOfService));
    });
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn sessions_wait_for_room_and_slow_consumers_hold_nobody_up() {
    let (encoder, pool) = encoder(&[device()], 1, 1000);
    block_on(async {
        let session = encoder.begin(plan(1)).await.unwrap();
        assert_eq!(submit((&*session, &pool), 0, &piece(0)).await, Ok(()));
        let rest: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).collect();
        let mut sector = session.finish().await.unwrap();
        assert!(sector.next().now_or_never().is_none(), "no memory for output");
        let mut next = encoder.begin(plan(1));
        assert!((&mut next).now_or_never().is_none(), "no memory on the device");
        drop(rest);
        drop(sector);
        let session = next.await.unwrap();
        session.cancel().await;
    });
    assert_eq!((encoder.stats().slabs_promised, pool.stats().in_use), (0, 0));
}

#[test]
fn a_stopped_encoder_says_so() {
    let device = device();
    let (encoder, pool) = encoder(std::slice::from_ref(&device), 1, 1000);
    block_on(async {
        let session = encoder.begin(plan(3)).await.unwrap();
        let mut submitted = Vec::new();
        let paused = device.pause();
        for offset in 0..3 {
            let mut done = session.submit(arrived((&*session, &pool), offset, &piece(offset)).await);
            assert_eq!((&mut done).now_or_never(), None);
            submitted.push(done);
        }
        while encoder.stats().queued > 2 {
            std::thread::yield_now();
        }
        drop(paused);
        drop(encoder);
        assert_eq!(submitted.pop().unwrap().await, Err(PieceError::Dropped { piece_offset: 2 }));
        drop(submitted);
        let late = submit((&*session, &pool), 0, &piece(0)).await;
        assert!(late.is_err(), "{late:?}");
    });
    assert_eq!(pool.stats().in_use, 0);
}
