//! Time of a record over `GPU_CONCURRENCY`, on the first card that can be used. With feature `kernel-shim` and `BENCH_SHIM=1` the processor
//! runs the kernels, to see that the benchmark works: a minute and more, and no figures of a GPU.

use consensus::CpuLevel;
use consensus::constants::MAX_PIECES_IN_SECTOR;
use criterion::{BenchmarkId, Criterion, SamplingMode};
use engine::threads::ThreadWorkers;
use gpu::device::Device;
use gpu::device::cuda::{CudaDevice, cards, ptx};
use gpu::measure::{SweepOptions, sweep};
use std::sync::Arc;
use std::time::Duration;

/// What is measured, and how.
struct Plan {
    device: Arc<dyn Device>,
    counts: &'static [usize],
    options: SweepOptions,
}

fn plan(device: Arc<dyn Device>, counts: &'static [usize], pieces_in_sector: u16) -> Plan {
    let options =
        SweepOptions { pieces_in_sector, threads: ThreadWorkers::unbound(2), level: CpuLevel::detect() };
    Plan { device, counts, options }
}

/// The first card that can be used, or why there is none.
fn on_a_card() -> Result<Plan, String> {
    let cards = cards().map_err(|error| error.to_string())?;
    let card = cards.iter().find(|card| card.check().is_ok()).unwrap_or(&cards[0]);
    card.check().map_err(|error| error.to_string())?;
    let kernels = ptx::for_compute_capability(card.capability).ok_or("there are no kernels for this GPU")?;
    let device = CudaDevice::open(card, kernels).map_err(|error| error.to_string())?;
    Ok(plan(Arc::new(device), &[1, 2, 4, 8, 12, 16, 24, 32], MAX_PIECES_IN_SECTOR))
}

#[cfg(feature = "kernel-shim")]
fn on_the_shim() -> Option<Plan> {
    use gpu::device::shim::{ShimDevice, ShimOptions};
    std::env::var_os("BENCH_SHIM")?;
    let options = ShimOptions { k: 20, schedule_seed: None, os_threads: 2, memory_bytes: 1 << 30 };
    Some(plan(Arc::new(ShimDevice::new(options).expect("the options are good")), &[1, 2], 1))
}

#[cfg(not(feature = "kernel-shim"))]
fn on_the_shim() -> Option<Plan> {
    None
}

fn concurrency(criterion: &mut Criterion, plan: &Plan) {
    let mut group = criterion.benchmark_group(format!("GPU_CONCURRENCY, {}", plan.device.name()));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(10));
    // Without a throughput, which criterion would take for the x of its plot.
    for count in plan.counts {
        // The sweep itself warms up, and counts only then.
        group.bench_with_input(BenchmarkId::from_parameter(count), count, |bencher, &count| {
            bencher.iter_custom(|iterations| {
                let records = usize::try_from(iterations).expect("there are few iterations");
                let points = sweep(&plan.device, &[count], records, &plan.options).expect("the device works");
                Duration::from_secs_f64(iterations as f64 / points[0].records_per_s)
            });
        });
    }
    group.finish();
}

fn main() {
    match on_the_shim().map_or_else(on_a_card, Ok) {
        Ok(plan) => {
            let mut criterion = Criterion::default().configure_from_args();
            concurrency(&mut criterion, &plan);
            criterion.final_summary();
        }
        Err(reason) => println!("skipped: {reason}"),
    }
}
