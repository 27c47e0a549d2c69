//! Sectors made by GPUs, which are the kernels on the CPU here: the same bytes, and no sector lost with a device.

use crate::client::PATIENCE;
use crate::flow::{Server, cluster, library, until_empty};
use crate::pieces::expected;
use cluster::cards::OpenCard;
use cluster::plot_server::{Concurrency, Encoding, GpuOptions};
use control::messages::PlotPhase;
use gpu::device::shim::{Fault, ShimDevice, ShimOptions};
use std::sync::Arc;
use tempfile::tempdir;

/// Of a batch: it is under way, and not at its end.
const IN_A_BATCH: u64 = 9;

fn device() -> Arc<ShimDevice> {
    let options = ShimOptions { k: 20, schedule_seed: None, os_threads: 2, memory_bytes: 1 << 30 };
    Arc::new(ShimDevice::new(options).unwrap())
}

fn on(device: &Arc<ShimDevice>, concurrency: Concurrency, or_cpu: bool) -> Encoding {
    let card = OpenCard { device: device.clone(), pci_bus_id: None, feeder: None };
    let options = GpuOptions { concurrency, or_cpu, ..GpuOptions::default() };
    Encoding::on(Ok(vec![card]), options).unwrap()
}

#[tokio::test]
async fn a_sector_made_by_a_gpu_that_was_measured_is_that_of_the_cpu() {
    let (bus, mut client, folder, job) = cluster().await;
    let measured = Concurrency::Measured { counts: vec![1, 2], records: 1 };
    let server = Server::start_on(on(&device(), measured, false), &bus, folder.path(), library);
    let staged = client.hear_staged().await;
    let (sector, metadata) = client.pull(&staged).await;
    let expected = expected(&job);
    assert!(metadata == expected.1 && sector == expected.0, "other bytes than those of consensus");
    client.say(&staged, PlotPhase::Stored).await;
    until_empty(folder.path()).await;
    server.stop().await;
}

#[tokio::test]
async fn the_cpu_makes_the_sector_of_a_gpu_that_is_lost_if_it_may() {
    let (bus, mut client, folder, job) = cluster().await;
    let device = device();
    let server = Server::start_on(on(&device, Concurrency::Count(2), true), &bus, folder.path(), library);
    client.hear(|phase| matches!(phase, PlotPhase::Downloading { .. })).await;
    device.inject(Fault::LoseAtLaunch(IN_A_BATCH));
    client.hear(|phase| matches!(phase, PlotPhase::Failed { .. })).await;
    // Offered anew.
    client.until_done(&job).await;
    let staged = client.hear_staged().await;
    let (sector, metadata) = client.pull(&staged).await;
    let expected = expected(&job);
    assert!(metadata == expected.1 && sector == expected.0, "other bytes than those of consensus");
    client.say(&staged, PlotPhase::Stored).await;
    until_empty(folder.path()).await;
    server.stop().await;
}

#[tokio::test]
async fn without_leave_for_the_cpu_a_server_whose_gpus_are_lost_ends_and_others_have_the_job() {
    let (bus, mut client, folder, job) = cluster().await;
    let device = device();
    let server = Server::start_on(on(&device, Concurrency::Count(2), false), &bus, folder.path(), library);
    let lost = client.hear(|phase| matches!(phase, PlotPhase::Downloading { .. })).await.server;
    device.inject(Fault::LoseAtLaunch(IN_A_BATCH));
    let ended = tokio::time::timeout(PATIENCE, server.running).await.unwrap().unwrap();
    let text = ended.unwrap_err().to_string();
    assert!(text.contains("every GPU is out of service") && text.contains("--cpu"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the lock");
    let other = tempdir().unwrap();
    client.offer(&job).await;
    let server = Server::start(&bus, other.path(), library);
    let staged = client.hear_staged().await;
    assert!(staged.server != lost && client.pull(&staged).await.0 == expected(&job).0);
    client.say(&staged, PlotPhase::Stored).await;
    until_empty(other.path()).await;
    server.stop().await;
}
