//! A sector that is damaged while it is farmed.

use crate::farming::{announce, farm, take};
use crate::house::{Client, PATIENCE, cluster, kzg};
use crate::staging::{make, stage};
use bus::SharedBus;
use consensus::constants::contents_map_size;
use control::messages::{PlotJob, PlotPhase};
use engine::farm::PLOT_FILE;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Changes a bit of the only sector.
fn damage(farm: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(farm.join(PLOT_FILE)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Announces slots until the sector is ordered again.
async fn ordered_again(bus: &SharedBus, slots: &mut u64) -> PlotJob {
    let announcing = async {
        loop {
            announce(bus, *slots).await;
            *slots += 1;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    let again = tokio::select! {
        again = tokio::time::timeout(PATIENCE, take(bus, PATIENCE)) => again,
        () = announcing => unreachable!("slots go on"),
    };
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
