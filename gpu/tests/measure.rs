//! Measurements run on the kernels that the CPU runs: that they measure at all, not what comes out.
#![cfg(feature = "kernel-shim")]
#![allow(clippy::unwrap_used, reason = "tests")]

use consensus::CpuLevel;
use engine::threads::ThreadWorkers;
use gpu::card::{BudgetError, StartError};
use gpu::device::Device;
use gpu::device::shim::{Fault, ShimDevice, ShimOptions};
use gpu::measure::{MeasureError, SweepOptions, best, copies, stages, sweep};
use std::sync::Arc;

fn device(k: u32, memory_bytes: usize) -> Arc<dyn Device> {
    let options = ShimOptions { k, schedule_seed: None, os_threads: 2, memory_bytes };
    Arc::new(ShimDevice::new(options).unwrap())
}

/// Sectors of two pieces.
fn options() -> SweepOptions {
    SweepOptions { pieces_in_sector: 2, threads: ThreadWorkers::unbound(1), level: CpuLevel::detect() }
}

#[test]
fn a_sweep_encodes_sectors_and_leaves_out_what_does_not_fit() {
    let points = sweep(&device(20, 1 << 30), &[2, 100], 2, &options()).unwrap();
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].concurrency, points[0].records, best(&points)), (2, 2, 2));
    assert!(points[0].records_per_s > 0.001 && (0.0..1.0).contains(&points[0].idle_share));
}

#[test]
fn sweeps_that_cannot_be_say_why() {
    let error = sweep(&device(20, 256 << 20), &[4, 8], 2, &options()).unwrap_err();
    assert!(matches!(error, MeasureError::Budget { source: BudgetError::TooLittle { .. }, .. }), "{error}");
    assert!(matches!(sweep(&device(20, 1 << 30), &[], 2, &options()), Err(MeasureError::NoCounts)));
    let error = sweep(&device(17, 1 << 30), &[1], 2, &options()).unwrap_err();
    assert!(matches!(error, MeasureError::Start(StartError::Kernels { .. })), "{error}");
}

#[test]
fn every_stage_has_a_time() {
    let measured = stages(&device(16, 600 << 20), 2, 1).unwrap();
    let names: Vec<_> = measured.stages.iter().map(|stage| stage.name).collect();
    assert_eq!((measured.records, names.len(), names[3], names[13]), (2, 14, "table 1", "hash sector"));
    assert!(measured.stages.iter().all(|stage| stage.record_ms > 0.0), "{measured:?}");
    assert!(measured.table_ms > 0.0);
    // What does not fit is not tried.
    let layout = device(16, 600 << 20).layout().clone();
    let one = stages(&device(16, (256 << 20) + layout.slot_bytes + (4 << 20)), 8, 1).unwrap();
    assert_eq!(one.records, 1);
}

#[test]
fn copies_have_a_speed() {
    let measured = copies(&*device(16, 100 << 20)).unwrap();
    assert!(measured.registered && measured.up_gb_s > 0.01 && measured.down_gb_s > 0.01, "{measured:?}");
    let changed =
        ShimDevice::new(ShimOptions { k: 16, schedule_seed: None, os_threads: 1, memory_bytes: 100 << 20 });
    let changed = changed.unwrap();
    // The last of the copies is what is looked at.
    changed.inject(Fault::FlipBit { copy_out: 17, bit: 77 });
    let error = copies(&changed).unwrap_err();
    assert!(matches!(error, MeasureError::Wrong { .. }), "{error}");
}
