//! The prover of GPUs through the seam, on the kernels that the CPU runs: its proofs are those of the CPU's prover, whatever happens to the devices.
#![cfg(feature = "kernel-shim")]
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::await_holding_lock, reason = "what is awaited while a device pauses never waits for it")]

mod common;

use common::{piece, plan};
use consensus::CpuLevel;
use consensus::constants::RECORD_SIZE;
use consensus::kzg::{Kzg, insecure};
use consensus::sector::{Bitfield, DecodeError, ProvedChunk, RecordDecoder, RecordEncoder};
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use futures::executor::block_on;
use futures::{FutureExt, join};
use gpu::card::{CardProver, CardProverOptions};
use gpu::device::Device;
use gpu::device::shim::{Fault, ShimDevice, ShimOptions};
use gpu::{ProofRequest, ProveError, Prover};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stored record, a prover, and what the CPU proves of the record's first s-bucket.
struct Setting {
    stored: Vec<[u8; 32]>,
    bitfield: Bitfield,
    s_bucket: u16,
    expected: ProvedChunk,
    pool: Pool,
    prover: CardProver,
}

fn device() -> Arc<ShimDevice> {
    let options = ShimOptions { k: 20, schedule_seed: None, os_threads: 2, memory_bytes: 1 << 30 };
    Arc::new(ShimDevice::new(options).unwrap())
}

fn setting(devices: &[Arc<ShimDevice>], queue_limit: usize) -> Setting {
    let kzg = Arc::new(Kzg::from_parameters(&insecure::parameters()).unwrap());
    let (level, seed) = (CpuLevel::detect(), plan(1).sector_id().evaluation_seed(0));
    let mut stored = piece(1).view().record.to_vec();
    let bitfield = RecordEncoder::new(level).encode(&seed, &mut stored).unwrap();
    let s_bucket = bitfield.used().next().unwrap().0;
    let expected = RecordDecoder::new(level).prove(&seed, &stored, &bitfield, s_bucket, &kzg).unwrap();
    let pool = Pool::new(8, 8).unwrap();
    let options = CardProverOptions {
        devices: devices.iter().map(|device| (device.clone() as Arc<dyn Device>, None)).collect(),
        batch: 2,
        threads: ThreadWorkers::unbound(1),
        level,
        queue_limit,
        pool: pool.clone(),
    };
    let prover = CardProver::new(options, kzg).unwrap();
    Setting { stored, bitfield, s_bucket, expected, pool, prover }
}

impl Setting {
    fn request(&self, s_bucket: u16, deadline: Instant) -> ProofRequest {
        let mut slab = self.pool.try_acquire().unwrap().narrow(..RECORD_SIZE);
        slab.copy_from_slice(self.stored.as_flattened());
        let (seed, bitfield) = (plan(1).sector_id().evaluation_seed(0), self.bitfield.clone());
        ProofRequest { seed, record: slab.freeze(), bitfield, s_bucket, deadline }
    }

    fn first(&self) -> ProofRequest {
        self.request(self.s_bucket, in_minutes())
    }
}

fn in_minutes() -> Instant {
    Instant::now() + Duration::from_secs(300)
}

#[test]
fn requests_that_wait_together_are_proved_together_as_the_cpu_does() {
    let device = device();
    let setting = setting(std::slice::from_ref(&device), 4);
    let last = setting.bitfield.used().last().unwrap().0;
    block_on(async {
        let (first, second, other) = (setting.first(), setting.first(), setting.request(last, in_minutes()));
        let proved =
            join!(setting.prover.prove(first), setting.prover.prove(second), setting.prover.prove(other));
        assert_eq!(
            (proved.0.unwrap(), proved.1.unwrap()),
            (setting.expected.clone(), setting.expected.clone())
        );
        let other = proved.2.unwrap();
        let seed = plan(1).sector_id().evaluation_seed(0);
        assert!(consensus::pos::is_valid(&seed, last.into(), &other.proof_of_space));
    });
    let stats = setting.prover.stats();
    assert_eq!((stats.proved, stats.failed, stats.queued, setting.pool.stats().in_use), (3, 0, 0, 0));
    assert_eq!(stats.workers[0].jobs, 3);
    // Who asked hears the answer a moment before the job counts.
    while setting.prover.stats().workers[1].jobs < 3 {
        std::thread::yield_now();
    }
}

