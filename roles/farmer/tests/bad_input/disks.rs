//! Full disks, and limits on the size of files, which every user can set.

use crate::cluster::{self, info};
use crate::farm::{SECTORS, make};
use crate::loop_disk::LoopDisk;
use crate::process::{PATIENCE, Running, contents, farmer, member, refused};
use bus::SharedBus;
use bus::jobs::{Offered, PlotJobs};
use control::ids::{FarmId, InstanceId};
use control::messages::{
    ClusterInfo, Control, PlotJob, PlotPhase, PlotProgress, ProtocolInfo, SectorId, SlotInfo, subjects,
};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
/// Room for a farm of [`SECTORS`] sectors, and for little more.
const DISK_BYTES: u64 = 12 << 20;

/// A small file system of its own; none where mounting is not allowed.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"]).arg(dir.path());
        mount.stderr(Stdio::null());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        if !is_mounted {
            println!("skipped: this user may not mount a small file system");
        }
        is_mounted.then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap();
    }
}

fn plot_client(nats_url: &str, farm: &Path, sectors: u16) -> Command {
    let farm = format!("path={},sectors={sectors}", farm.display());
    member(nats_url, &["plot-client", "--reward-address", ADDRESS, &farm])
}

fn is_clean(farm: &Path) -> bool {
    farmer().args(["scrub", "--dry-run"]).arg(farm).status().unwrap().success()
}

#[tokio::test]
async fn a_farm_that_does_not_fit_leaves_the_one_there_as_it_is() {
    let Some(disk) = SmallDisk::new() else { return };
    let (farm, new) = (disk.0.path().join("farm"), disk.0.path().join("new"));
    make(&farm);
    let (nats, _bus) = cluster::start(&info()).await;
    for (path, sectors) in [(&farm, 500), (&new, 500)] {
        refused(
            plot_client(&nats.url(), path, sectors).arg("--exit-on-farm-error"),
            &["disk full", "smaller", path.to_str().unwrap()],
        );
    }
    assert!(is_clean(&farm));
    let mut client = Running::start(&mut plot_client(&nats.url(), &farm, SECTORS));
    client.hear(&["farm open"]);
    client.terminate();
    assert!(is_clean(&farm));
}

