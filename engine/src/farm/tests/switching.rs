//! A farm that goes back and forth between this program and the network's own farmer, whose part is played by `network_farmer.py`: written
//! from the format, not from this code.

use super::*;
use serde_json::Value;
use std::process::Command;

/// Room that a share of 1 % for a cache makes smaller by one sector.
const SECTORS: u16 = 101;
const HISTORY_SIZE: u64 = 5;

/// Runs the other farmer; what it says the farm has.
fn other(command: &str, dir: &Path, arguments: &[String]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/farm/tests/network_farmer.py");
    let mut python = Command::new("python3");
    python.args(["-I", "-B", script, command]).arg(dir).args(arguments);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn space(size_bytes: u64, cache_percent: u8) -> Vec<String> {
    [format!("--size={size_bytes}"), format!("--cache={cache_percent}")].to_vec()
}

/// Opens as a start of the other farmer with this size does, and tells which sectors are plotted.
fn other_opens(dir: &Path, size_bytes: u64, cache_percent: u8) -> (u64, Vec<u64>) {
    let told = other("open", dir, &space(size_bytes, cache_percent));
    let number = |value: &Value| value.as_u64().unwrap();
    let plotted = told["plotted"].as_array().unwrap();
    (number(&told["sectors"]), plotted.iter().map(|sector| number(&sector[0])).collect())
}

fn with_size(bytes: u64) -> FarmConfig {
    FarmConfig { size: FarmSize::Allocated(bytes), ..config(1, 1) }
}

/// A farm that the other farmer has made with two sectors, in caches too where it has any; and the sectors.
fn made_by_other(dir: &Path, size_bytes: u64, cache_percent: u8) -> Vec<Made> {
    let made: Vec<_> = (0..2).map(|sector| Made::new(1, sector, HISTORY_SIZE, 1)).collect();
    let entropy = [5; 32];
    let identity = consensus::identity::Identity::from_entropy(entropy);
    let mut arguments = space(size_bytes, cache_percent);
    arguments.extend([
        "--fill-caches".to_owned(),
        "--id=01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        format!("--genesis={}", hex::encode(GENESIS)),
        format!("--public-key={}", hex::encode(identity.public_key())),
        format!("--entropy={}", hex::encode(entropy)),
    ]);
    let files = tempfile::tempdir().unwrap();
    for made in &made {
        let (index, file) = (made.metadata.sector_index.to_string(), files.path().join("sector"));
        let file = file.with_extension(&index);
        fs::write(&file, &made.bytes).unwrap();
        let sector =
            ["--sector".to_owned(), index, HISTORY_SIZE.to_string(), file.to_str().unwrap().to_owned()];
        arguments.extend(sector);
    }
    let told = other("make", dir, &arguments);
    assert_eq!(told["count"], 2, "{told}");
    made
}

#[test]
fn the_other_farmer_hashes_right() {
    let dir = tempfile::tempdir().unwrap();
    for bytes in [0, 1, 64, 65, 1024, 1025, 3 * 1024 + 7, 100_000] {
        let (path, data) = (dir.path().join("data"), Made::new(1, 0, 1, 7).bytes);
        fs::write(&path, &data[..bytes]).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/farm/tests/network_farmer.py");
        let output = Command::new("python3").args(["-I", "-B", script, "hash"]).arg(&path).output().unwrap();
        let hash = blake3::hash(&data[..bytes]).to_hex();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), hash.as_str(), "{bytes} bytes");
    }
}

/// Made there, plotted further here, and back, several times: every sector stays, and what the other one cached.
fn back_and_forth(cache_percent: u8) {
    on_disk(move |disk, pool| async move {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("farm");
        let size_bytes = size_for_network(1, SECTORS, cache_percent);
        let mut made = made_by_other(&dir, size_bytes, cache_percent);
        let piece_cache = fs::read(dir.join(PIECE_CACHE_FILE)).ok();
        assert_eq!(piece_cache.is_some(), cache_percent > 0);
        let metadata = fs::read(dir.join(METADATA_FILE)).unwrap();
        // The last sector is the one that another share of the cache would cut off.
        for sector in [2, 3, SECTORS - 1] {
            let farm = open_clean(&disk, &pool, &dir, &with_size(size_bytes)).await;
            assert_eq!((farm.layout().sectors(), farm.info().allocated_bytes), (SECTORS, size_bytes));
            for made in &made {
                made.check_in(&farm).await;
            }
            let survey = Survey::of(&dir).unwrap();
            assert_eq!(survey.plot_cache.valid, 1, "{survey:?}");
            assert_eq!(survey.piece_cache.valid, u64::from(cache_percent > 0), "{survey:?}");
            made.push(Made::new(1, sector, HISTORY_SIZE, 1));
            made.last().unwrap().plot(&farm).await;
            drop(farm);
            let sectors = made.iter().map(|made| u64::from(made.metadata.sector_index)).collect();
            assert_eq!(other_opens(&dir, size_bytes, cache_percent), (SECTORS.into(), sectors));
        }
        assert_eq!(Survey::of(&dir).unwrap().plot_cache.valid, 0, "a sector is plotted in its place");
        let report =
            scrub(disk.clone(), scratch(&pool), &dir, options(Target::All, false), |_| ()).await.unwrap();
        assert!(report.is_clean() && report.good == 5, "{report:?}");
        assert!(fs::read(dir.join(PIECE_CACHE_FILE)).ok() == piece_cache);
        let records = 1_048_576..1_048_576 + 2 * 131_116;
        assert!(
            fs::read(dir.join(METADATA_FILE)).unwrap()[records.clone()] == metadata[records],
            "their records"
        );
    });
}

#[test]
fn a_farm_without_a_piece_cache_goes_back_and_forth() {
    back_and_forth(0);
}

#[test]
fn a_farm_with_a_piece_cache_goes_back_and_forth() {
    back_and_forth(1);
}

#[test]
fn a_farm_of_ours_is_given_to_the_other_farmer_with_the_sizes_that_info_tells() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let last = Made::new(1, SECTORS - 1, HISTORY_SIZE, 1);
        let farm = open_clean(&disk, &pool, dir, &config(1, SECTORS)).await;
        last.plot(&farm).await;
        let noted_bytes = farm.info().allocated_bytes;
        drop(farm);
        for cache_percent in [1, 0, 10] {
            let size_bytes = size_for_network(1, SECTORS, cache_percent);
            assert_eq!(other_opens(dir, size_bytes, cache_percent), (SECTORS.into(), [100].into()));
            // It noted its size; either is understood.
            for config in [with_size(size_bytes), config(1, SECTORS)] {
                let farm = open_clean(&disk, &pool, dir, &config).await;
                assert_eq!((farm.layout().sectors(), farm.info().allocated_bytes), (SECTORS, size_bytes));
                last.check_in(&farm).await;
            }
        }
        // With less it cuts, as `info` warns.
        assert_eq!(other_opens(dir, noted_bytes, 1), (99, vec![]));
    });
}
