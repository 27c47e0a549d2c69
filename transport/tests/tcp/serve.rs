//! Requests and answers when nothing is wrong.

use crate::house::{House, Keys, PATIENCE, client, fill_piece, on_executor};
use engine::Local;
use engine::pool::Pool;
use engine::task::spawn_local;
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream;
use std::pin::pin;
use std::time::Duration;
use transport::connection::Config;
use transport::message::{ItemKind, RefusalCode, Request, Response, Role};
use transport::payload::PayloadBuf;
use transport::tcp::{Client, ClientError, SlabPayload};

const STAGING: [u8; 16] = [1; 16];

async fn get_piece(client: &Client, index: u64) -> SlabPayload {
    let request = Request::GetItem { index, kind: ItemKind::Piece };
    let reply = client.request(request, None, PATIENCE).await.unwrap();
    assert!(reply.is_intact());
    reply.payload.unwrap().into_payload()
}

fn pieces(plain: bool) {
    on_executor(32, move |local| async move {
        let house = House::new(&local, &Keys::new(plain));
        let client = &house.client;
        let asked = (0..64).map(|index| async move { (index, get_piece(client, index).await) });
        let mut replies = stream::iter(asked).buffer_unordered(8);
        let mut expected = local.pool().acquire().await.unwrap();
        while let Some((index, piece)) = replies.next().await {
            fill_piece(&mut expected, index);
            assert!(piece.into_slab()[4000..] == expected[4000..4096 + (1 << 20)], "piece {index}");
        }
    });
}

#[test]
fn pieces_over_tls_with_window_8() {
    pieces(false);
}

#[test]
fn pieces_over_plain_tcp_with_window_8() {
    pieces(true);
}

#[test]
fn pieces_go_the_other_way_and_answers_may_be_refusals() {
    on_executor(8, |local| async move {
        let house = House::new(&local, &Keys::new(false));
        let client = &house.client;
        let mut slab = local.pool().acquire().await.unwrap();
        fill_piece(&mut slab, 5);
        let slab = slab.freeze();
        let blake3 = SlabPayload::piece(&slab).blake3();
        for (blake3, damaged) in [(blake3, false), ([0; 32], true)] {
            let put = Request::PutItem { index: 5, kind: ItemKind::Piece, blake3 };
            let reply = client.request(put, Some(SlabPayload::piece(&slab)), PATIENCE).await;
            match reply {
                Ok(reply) => assert!(!damaged && reply.response == Response::Stored && reply.is_intact()),
                Err(ClientError::Refused { refusal, .. }) => {
                    assert!(damaged && refusal.code == RefusalCode::Damaged);
                }
                Err(error) => panic!("{error}"),
            }
        }
        // An answer of the wrong type is the handler's fault and ends that request alone.
        let prove = Request::Prove { blake3: [0; 32], sector_id: [0; 32], piece_offset: 0, s_bucket: 0 };
        let record = SlabPayload::run(slab.slice(..prove.payload_bytes()));
        let prove =
            Request::Prove { blake3: record.blake3(), sector_id: [0; 32], piece_offset: 0, s_bucket: 0 };
        let reply = client.request(prove, Some(record), PATIENCE).await.unwrap_err();
        let failed = |error: &ClientError| matches!(error, ClientError::Refused { refusal, .. } if refusal.code == RefusalCode::Failed);
        assert!(failed(&reply), "{reply}");
        get_piece(client, 1).await;
    });
}

/// More requests than the peer allows wait their turn; one slab is enough for any number of answers.
#[test]
fn little_memory_and_many_requests() {
    for plain in [false, true] {
        on_executor(64, move |local| async move {
            let keys = Keys::new(plain);
            let house = House::new(&local, &keys);
            let one = Pool::new(1, 8).unwrap();
            let client = client(house.client.peer(), keys.pin(), &one);
            let asked = (0..150u64).map(|at| {
                let client = &client;
                async move {
                    let (offset, length) = (at * 80, 1 + at as u32 * 1000);
                    let request = Request::GetSectorRange { staging: STAGING, phase: 64, offset, length };
                    let reply = client.request(request, None, PATIENCE).await.unwrap();
                    assert!(reply.is_intact());
                    assert_eq!(reply.payload.unwrap().into_payload().into_slab().phase(), 64);
                }
            });
            futures::future::join_all(asked).await;
        });
    }
}

