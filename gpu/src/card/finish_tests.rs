//! Sectors of several windows, of records that nobody encoded: only `assemble` and `hash_spans` run, which is quick.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::access::Access;
use super::super::area::Area;
use super::super::budget::{Budget, Wanted};
use super::super::card::Card;
use super::super::pipeline::Module;
use super::super::place::Place;
use super::super::rooms::Rooms;
use super::*;
use crate::FinishedSector;
use crate::device::Device;
use crate::device::shim::{ShimDevice, ShimOptions};
use crate::meter::Meter;
use crate::queue::Queue;
use consensus::constants::{RECORD_CHUNKS, sector_size};
use consensus::sector::{Bitfield, RecordMetadata, SectorAssembler};
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use futures::executor::block_on;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Three windows, the last of which has chunks, metadata and an incomplete span.
const PIECES: u16 = 34;

fn card() -> Arc<Card> {
    let options = ShimOptions { k: 16, schedule_seed: Some(7), os_threads: 2, memory_bytes: 1 << 30 };
    let device: Arc<dyn Device> = Arc::new(ShimDevice::new(options).unwrap());
    let wanted = Wanted { concurrency: Some(1), sessions: 1, pieces_in_sector: PIECES, piece_slabs: 1 };
    let budget = Budget::plan(device.layout(), device.memory().unwrap(), &wanted).unwrap();
    let own = Pool::new(2, 0).unwrap();
    let area = Area::new(&*device, PIECES, own.try_acquire().unwrap()).unwrap();
    let access = Mutex::new(Access::new(&*device, own.try_acquire().unwrap()).unwrap());
    Arc::new(Card {
        number: 0,
        module: Module::new(device).unwrap(),
        budget,
        queue: Arc::new(Queue::new(1)),
        meter: Meter::default(),
        access,
        rooms: Rooms::new(vec![vec![area]]),
        in_service: AtomicBool::new(true),
        sectors: AtomicU64::new(0),
    })
}

/// A record of pseudo-random chunks; every fifth one has too few encoded chunks.
fn record(number: u16) -> (Vec<[u8; 32]>, Bitfield, RecordMetadata) {
    let mut random = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    let mut chunks = vec![[0; 32]; RECORD_CHUNKS];
    chunks.iter_mut().for_each(|chunk| random.fill(chunk));
    let mut bits = [0; 8192];
    random.fill(&mut bits);
    let random = Bitfield::from_bytes(&bits.map(|byte| byte & 0x77)).unwrap();
    let mut bitfield = Bitfield::default();
    let wanted = if number.is_multiple_of(5) { 9_000 } else { RECORD_CHUNKS };
    (0..=u16::MAX)
        .filter(|s_bucket| !random.get(*s_bucket))
        .take(wanted)
        .for_each(|s_bucket| bitfield.set(s_bucket));
    let metadata = RecordMetadata { commitment: [number as u8; 48], witness: [1; 48], piece_hash: [2; 32] };
    (chunks, bitfield, metadata)
}

#[test]
fn sectors_of_several_windows_equal_those_of_consensus() {
    let card = card();
    let plan = SectorPlan { public_key: [5; 32], sector_index: 2, history_size: 9, pieces_in_sector: PIECES };
    let lease = Arc::new(block_on(card.rooms.lease()).ok().unwrap());
    let records: Vec<_> = (0..PIECES).map(record).collect();
    let encoded: Vec<_> = (0..)
        .zip(&records)
        .map(|(offset, (chunks, bitfield, metadata))| {
            let room = Place::new(lease.clone(), offset);
            card.access.lock().unwrap().write(&room, chunks, bitfield).unwrap();
            assert!(card.access.lock().unwrap().read(&room).unwrap() == *chunks);
            EncodedRecord { room, bitfield: bitfield.clone(), metadata: *metadata }
        })
        .collect();
    let metadata: Vec<_> = records.iter().map(|(_, _, metadata)| *metadata).collect();
    let chunks = records.iter().map(|(chunks, _, _)| &chunks[..]).collect();
    let bitfields = records.iter().map(|(_, bitfield, _)| bitfield.clone()).collect();
    let assembler = SectorAssembler::new(chunks, bitfields, &metadata);

    let pool = Pool::new(4, 1).unwrap();
    let make = move |output: &mut Output| put_together(&card, &lease, plan, &encoded, output);
    block_on(async {
        let mut sector = FinishedSector::start(&ThreadWorkers::unbound(1), &pool, make).await.unwrap();
        assert_eq!(*sector.metadata(), assembler.sector_metadata(2, 9));
        let (expected, mut taken) = (assembler.to_sector(), 0);
        while let Some(slab) = sector.next().await {
            let slab = slab.unwrap();
            assert!(expected[taken..][..slab.len()] == slab[..], "bytes {taken}..{}", taken + slab.len());
            taken += slab.len();
        }
        assert_eq!(taken, sector_size(PIECES));
        assert_eq!(sector.checksum().unwrap()[..], expected[taken - 32..]);
    });
}
