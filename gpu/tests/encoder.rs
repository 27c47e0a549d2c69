//! The CPU encoder through the seam. `block_on` of `futures` runs it: no runtime is needed.

mod common;

use common::{arrived, arrived_with_parity, bytes, encoder, expected, piece, plan, submit};
use consensus::CpuLevel;
use consensus::constants::{RECORD_SIZE, sector_size};
use engine::pool::{Pool, SLAB_BYTES};
use engine::threads::ThreadWorkers;
use futures::executor::block_on;
use futures::future::join_all;
use futures::{FutureExt, join};
use gpu::cpu::{CpuEncoder, CpuEncoderOptions, StartError, session_slabs};
use gpu::{BeginError, FinishError, PieceError, SectorEncoder, SectorPlan};

/// Waits until all memory of the pool is back, for at most a few records' time.
fn assert_all_back(pool: &Pool) {
    for _ in 0..1000 {
        if pool.stats().in_use == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("slabs are lost: {pool:?}");
}

#[test]
fn a_sector_out_of_order_with_bad_pieces_between_equals_that_of_consensus() {
    let (encoder, pool) = encoder(2, 3, 1);
    let pieces: Vec<_> = (0..3).map(piece).collect();
    let (expected, metadata) = expected(&plan(3), &pieces);
    block_on(async {
        let session = encoder.begin(plan(3)).await.unwrap();
        let good = |offset: u16| submit((&*session, &pool), offset, &pieces[usize::from(offset)]);
        let mut wrong = arrived((&*session, &pool), 1, &pieces[1]).await;
        wrong.hash[7] ^= 1;
        let mut invalid = piece(9);
        invalid.record_mut()[30_000] = [0xff; 32];
        let verdicts = join!(good(2), session.submit(wrong), submit((&*session, &pool), 0, &invalid));
        assert_eq!(verdicts.0, Ok(()));
        assert_eq!(verdicts.1, Err(PieceError::Hash { piece_offset: 1 }));
        assert_eq!(verdicts.2, Err(PieceError::InvalidScalar { piece_offset: 0, chunk: 30_000 }));
        assert_eq!(join!(good(1), good(0)), (Ok(()), Ok(())));
        let mut sector = session.finish().await.unwrap();
        assert_eq!((sector.metadata(), sector.size_bytes()), (&metadata, sector_size(3)));
        assert_eq!(sector.checksum(), None);
        assert!(bytes(&mut sector).await == expected);
        assert_eq!(sector.checksum().unwrap(), expected[expected.len() - 32..]);
        assert!(sector.next().await.is_none());
    });
    let stats = encoder.stats();
    assert_eq!((stats.records_encoded, stats.pieces_refused, stats.queued), (3, 2, 0));
    // A record is known a moment before its job counts.
    while encoder.stats().workers.iter().map(|worker| worker.jobs).sum::<u64>() < 5 {
        std::thread::yield_now();
    }
    assert_all_back(&pool);
    assert_eq!(encoder.stats().slabs_promised, 0);
    assert!(pool.stats().high_water <= session_slabs(3, 2, 1));
}

#[test]
fn a_sector_of_records_whose_parity_came_with_them_equals_that_of_consensus() {
    let (encoder, pool) = encoder(2, 6, 1);
    let pieces: Vec<_> = (0..3).map(piece).collect();
    block_on(async {
        let session = encoder.begin(plan(3)).await.unwrap();
        let at = (&*session, &pool);
        let mut invalid = arrived(at, 0, &pieces[0]).await;
        invalid.parity = Some(
            Pool::new(1, 1)
                .unwrap()
                .try_acquire()
                .map(|mut slab| {
                    slab.fill(0xff);
                    slab.narrow(..RECORD_SIZE).freeze()
                })
                .unwrap(),
        );
        assert_eq!(session.submit(invalid).await, Err(PieceError::Parity { piece_offset: 0 }));
        // The first of a worker is looked at.
        let wrong = arrived_with_parity(at, 0, &pieces[0], &pieces[1]).await;
        assert_eq!(session.submit(wrong).await, Err(PieceError::Parity { piece_offset: 0 }));
        for offset in [2, 0, 1] {
            let piece = &pieces[usize::from(offset)];
            let arrived = arrived_with_parity(at, offset, piece, piece).await;
            assert_eq!(session.submit(arrived).await, Ok(()));
        }
        assert!(bytes(&mut session.finish().await.unwrap()).await == expected(&plan(3), &pieces).0);
    });
    assert_all_back(&pool);
}

#[test]
fn what_cannot_be_submitted_is_refused_at_once() {
    let (encoder, pool) = encoder(1, 2, 2);
    block_on(async {
        let session = encoder.begin(plan(2)).await.unwrap();
        let mut under_way = session.submit(arrived((&*session, &pool), 1, &piece(1)).await);
        assert_eq!((&mut under_way).now_or_never(), None);
        let again = submit((&*session, &pool), 1, &piece(1)).now_or_never();
        assert_eq!(again, Some(Err(PieceError::Duplicate { piece_offset: 1 })));
        let outside = submit((&*session, &pool), 2, &piece(1)).now_or_never();
        assert_eq!(outside, Some(Err(PieceError::Offset { piece_offset: 2, pieces_in_sector: 2 })));
        let mut crooked = arrived((&*session, &pool), 0, &piece(0)).await;
        crooked.record = crooked.record.slice(..RECORD_SIZE - 32);
        let crooked = session.submit(crooked).now_or_never();
        assert_eq!(crooked, Some(Err(PieceError::Record { piece_offset: 0 })));
        // A caller that does not wait for a piece gets it into the sector all the same.
        drop(under_way);
        let missing = session.finish().await.unwrap_err();
        assert_eq!(missing, FinishError::Missing { missing: 1, first: 0 });
    });
    assert_eq!(encoder.stats().records_encoded, 1);
    assert_all_back(&pool);
}

#[test]
fn cancelling_drops_what_is_queued_and_waits_for_what_is_not() {
    let (encoder, pool) = encoder(1, 6, 1);
    block_on(async {
        let session = encoder.begin(plan(6)).await.unwrap();
        for offset in 0..3 {
            let piece = arrived((&*session, &pool), offset, &piece(offset)).await;
            assert_eq!(session.submit(piece).now_or_never(), None);
        }
        session.cancel().await;
        assert_eq!((pool.stats().in_use, encoder.stats().slabs_promised, encoder.stats().queued), (0, 0, 0));
    });
    // The third piece could be submitted when the first had just begun.
    assert!(encoder.stats().records_encoded < 3);
}

#[test]
fn credits_hold_back_whoever_brings_pieces() {
    let (encoder, pool) = encoder(1, 4, 1);
    block_on(async {
        let session = encoder.begin(plan(4)).await.unwrap();
        let first = arrived((&*session, &pool), 0, &piece(0)).await;
        let second = session.credit().await;
        assert!(session.credit().now_or_never().is_none());
        drop(second);
        assert!(session.credit().now_or_never().is_some());
        // The credit comes back when the worker has copied the record, long before it is encoded.
        let mut done = session.submit(first);
        assert_eq!((&mut done).now_or_never(), None);
        let _credits = join!(session.credit(), session.credit());
        assert_eq!((&mut done).now_or_never(), None);
        assert_eq!(pool.stats().in_use, 1);
    });
}

#[test]
fn dropping_a_session_or_a_finished_sector_gives_all_memory_back() {
    let (encoder, pool) = encoder(2, 5, 1);
    block_on(async {
        let session = encoder.begin(plan(5)).await.unwrap();
        assert_eq!(session.submit(arrived((&*session, &pool), 0, &piece(0)).await).now_or_never(), None);
        drop(session);
        // The next session waits for the memory of the first.
        let session = encoder.begin(plan(5)).await.unwrap();
        let pieces: Vec<_> = (0..5).map(piece).collect();
        let submitted = (0..).zip(&pieces).map(|(offset, piece)| submit((&*session, &pool), offset, piece));
        assert!(join_all(submitted).await.iter().all(Result::is_ok));
        let rest: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).collect();
        let mut sector = session.finish().await.unwrap();
        assert!(sector.next().now_or_never().is_none(), "no memory for output");
        drop(rest);
        drop(sector.next().await.unwrap().unwrap());
        assert_eq!((sector.size_bytes().div_ceil(SLAB_BYTES), sector.checksum()), (3, None));
        let rest: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).collect();
        drop(sector);
        drop(rest);
        assert_eq!(pool.stats().in_use, 0);
    });
}