#[test]
fn dropped_requests_are_taken_back() {
    on_executor(8, |local| async move {
        let house = House::new(&local, &Keys::new(false));
        let client = &house.client;
        let for_ever = client.request(Request::GetSectorMetadata { staging: STAGING }, None, PATIENCE);
        // The request is dropped with the statement, when its handler is at work.
        let is_waiting =
            matches!(select(pin!(for_ever), pin!(house.library.wait_for(1))).await, Either::Right(_));
        assert!(is_waiting);
        // The connection goes on, and behind this answer the cancel has arrived.
        get_piece(client, 1).await;
        assert_eq!(house.library.dropped.get(), 1);
    });
}

#[test]
fn requests_have_their_time() {
    on_executor(8, |local| async move {
        let house = House::new(&local, &Keys::new(false));
        let client = &house.client;
        get_piece(client, 1).await;
        let limit = Duration::from_millis(150);
        let request = Request::GetSectorMetadata { staging: STAGING };
        let error = client.request(request, None, limit).await.unwrap_err();
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
        get_piece(client, 1).await;
        assert_eq!(house.library.dropped.get(), 1);
    });
}

#[test]
fn a_leaving_server_finishes_what_it_has_begun() {
    on_executor(16, |local| async move {
        let House { client, serving, stop, library } = House::new(&local, &Keys::new(false));
        get_piece(&client, 0).await;
        let asking: Vec<_> = (0..8)
            .map(|index| {
                let client = client.clone();
                spawn_local(async move { get_piece(&client, index).await })
            })
            .collect();
        // The requests are on the wire before the server hears that it is to end.
        library.wait_for(9).await;
        drop(stop);
        for asked in asking {
            asked.await;
        }
        serving.await;
        let request = Request::GetItem { index: 0, kind: ItemKind::Piece };
        let error = client.request(request, None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. } | ClientError::Leaving { .. }), "{error}");
    });
}

/// A house whose server takes one request at a time.
fn one_at_a_time(local: &Local) -> House {
    let connection = Config { max_requests: 1, ..Config::new(Role::PlotServer, "server") };
    House::with(local, &Keys::new(true), connection)
}

/// The place of a request that was dropped is free when the peer's last frame for it has come, and not before.
#[test]
fn the_place_of_a_dropped_request_goes_to_the_next_one() {
    on_executor(8, |local| async move {
        let house = one_at_a_time(&local);
        let client = &house.client;
        let dropped = {
            let client = client.clone();
            let request = Request::GetSectorMetadata { staging: STAGING };
            spawn_local(async move { drop(client.request(request, None, PATIENCE).await) })
        };
        house.library.wait_for(1).await;
        let next = {
            let client = client.clone();
            spawn_local(async move { get_piece(&client, 1).await })
        };
        dropped.cancel().await;
        next.await;
    });
}

/// Whoever is woken and gone gives its turn to the next one.
#[test]
fn a_turn_that_nobody_takes_is_passed_on() {
    on_executor(8, |local| async move {
        let house = one_at_a_time(&local);
        let client = &house.client;
        get_piece(client, 0).await;
        let mut first = Box::pin(get_piece(client, 1));
        let mut second = Box::pin(get_piece(client, 2));
        let mut third = Box::pin(get_piece(client, 3));
        for waiting in [&mut first, &mut second, &mut third] {
            assert!(futures::poll!(waiting).is_pending());
        }
        // Its end wakes the second, which never gets to know.
        first.await;
        drop(second);
        third.await;
    });
}
