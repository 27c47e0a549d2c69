//! `benchmark audit`, `prove` and `disk` as an operator runs them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../shared_tests/plotted.rs"]
mod plotted;

use consensus::CpuLevel;
use consensus::constants::RECORD_CHUNKS;
use consensus::sector::{Bitfield, RecordEncoder, RecordMetadata, SectorAssembler};
use engine::farm::{Farm, INFO_FILE};
use engine::pool::Pool;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

/// Sectors that the farm has room for, of a piece each; the last one is not plotted.
const SECTORS: u16 = 3;

/// What a sector's only record is made of.
#[derive(Clone, Copy)]
enum Record {
    /// Anything: good enough for audits.
    MadeUp,
    /// Encoded with the seed of its place, so that it can be proved.
    Encoded,
}

fn make_farm(dir: &Path, record: Record) {
    plotted::make(dir, plotted::config([1; 32], 1, SECTORS), async move |farm, pool| {
        for sector in 0..SECTORS - 1 {
            plot(farm, pool, sector, record).await;
        }
    });
}

async fn plot(farm: &Farm, pool: &Pool, sector: u16, record: Record) {
    let mut chunks: Vec<_> =
        (0..RECORD_CHUNKS).map(|chunk| [0, chunk as u8].repeat(16).try_into().unwrap()).collect();
    let mut bitfield = Bitfield::default();
    match record {
        Record::MadeUp => (0..RECORD_CHUNKS as u16).for_each(|chunk| bitfield.set(2 * chunk)),
        Record::Encoded => {
            let seed = farm.sector_id(sector, 1).evaluation_seed(0);
            chunks.iter_mut().for_each(|chunk: &mut [u8; 32]| chunk[0] = 0);
            bitfield = RecordEncoder::new(CpuLevel::current()).encode(&seed, &mut chunks).unwrap();
        }
    }
    let metadata = [RecordMetadata { commitment: [1; 48], witness: [2; 48], piece_hash: [3; 32] }];
    let assembler = SectorAssembler::new(vec![&chunks[..]], vec![bitfield], &metadata);
    plotted::store(farm, pool, sector, assembler).await;
}

/// Every file of a directory: its bytes' hash, and when it was changed.
fn files(dir: &Path) -> BTreeMap<String, (blake3::Hash, SystemTime)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let about = |entry: fs::DirEntry| {
        let hash = blake3::hash(&fs::read(entry.path()).unwrap());
        (entry.file_name().into_string().unwrap(), (hash, entry.metadata().unwrap().modified().unwrap()))
    };
    entries.map(about).collect()
}

fn command(arguments: &[&str], paths: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.env("RUST_LOG", "info").arg("benchmark").args(arguments).args(paths);
    command
}