/// A slot in which nothing wins, so that farms read.
async fn announce(bus: &SharedBus, slot: u64) {
    let slot = SlotInfo {
        slot,
        global_challenge: *blake3::hash(&slot.to_le_bytes()).as_bytes(),
        solution_range: 1,
        voting_solution_range: 1,
        controller: InstanceId([1; 16]),
        announced_ms: slot * 1000,
    };
    bus.publish(subjects::SLOT, slot.to_bytes().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_pulled_out_and_put_in_again_is_farmed_again_and_none_is_made_meanwhile() {
    let images = tempfile::tempdir().unwrap();
    let Some(mut disk) = LoopDisk::on(images.path().join("disk")) else { return };
    let (mount, farm) = (disk.path().to_owned(), disk.path().join("farm"));
    make(&farm);
    let (nats, bus) = cluster::start(&info()).await;
    let mut client = Running::start(&mut plot_client(&nats.url(), &farm, SECTORS));
    client.hear(&["farm open", "plotted=2"]);
    let slots = tokio::spawn(async move {
        for slot in 1.. {
            announce(&bus, slot).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    disk.pull_out();
    let (client, lost) = tokio::task::spawn_blocking(move || {
        let lost = client.hear(&["this farm takes no part", "is closed, and opened again when it is there"]);
        client.hear(&["farm closed"]);
        client.hear(&["was open here and is not there", "is its disk mounted", "tried again in 10 s"]);
        (client, lost)
    })
    .await
    .unwrap();
    assert!(lost.contains("is not what is mounted there") || lost.contains("its disk is gone"), "{lost}");
    assert!(std::fs::read_dir(&mount).unwrap().next().is_none(), "nothing is made");
    disk.put_in();
    slots.abort();
    let mut client = client;
    client.hear(&["farm open", "plotted=2"]);
    client.terminate();
    assert!(is_clean(&farm));
}

#[tokio::test]
async fn a_cache_that_does_not_fit_says_so() {
    let Some(disk) = SmallDisk::new() else { return };
    let (nats, _bus) = cluster::start(&info()).await;
    let path = disk.0.path().join("cache");
    let line = |size: &str| format!("path={},size={size}", path.display());
    let mut cache = member(&nats.url(), &["sharded-cache", &line("1GB")]);
    refused(&mut cache, &["disk full", "items.bin", "smaller"]);
    let mut cache = Running::start(&mut member(&nats.url(), &["sharded-cache", &line("5MiB")]));
    cache.hear(&["the cache is open"]);
    cache.terminate();
}

/// As a file system does that has found errors on its disk.
#[tokio::test]
async fn a_cache_on_a_disk_that_takes_no_writes_says_so() {
    let Some(disk) = SmallDisk::new() else { return };
    let (nats, _bus) = cluster::start(&info()).await;
    let (path, new) = (disk.0.path().join("cache"), disk.0.path().join("new"));
    let cache =
        |path: &Path| member(&nats.url(), &["sharded-cache", &format!("path={},size=5MiB", path.display())]);
    let mut running = Running::start(&mut cache(&path));
    running.hear(&["the cache is open"]);
    running.terminate();
    let mut remount = Command::new("mount");
    assert!(remount.args(["-o", "remount,ro"]).arg(disk.0.path()).status().unwrap().success());
    let words = ["Read-only file system"];
    refused(&mut cache(&path), &[&words[..], &[path.to_str().unwrap()]].concat());
    refused(&mut cache(&new), &[&words[..], &[new.to_str().unwrap()]].concat());
}

/// Not even for the id of a cache.
#[tokio::test]
async fn a_cache_on_a_full_disk_says_so() {
    let Some(disk) = SmallDisk::new() else { return };
    let (nats, _bus) = cluster::start(&info()).await;
    let path = disk.0.path().join("cache");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(disk.0.path().join("others"), vec![1; DISK_BYTES as usize + 4096]).unwrap_err();
    for size in ["", ",size=5MiB"] {
        let line = format!("path={}{size}", path.display());
        let words = [path.to_str().unwrap(), "No space left on device", "has room"];
        refused(&mut member(&nats.url(), &["sharded-cache", &line]), &words);
    }
    assert!(!path.join("id").exists(), "half an id");
}

/// A chain whose sectors are larger than the disk.
fn large_sectors() -> ClusterInfo {
    let protocol_info = ProtocolInfo { max_pieces_in_sector: 20, ..info().protocol_info };
    ClusterInfo { protocol_info, ..info() }
}

fn job() -> PlotJob {
    let protocol_info = large_sectors().protocol_info;
    PlotJob {
        sector: SectorId { farm: FarmId([1; 16]), sector_index: 0, history_size: 1 },
        public_key: [7; 32],
        pieces_in_sector: protocol_info.max_pieces_in_sector,
        protocol_info,
        client: InstanceId([3; 16]),
        staged_on: None,
        attempt: 1,
        avoid: Vec::new(),
    }
}

#[tokio::test]
async fn a_plot_server_without_room_says_so_and_lets_the_job_go() {
    let Some(disk) = SmallDisk::new() else { return };
    let (nats, bus) = cluster::start(&large_sectors()).await;
    let base_path = disk.0.path().join("base");
    let mut server = Running::start(&mut member(
        &nats.url(),
        &["plot-server", "--cpu", "--threads", "1", base_path.to_str().unwrap()],
    ));
    let mut progress = bus.subscribe(subjects::PLOT_PROGRESS_OF_ALL).await.unwrap();
    let (jobs, job) = (PlotJobs::open(&*bus).await.unwrap(), job());
    assert_eq!(jobs.offer("default", &job).await.unwrap(), Offered::Queued);
    let failure = async {
        loop {
            let message = progress.next().await.unwrap();
            let told = PlotProgress::from_bytes(&message.payload).unwrap();
            if let PlotPhase::Failed { reason } = told.phase {
                return reason;
            }
            // The client is no member here, but it answers.
            let wanted = PlotProgress { phase: PlotPhase::Wanted, ..told };
            let subject = subjects::plot_answer(wanted.server);
            bus.publish(&subject, wanted.to_bytes().unwrap()).await.unwrap();
        }
    };
    let reason = tokio::time::timeout(PATIENCE, failure).await.unwrap();
    assert!(reason.contains("disk full") && reason.contains("base"), "{reason}");
    let offered = async {
        while jobs.offer("default", &job).await.unwrap() == Offered::AlreadyThere {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, offered).await.expect("the client may offer it to others");
    assert!(server.is_running());
    server.terminate();
    assert_eq!(contents(&base_path).len(), 1, "the lock");
}

/// No file may be longer than this child of the test allows.
fn short_files() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 2 << 20, rlim_max: 2 << 20 };
    // SAFETY: the structure lives through the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[tokio::test]
async fn a_limit_on_the_size_of_files_is_told() {
    let (folder, (nats, _bus)) = (tempfile::tempdir().unwrap(), cluster::start(&info()).await);
    let farm = folder.path().join("farm");
    let mut limited = plot_client(&nats.url(), &farm, SECTORS);
    // SAFETY: it makes system calls only; it neither allocates nor takes locks between fork and exec.
    unsafe { limited.pre_exec(short_files) };
    refused(&mut limited, &["plot.bin", "File too large", "ulimit -f"]);
    // What was begun is finished without the limit.
    let mut client = Running::start(&mut plot_client(&nats.url(), &farm, SECTORS));
    client.hear(&["farm open"]);
    client.terminate();
}
