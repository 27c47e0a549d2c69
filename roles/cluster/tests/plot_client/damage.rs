//! A sector that is damaged while it is farmed.

use crate::farming::{announce, farm, take};
use crate::fleet::{ask, until};
use crate::house::{Client, PATIENCE, REWARD_ADDRESS, cluster, host_config, kzg};
use crate::library::library;
use crate::staging::{make, stage};
use bus::SharedBus;
use cluster::plot_client::{Config, MemoryChoice};
use consensus::constants::{contents_map_size, sector_size};
use control::messages::{FarmStage, FarmsChange, PlotJob, PlotPhase, Role};
use engine::farm::{AuditMemory, METADATA_FILE, PLOT_FILE};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Changes a bit of the only sector.
fn damage(farm: &Path, at: u64) {
    flip(&farm.join(PLOT_FILE), at);
}

/// Changes a bit of the record of the only sector.
fn damage_record(farm: &Path) {
    flip(&farm.join(METADATA_FILE), 1_048_576 + 1000);
}

/// Changes a bit of each group of s-bucket sizes in the record of the only sector.
fn damage_record_throughout(farm: &Path) {
    (1000..131_000).step_by(100).for_each(|at| flip(&farm.join(METADATA_FILE), 1_048_576 + at));
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Announces slots until something has come.
async fn farming_until<T>(bus: &SharedBus, slots: &mut u64, comes: impl Future<Output = T>) -> T {
    let announcing = async {
        loop {
            announce(bus, *slots).await;
            *slots += 1;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    tokio::select! {
        came = comes => came,
        () = announcing => unreachable!("slots go on"),
    }
}

/// Announces slots until the sector is ordered again.
async fn ordered_again(bus: &SharedBus, slots: &mut u64) -> PlotJob {
    let again = farming_until(bus, slots, tokio::time::timeout(PATIENCE, take(bus, PATIENCE))).await;
    again.expect("it is ordered").unwrap()
}

#[tokio::test]
async fn a_sector_that_is_found_damaged_when_it_is_proved_is_plotted_again() {
    let (bus, kzg, dir) = (cluster().await, kzg(), tempfile::tempdir().unwrap());
    let client = Client::start(&bus, vec![farm(dir.path(), 1)]);
    let mut slots = 0;
    let mut job = take(&bus, PATIENCE).await.unwrap();
    // A bit of the contents map; one of a chunk, which no proof of its record survives.
    for (damaged, at) in (1..).zip([5000, contents_map_size(job.pieces_in_sector) as u64 + 1_000_001]) {
        let made = make(&job, &kzg);
        let checksum = *made.bytes.last_chunk().unwrap();
        assert_eq!(stage(&bus, &job, made, checksum, 0).await, PlotPhase::Stored);
        damage(dir.path(), at);
        let again = ordered_again(&bus, &mut slots).await;
        assert_eq!((again.sector, again.attempt), (job.sector, 1), "nobody is to blame");
        assert_eq!((client.counters.damaged.get(), client.counters.plotted.get()), (damaged, damaged));
        job = again;
    }
    client.stop().await;
}

async fn becomes(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn damaged_records_of_a_whole_sector_are_made_anew_and_a_scrub_finds_the_rest() {
    let (bus, kzg, dir) = (cluster().await, kzg(), tempfile::tempdir().unwrap());
    let start = || {
        let config = Config {
            host: host_config(Role::PlotClient),
            audit_memory: MemoryChoice::Of(AuditMemory::Lean),
            ..Config::new(vec![farm(dir.path(), 1)], REWARD_ADDRESS)
        };
        Client::with(&bus, config)
    };
    let metadata = || std::fs::read(dir.path().join(METADATA_FILE)).unwrap();
    let client = start();
    let job = take(&bus, PATIENCE).await.unwrap();
    let made = make(&job, &kzg);
    let checksum = *made.bytes.last_chunk().unwrap();
    assert_eq!(stage(&bus, &job, made, checksum, 0).await, PlotPhase::Stored);
    client.stop().await;
    let whole = metadata();

    // Damaged while nobody looked: it is made anew after the start, and nothing is ordered.
    damage_record(dir.path());
    let client = start();
    becomes("the record is made anew", || client.counters.mended.get() == 1).await;
    assert!(metadata() == whole);

    // Damaged under the eyes of the client: audits find that where they read the record, a scrub in any case, and then what is damaged in the sector itself.
    let path = dir.path().display().to_string();
    let order = |is_wanted| FarmsChange::Scrub { path: path.clone(), is_wanted };
    let told = until(&bus, |farms| matches!(farms, [(_, FarmStage::Farming)])).await;
    assert!(ask(&bus, &told[0], order(false)).await.unwrap_err().contains("not being scrubbed"));
    assert_eq!(told[0].farms[0].scrub, "");
    damage_record_throughout(dir.path());
    let mended = becomes("an audit finds it", || client.counters.mended.get() == 2);
    farming_until(&bus, &mut 0, mended).await;
    assert!(metadata() == whole);
    damage_record(dir.path());
    ask(&bus, &told[0], order(true)).await.unwrap();
    becomes("the scrub makes it anew", || client.counters.mended.get() == 3).await;
    assert!(metadata() == whole && client.counters.damaged.get() == 0);
    assert!(take(&bus, Duration::from_secs(1)).await.is_none(), "nothing is plotted again");
    damage(dir.path(), 1_000_000);
    let begun = async {
        // The one before may still be under way for a moment.
        while ask(&bus, &told[0], order(true)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
    let again = take(&bus, PATIENCE).await.unwrap();
    assert_eq!((again.sector, client.counters.damaged.get()), (job.sector, 1));
    let found = "ended: 1 of 1 sectors, 0 whole, 0 with a record made anew, 1 damaged and plotted again";
    let ended = async { while until(&bus, |farms| farms.len() == 1).await[0].farms[0].scrub != found {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("it says what it found");
    client.stop().await;
}

/// Zeroes a block of the only sector.
fn wipe_block(farm: &Path, block: u64) {
    let file = File::options().write(true).open(farm.join(PLOT_FILE)).unwrap();
    file.write_all_at(&[0; 4096], 4096 * block).unwrap();
}

/// Some forty seconds, most of which goes into proofs on the CPU and the making of the sector.
#[tokio::test]
async fn a_damaged_sector_is_rebuilt_of_its_pieces_and_farmed_on() {
    let (bus, kzg, dir) = (cluster().await, kzg(), tempfile::tempdir().unwrap());
    let client = Client::start(&bus, vec![farm(dir.path(), 1)]);
    let (counters, mut slots) = (client.counters.clone(), 0);
    let plot = || std::fs::read(dir.path().join(PLOT_FILE)).unwrap();
    let metadata = || std::fs::read(dir.path().join(METADATA_FILE)).unwrap();
    let job = take(&bus, PATIENCE).await.unwrap();
    let made = make(&job, &kzg);
    let checksum = *made.bytes.last_chunk().unwrap();
    assert_eq!(stage(&bus, &job, made, checksum, 0).await, PlotPhase::Stored);
    let cache = library(&bus, &job, &kzg, false).await;
    let whole = (plot(), metadata());
    let is_rebuilt = async |times| {
        becomes("it is rebuilt", || counters.rebuilt.get() == times || counters.damaged.get() > 0).await;
        assert!(counters.damaged.get() == 0 && (plot(), metadata()) == whole);
    };

    // Met when it is proved: a block of chunks; one of the contents map; the one in which that ends and chunks begin.
    for (times, block) in [(1, 200), (2, 2), (3, 4)] {
        wipe_block(dir.path(), block);
        farming_until(&bus, &mut slots, is_rebuilt(times)).await;
    }
    // Met by a scrub: a chunk, and the records' metadata.
    damage(dir.path(), contents_map_size(job.pieces_in_sector) as u64 + 1_000_001);
    let told = until(&bus, |farms| matches!(farms, [(_, FarmStage::Farming)])).await;
    let path = dir.path().display().to_string();
    ask(&bus, &told[0], FarmsChange::Scrub { path: path.clone(), is_wanted: true }).await.unwrap();
    is_rebuilt(4).await;
    let found =
        "ended: 1 of 1 sectors, 0 whole, 0 with a record made anew, 1 rebuilt of their pieces, 0 damaged";
    let ended = async { while until(&bus, |farms| farms.len() == 1).await[0].farms[0].scrub != found {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("it says what it found");
    damage(dir.path(), sector_size(job.pieces_in_sector) as u64 - 32 - 200);
    ask(&bus, &told[0], FarmsChange::Scrub { path, is_wanted: true }).await.unwrap();
    is_rebuilt(5).await;
    assert!(take(&bus, Duration::from_secs(1)).await.is_none(), "nothing is plotted again");

    // A cache that lies changes no byte: it is plotted again, as where there is none.
    cache.shutdown(Duration::from_secs(4)).await;
    let liar = library(&bus, &job, &kzg, true).await;
    wipe_block(dir.path(), 200);
    let damaged = plot();
    let again = ordered_again(&bus, &mut slots).await;
    assert_eq!((again.sector, counters.rebuilt.get(), counters.damaged.get()), (job.sector, 5, 1));
    assert!(plot() == damaged);
    liar.shutdown(Duration::from_secs(4)).await;
    client.stop().await;
}
