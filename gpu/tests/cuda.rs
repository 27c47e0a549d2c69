//! The way through a CUDA driver: a card, or the stand-in for one (`make kernels-test` sets its path), else there is nothing to test.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{bytes, expected, piece, plan, submit};
use consensus::CpuLevel;
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use futures::executor::block_on;
use futures::join;
use gpu::card::{Budget, CardEncoder, CardEncoderOptions, EncodingDevice, Wanted};
use gpu::device::cuda::{Card, CudaDevice, cards, driver_present, ptx};
use gpu::device::{Device, DeviceError};
use gpu::workbench::Workbench;
use gpu::{PieceError, SectorEncoder};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Set for the process in which the stand-in loses its card.
const LOSE: &str = "STAND_IN_LOSE_AT_LAUNCH";

/// The first card that can be used, for one test at a time: they look at its memory. One line, and none, where there is no driver.
fn card() -> Option<(Card, MutexGuard<'static, ()>)> {
    static TURN: Mutex<()> = Mutex::new(());
    if !driver_present() {
        println!("skipped: there is no libcuda");
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let card = cards().unwrap().into_iter().find(|card| card.check().is_ok());
    Some((card.expect("a card that can be used"), turn))
}

fn open(card: &Card) -> CudaDevice {
    CudaDevice::open(card, ptx::for_compute_capability(card.capability).unwrap()).unwrap()
}

/// An encoder of sectors of two pieces that compares every record with the CPU's.
fn encoder(card: &Card) -> (CardEncoder, Pool) {
    let device: Arc<dyn Device> = Arc::new(open(card));
    let wanted = Wanted { concurrency: Some(2), sessions: 1, pieces_in_sector: 2, piece_slabs: 1 };
    let budget = Budget::plan(device.layout(), device.memory().unwrap(), &wanted).unwrap();
    let memory_slabs = budget.slabs();
    let pool = Pool::new(memory_slabs, 64).unwrap();
    let options = CardEncoderOptions {
        devices: vec![EncodingDevice { device, budget, feeder: None }],
        pieces_in_sector: 2,
        threads: ThreadWorkers::unbound(1),
        level: CpuLevel::detect(),
        pool: pool.clone(),
        memory_slabs,
        check_every: 1,
    };
    (CardEncoder::new(options).unwrap(), pool)
}

#[test]
fn a_card_says_what_it_is() {
    let Some((card, _turn)) = card() else { return };
    assert!(card.multiprocessors > 0 && card.clock_mhz > 0 && card.memory_bytes > 0, "{card:?}");
    let device = open(&card);
    assert_eq!((device.name(), device.layout().k), (card.to_string().as_str(), 20));
    let memory = device.memory().unwrap();
    assert!(0 < memory.free_bytes && memory.free_bytes <= memory.total_bytes, "{memory:?}");
}

#[test]
fn memory_that_a_card_lacks_is_refused_and_what_it_gives_comes_back() {
    let Some((card, _turn)) = card() else { return };
    let device = open(&card);
    let before = device.memory().unwrap();
    let error = device.allocate(before.total_bytes + 1).err().unwrap();
    assert!(matches!(error, DeviceError::Memory { .. }), "{error}");
    let buffer = device.allocate(64 << 20).unwrap();
    assert!(device.memory().unwrap().free_bytes < before.free_bytes);
    drop(buffer);
    assert_eq!(device.memory().unwrap(), before);
}

#[test]
fn host_memory_is_registered_once_and_shared() {
    let Some((card, _turn)) = card() else { return };
    let device = open(&card);
    let pool = Pool::new(2, 0).unwrap();
    let (start, bytes) = pool.memory();
    // SAFETY: the pool outlives both handles.
    let register = || unsafe { device.register(start.as_ptr(), bytes) };
    let (first, second) = (register().unwrap(), register().unwrap());
    drop(first);
    let third = register().unwrap();
    drop((second, third));
    drop(register().unwrap());
}

#[test]
fn marks_tell_time() {
    let Some((card, _turn)) = card() else { return };
    let (device, other) = (open(&card), open(&card));
    let (stream, foreign) = (device.stream().unwrap(), other.stream().unwrap());
    let (before, foreign) = (stream.mark().unwrap(), foreign.mark().unwrap());
    Workbench::new(&device).unwrap().grow(&[1; 32]).unwrap();
    let after = stream.mark().unwrap();
    after.wait().unwrap();
    assert!(before.is_reached().unwrap() && after.milliseconds_since(&*before).unwrap() > 0.0);
    assert!(matches!(after.milliseconds_since(&*foreign), Err(DeviceError::Refused { .. })));
}

#[test]
fn a_sector_made_by_a_card_equals_that_of_consensus() {
    let Some((card, _turn)) = card() else { return };
    let (encoder, pool) = encoder(&card);
    let (plan, pieces) = (plan(2), [piece(0), piece(1)]);
    let (sector, metadata) = block_on(async {
        let session = encoder.begin(plan).await.unwrap();
        let into = (&*session, &pool);
        let submitted = join!(submit(into, 1, &pieces[1]), submit(into, 0, &pieces[0]));
        assert_eq!(submitted, (Ok(()), Ok(())));
        let mut sector = session.finish().await.unwrap();
        (bytes(&mut sector).await, sector.metadata().clone())
    });
    let expected = expected(&plan, &pieces);
    assert_eq!(metadata, expected.1);
    assert!(sector == expected.0, "the sectors differ");
}

/// In a process of its own, since a lost card is lost for all of it. A real card cannot be lost on demand.
#[test]
fn a_lost_card_ends_its_sector_and_nothing_more() {
    if std::env::var_os(LOSE).is_some() {
        return lose();
    }
    let Some((card, _turn)) = card() else { return };
    if !card.name.starts_with("Stand-in") {
        return println!("skipped: only the stand-in loses its card on demand");
    }
    let name = "a_lost_card_ends_its_sector_and_nothing_more";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).env(LOSE, "12").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("the card is lost"), "{text}");
}

fn lose() {
    let (card, _turn) = card().unwrap();
    let (encoder, pool) = encoder(&card);
    block_on(async {
        let session = encoder.begin(plan(2)).await.unwrap();
        let into = (&*session, &pool);
        let (first, second) = (piece(0), piece(1));
        let submitted = join!(submit(into, 0, &first), submit(into, 1, &second));
        assert_eq!(submitted.1, Err(PieceError::Dropped { piece_offset: 1 }), "{submitted:?}");
        assert!(encoder.begin(plan(2)).await.is_err());
    });
    println!("the card is lost");
}
