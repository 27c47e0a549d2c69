//! A full-size sector from a server that is killed half-way, finished by another.

use crate::house::{Keys, PATIENCE, client, fill, on_executor, spawn_server};
use engine::pool::SlabMut;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use transport::message::Request;
use transport::tcp::{Client, ClientError, Reply, ServerPin};
use transport::transfer::{Range, Received, SectorPlace, SectorTransfer};

/// PROTOCOL 5.3 with 1000 pieces.
const SECTOR_BYTES: u64 = 1_056_896_064;
const STAGING: [u8; 16] = [7; 16];
const WINDOW: usize = 8;

/// The third sector of a file.
fn place() -> SectorPlace {
    SectorPlace { file_offset: 2 * SECTOR_BYTES, sector_bytes: SECTOR_BYTES, content: [5; 32] }
}

async fn ask(client: &Client, range: Range) -> (Range, Result<Reply, ClientError>) {
    let Range { offset, length, phase, .. } = range;
    let request = Request::GetSectorRange { staging: STAGING, phase, offset, length };
    (range, client.request(request, None, PATIENCE).await)
}

/// Pulls until the sector is whole or the peer is gone. `half` hears once half is held.
async fn pull(
    client: &Client,
    transfer: &mut SectorTransfer,
    expected: &mut SlabMut,
    mut half: Option<mpsc::Sender<()>>,
) {
    let mut asked = FuturesUnordered::new();
    loop {
        while let Some(range) = transfer.next_range() {
            asked.push(ask(client, range));
        }
        let Some((range, reply)) = asked.next().await else { return };
        let Ok(reply) = reply else {
            transfer.failed(range.index);
            break;
        };
        let payload = reply.payload.unwrap();
        let hash = reply.response.blake3().unwrap();
        assert_eq!(transfer.received(range.index, &*payload, hash), Received::Write);
        let slab = payload.into_payload().into_slab();
        let expected = &mut expected[..range.length as usize];
        fill(expected, range.offset, 0);
        assert!(slab.phase() == usize::from(range.phase) && slab[..] == *expected, "{range:?}");
        transfer.written(range.index);
        let (held, all) = transfer.progress();
        if held * 2 >= all
            && let Some(half) = half.take()
        {
            half.send(()).unwrap();
        }
    }
    transfer.connection_lost();
}

fn pull_on(
    address: SocketAddr,
    pin: ServerPin,
    saved: Option<Vec<u8>>,
    half: Option<mpsc::Sender<()>>,
) -> Vec<u8> {
    on_executor(24, move |local| async move {
        let mut transfer = match saved {
            None => SectorTransfer::new(place(), WINDOW),
            Some(saved) => SectorTransfer::restore(place(), WINDOW, &saved).unwrap(),
        };
        let client = client(address, pin, local.pool());
        let mut expected = local.pool().acquire().await.unwrap();
        pull(&client, &mut transfer, &mut expected, half).await;
        let (held, all) = transfer.progress();
        assert_eq!(transfer.is_complete(), held == all);
        transfer.save()
    })
}

#[test]
fn sector_survives_the_death_of_its_server() {
    let keys = Keys::new(false);
    let sent: [Arc<AtomicU64>; 2] = Default::default();
    let (first, first_address) = spawn_server(keys.lock(), 24, sent[0].clone());
    let (second, second_address) = spawn_server(keys.lock(), 24, sent[1].clone());
    let (half, at_half) = mpsc::channel();
    let killer = std::thread::spawn(move || {
        at_half.recv().unwrap();
        drop(first);
    });
    let saved = pull_on(first_address, keys.pin(), None, Some(half));
    killer.join().unwrap();
    let interrupted = SectorTransfer::restore(place(), WINDOW, &saved).unwrap();
    assert!(!interrupted.is_complete() && interrupted.progress().0 > 200);

    let saved = pull_on(second_address, keys.pin(), Some(saved), None);
    assert!(SectorTransfer::restore(place(), WINDOW, &saved).unwrap().is_complete());
    second.shutdown(PATIENCE).unwrap();
    let sent: u64 = sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum();
    let twice = sent - SECTOR_BYTES;
    assert!(twice * 100 <= SECTOR_BYTES * 2, "{twice} bytes were sent twice");
}