#[test]
fn sessions_wait_for_memory_in_order_and_share_the_workers() {
    let (encoder, pool) = encoder(2, 2, 1);
    let pieces = [piece(0), piece(1)];
    let sector = async |index: u16| {
        let session = encoder.begin(SectorPlan { sector_index: index, ..plan(2) }).await.unwrap();
        let done =
            join!(submit((&*session, &pool), 1, &pieces[1]), submit((&*session, &pool), 0, &pieces[0]));
        assert_eq!(done, (Ok(()), Ok(())));
        bytes(&mut session.finish().await.unwrap()).await
    };
    let (first, second) = block_on(async { join!(sector(0), sector(1)) });
    for (index, sector) in [(0, first), (1, second)] {
        assert!(sector == expected(&SectorPlan { sector_index: index, ..plan(2) }, &pieces).0, "{index}");
    }
    assert_all_back(&pool);
    assert!(pool.stats().high_water <= session_slabs(2, 2, 1));
}

#[test]
fn a_stopped_encoder_says_so() {
    let (encoder, pool) = encoder(1, 4, 1);
    block_on(async {
        let session = encoder.begin(plan(4)).await.unwrap();
        let mut submitted = Vec::new();
        for offset in 0..3 {
            let mut done = session.submit(arrived((&*session, &pool), offset, &piece(offset)).await);
            assert_eq!((&mut done).now_or_never(), None);
            submitted.push(done);
        }
        drop(encoder);
        // The one that was being encoded, if it was, came to its end; the others did not.
        assert_eq!(submitted.pop().unwrap().await, Err(PieceError::Dropped { piece_offset: 2 }));
        drop(submitted);
        let late = submit((&*session, &pool), 3, &piece(3)).await;
        assert_eq!(late, Err(PieceError::Dropped { piece_offset: 3 }));
        assert!(matches!(session.finish().await, Err(FinishError::Missing { .. })));
    });
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (encoder, _) = encoder(1, 2, 1);
    let begin = |plan| block_on(encoder.begin(plan)).err();
    assert_eq!(begin(plan(0)), Some(BeginError::Pieces(0)));
    assert_eq!(begin(plan(1001)), Some(BeginError::Pieces(1001)));
    assert_eq!(begin(SectorPlan { history_size: 0, ..plan(1) }), Some(BeginError::EmptyHistory));
    let (needed, limit) = (session_slabs(3, 1, 1), session_slabs(2, 1, 1));
    assert_eq!(begin(plan(3)), Some(BeginError::Memory { pieces_in_sector: 3, needed, limit }));

    let pool = Pool::new(4, 1).unwrap();
    let (threads, level) = (ThreadWorkers::unbound(1), CpuLevel::detect());
    let too_much =
        CpuEncoder::new(CpuEncoderOptions { threads, level, pool, memory_slabs: 5, piece_slabs: 1 });
    assert!(matches!(too_much, Err(StartError::Memory { wanted: 5, available: 4 })));
}
