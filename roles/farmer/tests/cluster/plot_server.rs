//! `plot-server`.

use crate::nats_server::NatsServer;
use crate::process::{PATIENCE, Process, development_cluster, joined};
use bus::jobs::{Offered, PlotJobs};
use control::ids::{FarmId, InstanceId};
use control::messages::{Control, PlotJob, PlotPhase, PlotProgress, ProtocolInfo, Role, SectorId, subjects};
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

/// The operators' line: the job is taken, kept, and leaves the queue with the client's word.
#[tokio::test]
async fn it_takes_a_job_and_ends_it_when_the_client_has_the_sector() {
    let nats = NatsServer::start();
    let bus = development_cluster(&nats).await;
    let folder = tempdir().unwrap();
    let base_path = folder.path().join("base-path-0");
    let line = ["plot-server", "--cpu", "--priority-cache", "--listen-port", "0", "--threads", "1"];
    let process = Process::start(&nats, &[&line[..], &[base_path.to_str().unwrap()]].concat());
    let entry = joined(&bus, Role::PlotServer).await;
    assert_eq!((entry.capacity, &*entry.group), (2, "default"));
    let mut progress = bus.subscribe(subjects::PLOT_PROGRESS_OF_ALL).await.unwrap();
    let protocol_info = ProtocolInfo {
        history_size: 1,
        max_pieces_in_sector: 10,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };
    let job = PlotJob {
        sector: SectorId { farm: FarmId([1; 16]), sector_index: 0, history_size: 1 },
        public_key: [7; 32],
        pieces_in_sector: 2,
        protocol_info,
        client: InstanceId([3; 16]),
        staged_on: None,
        attempt: 1,
        avoid: Vec::new(),
    };
    let jobs = PlotJobs::open(&*bus).await.unwrap();
    assert_eq!(jobs.offer("default", &job).await.unwrap(), Offered::Queued);
    let message = tokio::time::timeout(PATIENCE, progress.next()).await.unwrap().unwrap();
    let told = PlotProgress::from_bytes(&message.payload).unwrap();
    // Nobody has pieces here.
    assert_eq!((told.server, &told.phase), (entry.id, &PlotPhase::Downloading { pieces: 0 }));
    let stored = PlotProgress { phase: PlotPhase::Stored, ..told };
    bus.publish(&subjects::plot_answer(entry.id), stored.to_bytes().unwrap()).await.unwrap();
    let gone = async {
        while jobs.offer("default", &job).await.unwrap() == Offered::AlreadyThere {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert!(process.terminate().success());
    assert_eq!(std::fs::read_dir(&base_path).unwrap().count(), 1, "the lock");
}

#[test]
fn a_base_path_that_cannot_be_used_is_named() {
    let nats = NatsServer::start();
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.args(["cluster", "--nats-server", &nats.url(), "plot-server", "--cpu"]).arg(&file);
    let output = command.env("CUDA_VISIBLE_DEVICES", "").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("must be a folder"), "{text}");
    // It has said before that it is the CPU that would encode.
    assert!(text.contains("encodes on the CPU; no GPU: "), "{text}");
}

#[test]
fn without_a_gpu_it_ends_with_a_line_that_tells_how_to_go_on() {
    let nats = NatsServer::start();
    let folder = tempdir().unwrap();
    let base_path = folder.path().join("base-path-0");
    for line in [&["plot-server"][..], &["plot-server", "--gpu", "0000:3b:00.0"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
        command.args(["cluster", "--nats-server", &nats.url()]).args(line).arg(&base_path);
        let output = command.env("CUDA_VISIBLE_DEVICES", "").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let last = text.lines().last().unwrap();
        assert!(!output.status.success() && last.starts_with("error: no GPU: "), "{text}");
        assert!(last.ends_with("; or plot on the CPU: --cpu"), "{text}");
        // With a driver it is the variable that hides them.
        let driver = gpu::device::cuda::driver_present();
        assert!(last.contains(if driver { "CUDA_VISIBLE_DEVICES" } else { "libcuda.so.1" }), "{text}");
        assert!(!base_path.exists());
    }
}