fn benchmark(arguments: &[&str], paths: &[&Path]) -> Output {
    command(arguments, paths).output().unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// The lines of JSON.
fn reports(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Panics unless each is a number above zero.
fn check_above_zero(report: &Value, names: &[&str]) {
    for name in names {
        assert!(report[name].as_f64().is_some_and(|number| number > 0.0), "{name} of {report}");
    }
}

#[test]
fn audits_have_all_figures_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (farm, missing) = (dir.path().join("farm"), dir.path().join("missing"));
    make_farm(&farm, Record::MadeUp);
    let before = files(&farm);
    let output = benchmark(&["audit", "--json", "--slots", "20", "--depths", "8,1"], &[&farm, &missing]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("missing: ") && text.contains("1 of 2 farms have no figures"), "{text}");
    let reports = reports(&output);
    let [report] = &reports[..] else { panic!("{text}") };
    assert_eq!((&report["plotted_sectors"], &report["in_use"]), (&2.into(), &false.into()), "{text}");
    let ways = report["ways"].as_array().unwrap();
    let named: Vec<_> =
        ways.iter().map(|way| (way["way"].as_str().unwrap(), way["depth"].as_u64().unwrap())).collect();
    assert_eq!(named, [("direct", 1), ("direct", 8), ("page cache", 1), ("page cache", 8)]);
    for way in ways {
        assert_eq!(
            (&way["slots"], &way["unread_sectors"], &way["missed_slots"]),
            (&20.into(), &0.into(), &0.into()),
            "{way}"
        );
        check_above_zero(
            way,
            &["p50_ms", "p99_ms", "max_ms", "sectors_per_s", "sectors_in_100_ms", "sectors_in_1000_ms"],
        );
        // Of 40 s-buckets half hold a chunk, each in one block.
        check_above_zero(
            way,
            &["reads_per_s", "read_mib_per_s", "chunks_per_s", "of_one_at_a_time_keyed_hash"],
        );
        assert_eq!(way["read_bytes"].as_u64().unwrap(), 4096 * way["reads"].as_u64().unwrap());
    }
    assert!(
        ways.iter().any(|way| way["way"] == report["best"]["way"] && way["depth"] == report["best"]["depth"])
    );
    assert_eq!(files(&farm), before);
}

#[test]
fn a_farm_in_use_is_measured_and_called_so() {
    let dir = tempfile::tempdir().unwrap();
    make_farm(dir.path(), Record::MadeUp);
    let lock = File::open(dir.path().join(INFO_FILE)).unwrap();
    lock.lock().unwrap();
    let before = files(dir.path());
    let audit =
        benchmark(&["audit", "--slots", "2", "--depths", "4", "--while-writing", "4MiB"], &[dir.path()]);
    let (said, status) = (text(&audit), audit.status);
    assert!(status.success(), "{said}");
    for part in
        ["in use by another process", "best: ", "direct, while written", "times that of the idle disk"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(files(dir.path()), before, "what is written beside has no name, and is gone");
    drop(lock);
    let paced = benchmark(
        &["audit", "--slots", "3", "--slot-ms", "20", "--as-sectors", "5", "--depths", "4", "--json"],
        &[dir.path()],
    );
    let report = &reports(&paced)[0];
    let slots = |way: &Value| way["slots"].as_u64().unwrap() + way["missed_slots"].as_u64().unwrap();
    // So many in each, and no more, whatever the farm holds.
    let is_exact = |way: &Value| way["sectors"].as_u64().unwrap() == 5 * way["slots"].as_u64().unwrap();
    let ways = report["ways"].as_array().unwrap();
    assert!(ways.iter().all(|way| slots(way) >= 3 && is_exact(way)), "{report}");
    assert_eq!(report["in_use"], Value::from(false));
}

/// Two records are encoded, and three proofs made: some seconds.
#[test]
fn proofs_have_all_figures_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (farm, missing) = (dir.path().join("farm"), dir.path().join("missing"));
    make_farm(&farm, Record::Encoded);
    let before = files(&farm);
    let output = benchmark(&["prove", "--json", "--records", "3"], &[&missing, &farm]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("missing: ") && text.contains("1 of 2 farms have no figures"), "{text}");
    let report = &reports(&output)[0];
    assert_eq!(
        (&report["proofs"], &report["errors"], &report["records"]),
        (&3.into(), &0.into(), &3.into()),
        "{text}"
    );
    check_above_zero(
        report,
        &["read_us", "mb_per_s", "map_p50_ms", "proof_p50_ms", "proof_max_ms", "farming_timeout_ms"],
    );
    let ways = report["ways"].as_array().unwrap();
    assert_eq!(ways.len(), 3);
    for way in ways {
        check_above_zero(
            way,
            &["p50_ms", "max_ms", "reads_a_record", "read_bytes_a_record", "total_p50_ms", "total_max_ms"],
        );
        // A sector of one piece is its record, and the whole of it is a mebibyte in either way.
        assert!(way["read_bytes_a_record"].as_u64().unwrap().abs_diff(1 << 20) <= 8192, "{way}");
    }
    assert!(ways[..2].iter().any(|way| way["way"] == report["best"]), "{text}");
    assert_eq!(files(&farm), before);
}

#[test]
fn disks_have_all_figures_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (farm, file, drawing) =
        (dir.path().join("farm"), dir.path().join("file"), dir.path().join("drawing.svg"));
    make_farm(&farm, Record::MadeUp);
    fs::write(&file, vec![7; 1 << 20]).unwrap();
    File::open(&file).unwrap().sync_all().unwrap();
    let before = files(&farm);
    let quick = ["disk", "--json", "--seconds", "1", "--depths", "1,8", "--threads", "2", "--svg"];
    let arguments = [&quick[..], &[drawing.to_str().unwrap()]].concat();
    let output = benchmark(&arguments, &[&farm, &file]);
    assert!(output.status.success(), "{}", text(&output));
    let report = &reports(&output)[0];
    for (path, sparse) in report["paths"].as_array().unwrap().iter().zip([true, false]) {
        // The farm's last sector was never written.
        assert_eq!(
            (&path["sparse"], &path["read_bytes"]),
            (&sparse.into(), &if sparse { 4096 } else { 20_480 }.into()),
            "{path}"
        );
        check_above_zero(path, &["recommended_depth", "file_bytes", "data_bytes"]);
        assert_eq!(path["carries"].as_array().unwrap().len(), 3);
        assert!(path["carries"][2]["sectors"].as_u64().unwrap() > 0, "{path}");
        for point in path["depths"].as_array().unwrap() {
            check_above_zero(
                point,
                &["reads_per_s", "slow_reads_per_s", "mib_per_s", "p50_ms", "p99_ms", "max_ms"],
            );
        }
    }
    check_above_zero(&report["together"][1], &["reads_per_s", "of_each_alone", "p99_ms"]);
    let drawn = fs::read_to_string(&drawing).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.matches("<polyline").count() == 9, "{drawn}");
    assert_eq!(files(&farm), before);
}

#[test]
fn paths_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, holes) = (dir.path().join("missing"), dir.path().join("holes"));
    File::create(&holes).unwrap().set_len(1 << 20).unwrap();
    let output = benchmark(&["disk", "--seconds", "1", "--depths", "1"], &[&missing, &holes, dir.path()]);
    let text = text(&output);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{text}");
    for said in [
        "missing: No such file",
        "holes: nothing is written in it yet",
        "there is no plot.bin here",
        "3 paths have no figures",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    for wrong in [
        &["disk"][..],
        &["audit"],
        &["disk", "--depths", "0", "."],
        &["disk", "--read-bytes", "100", "."],
        &["audit", "--slots", "0", "."],
    ] {
        assert_eq!(benchmark(wrong, &[]).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn an_interrupt_ends_it_at_once_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&["disk", "--file-gib", "1", "--seconds", "3600"], &[dir.path()]);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(running.stderr.take().unwrap()).lines();
    let told = lines.map_while(Result::ok).find(|line| line.contains("a file of 1024 MiB is written"));
    assert!(told.is_some());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    let pid = rustix::process::Pid::from_child(&running);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!running.wait().unwrap().success());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