#[test]
fn late_surplus_and_abandoned_requests_are_dropped_and_counted() {
    let device = device();
    let setting = setting(std::slice::from_ref(&device), 2);
    block_on(async {
        let paused = device.pause();
        let mut working = setting.prover.prove(setting.first());
        assert_eq!((&mut working).now_or_never(), None);
        while setting.prover.stats().queued > 0 {
            std::thread::yield_now();
        }
        // The device is busy for longer than this deadline.
        let within = Instant::now() + Duration::from_millis(50);
        let mut late = setting.prover.prove(setting.request(setting.s_bucket, within));
        let mut abandoned = setting.prover.prove(setting.first());
        assert_eq!(((&mut late).now_or_never(), (&mut abandoned).now_or_never()), (None, None));
        assert_eq!(setting.prover.prove(setting.first()).await, Err(ProveError::Busy { limit: 2 }));
        drop(abandoned);
        assert_eq!((setting.pool.stats().in_use, setting.prover.stats().queued), (2, 1));
        std::thread::sleep(Duration::from_millis(60));
        drop(paused);
        assert_eq!(working.await.unwrap(), setting.expected);
        assert_eq!(late.await, Err(ProveError::Late));
        let hopeless = setting.prover.prove(setting.request(setting.s_bucket, Instant::now()));
        assert_eq!(hopeless.await, Err(ProveError::Late));
    });
    let stats = setting.prover.stats();
    assert_eq!((stats.proved, stats.late, stats.refused, stats.failed), (1, 2, 1, 0));
    assert_eq!(setting.pool.stats().in_use, 0);
}

#[test]
fn records_that_cannot_be_proved_are_errors() {
    let setting = setting(&[device()], 2);
    let error = |request| block_on(setting.prover.prove(request)).unwrap_err();
    let unused = (0..=u16::MAX).find(|s_bucket| !setting.bitfield.get(*s_bucket)).unwrap();
    let not_encoded = error(setting.request(unused, in_minutes()));
    assert_eq!(not_encoded, ProveError::Record(DecodeError::NotEncoded(unused)));
    let mut short = setting.first();
    short.record = short.record.slice(..RECORD_SIZE - 1);
    assert!(matches!(error(short), ProveError::Record(DecodeError::Length(_))));
    // An s-bucket without a proof, in place of one that has one: the device says so, and the CPU finds which.
    let mut without = setting.first();
    let mut bytes = *without.bitfield.as_bytes();
    let bit = |bytes: &mut [u8], s_bucket: u16| bytes[usize::from(s_bucket / 8)] ^= 1 << (s_bucket % 8);
    let second = without.bitfield.used().nth(1).unwrap().0;
    bit(&mut bytes, second);
    bit(&mut bytes, unused);
    without.bitfield = Bitfield::from_bytes(&bytes).unwrap();
    assert_eq!(error(without), ProveError::Record(DecodeError::NoProof(unused)));
    assert_eq!(setting.prover.stats().failed, 3);
}

#[test]
fn a_wrong_proof_is_found_out_and_the_cpu_goes_on() {
    let device = device();
    let setting = setting(std::slice::from_ref(&device), 2);
    // Results, and then the proof.
    device.inject(Fault::FlipBit { copy_out: 2, bit: 77 });
    assert_eq!(block_on(setting.prover.prove(setting.first())).unwrap(), setting.expected);
    assert_eq!(block_on(setting.prover.prove(setting.first())).unwrap(), setting.expected);
    let stats = setting.prover.stats();
    assert_eq!((stats.proved, setting.pool.stats().in_use), (2, 0));
}

#[test]
fn a_lost_device_loses_no_request() {
    let device = device();
    let setting = setting(std::slice::from_ref(&device), 2);
    device.inject(Fault::LoseAtLaunch(5));
    for _ in 0..2 {
        assert_eq!(block_on(setting.prover.prove(setting.first())).unwrap(), setting.expected);
    }
    let stats = setting.prover.stats();
    // The record of the request that was under way stays with the device, which never said that it is done with it.
    assert_eq!((stats.proved, stats.workers[0].jobs, setting.pool.stats().in_use), (2, 0, 1));
}
