use super::*;
use std::os::unix::fs::FileExt;

/// Changes bytes of a file of a farm.
pub fn edit(dir: &Path, file: &str, at: u64, change: impl Fn(u8) -> u8) {
    let file = fs::File::options().read(true).write(true).open(dir.join(file)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[change(byte[0])], at).unwrap();
}

pub fn cut(dir: &Path, file: &str, bytes: u64) {
    fs::File::options().write(true).open(dir.join(file)).unwrap().set_len(bytes).unwrap();
}

/// A farm of three plotted sectors of one piece, closed again.
pub async fn plotted(disk: &Disk, pool: &Pool) -> (tempfile::TempDir, Vec<Made>) {
    let dir = tempfile::tempdir().unwrap();
    let made: Vec<_> = (0..3).map(|sector| Made::new(1, sector, 5, 1)).collect();
    let farm = open_clean(disk, pool, dir.path(), &config(1, 4)).await;
    for made in &made {
        made.plot(&farm).await;
    }
    (dir, made)
}

/// Opening must fail with a text that has all these parts, and change nothing.
async fn refused(disk: &Disk, pool: &Pool, dir: &Path, config: &FarmConfig, parts: &[&str]) {
    let contents = || {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = contents();
    let error = open(disk, pool, dir, config).await.err().expect("must be refused").to_string();
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    assert!(contents() == before, "a file has changed");
}

#[test]
fn farms_that_do_not_fit_are_refused() {
    on_disk(|disk, pool| async move {
        let (dir, _) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let other = FarmConfig { genesis_hash: [8; 32], ..config(1, 4) };
        let (ours, theirs) = ("09".repeat(32), "08".repeat(32));
        refused(&disk, &pool, dir, &other, &[INFO_FILE, &ours, &theirs, "right node"]).await;
        let fewer = FarmConfig { max_pieces_in_sector: 0, ..config(1, 4) };
        refused(&disk, &pool, dir, &fewer, &["1 pieces in a sector", "at most 0"]).await;
        let tiny = FarmConfig { size: FarmSize::Allocated(1 << 20), ..config(1, 4) };
        refused(&disk, &pool, dir, &tiny, &["size=1048576", "not one sector", "size=4250669"]).await;
        let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
        refused(&disk, &pool, dir, &config(1, 4), &[INFO_FILE, "already locked by a process"]).await;
        drop(farm);
        open_clean(&disk, &pool, dir, &config(1, 4)).await;
    });
}

#[test]
fn damaged_small_files_are_refused() {
    on_disk(|disk, pool| async move {
        let (dir, _) = plotted(&disk, &pool).await;
        let (dir, fits) = (dir.path(), config(1, 4));
        edit(dir, INFO_FILE, 20, |_| b'"');
        refused(&disk, &pool, dir, &fits, &[INFO_FILE, "damaged", "backup"]).await;
        fs::write(dir.join(INFO_FILE), b"").unwrap();
        refused(&disk, &pool, dir, &fits, &[INFO_FILE, "damaged"]).await;
        fs::remove_file(dir.join(INFO_FILE)).unwrap();
        refused(&disk, &pool, dir, &fits, &[INFO_FILE, "plot.bin is there"]).await;
    });
    on_disk(|disk, pool| async move {
        let (dir, _) = plotted(&disk, &pool).await;
        let (dir, fits) = (dir.path(), config(1, 4));
        let whole = fs::read(dir.join(IDENTITY_FILE)).unwrap();
        edit(dir, IDENTITY_FILE, 0, |byte| byte ^ 1);
        refused(&disk, &pool, dir, &fits, &[IDENTITY_FILE, "damaged", "backup"]).await;
        edit(dir, IDENTITY_FILE, 0, |byte| byte ^ 1);
        edit(dir, IDENTITY_FILE, 9, |byte| byte ^ 1);
        refused(&disk, &pool, dir, &fits, &[IDENTITY_FILE, "single_disk_farm.json", "backup"]).await;
        fs::write(dir.join(IDENTITY_FILE), &whole[..20]).unwrap();
        refused(&disk, &pool, dir, &fits, &[IDENTITY_FILE, "20 bytes"]).await;
        fs::remove_file(dir.join(IDENTITY_FILE)).unwrap();
        refused(&disk, &pool, dir, &fits, &[IDENTITY_FILE, "missing", "backup"]).await;
        fs::write(dir.join(IDENTITY_FILE), whole).unwrap();
        open_clean(&disk, &pool, dir, &fits).await;
    });
}

#[test]
fn hostile_info_files_are_errors() {
    let info = FarmInfo {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        genesis_hash: [1; 32],
        public_key: [2; 32],
        pieces_in_sector: 3,
        allocated_bytes: 10_000_000,
    };
    let json = String::from_utf8(info.to_json()).unwrap();
    assert_eq!(FarmInfo::from_json(json.as_bytes()), Ok(info));
    for (from, to) in [
        ("v0", "v1"),
        ("01ARZ", "O1ARZU"),
        ("0101", "01"),
        ("0101", "0x0101"),
        (":3,", ":0,"),
        (":3,", ":70000,"),
        (":3,", ":1001,"),
        ("10000000", "-1"),
        ("10000000", "10"),
        ("10000000", "18446744073709551615"),
    ] {
        let hostile = json.replacen(from, to, 1);
        assert!(FarmInfo::from_json(hostile.as_bytes()).is_err(), "{hostile}");
    }
}

#[test]
fn large_files_that_are_gone_are_refused() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let (dir, fits) = (dir.path(), config(1, 4));
        edit(dir, METADATA_FILE, 0, |_| 1);
        refused(&disk, &pool, dir, &fits, &[METADATA_FILE, "version 1", "version 0"]).await;
        edit(dir, METADATA_FILE, 0, |_| 0);
        for name in [METADATA_FILE, PLOT_FILE] {
            let aside = dir.join("aside");
            fs::rename(dir.join(name), &aside).unwrap();
            refused(&disk, &pool, dir, &fits, &[name, "missing", "backup"]).await;
            fs::write(dir.join(name), b"").unwrap();
            refused(&disk, &pool, dir, &fits, &[name, "empty", "backup"]).await;
            fs::rename(&aside, dir.join(name)).unwrap();
        }
        let farm = open_clean(&disk, &pool, dir, &fits).await;
        made[2].check_in(&farm).await;
        drop(farm);
        cut(dir, METADATA_FILE, 100);
        refused(&disk, &pool, dir, &fits, &[METADATA_FILE, "backup"]).await;
    });
}

#[test]
fn damaged_records_cost_their_own_sector_only() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let record = |sector: u64| 1_048_576 + sector * 131_116;
        edit(dir.path(), METADATA_FILE, record(1) + 70_000, |byte| byte ^ 4);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        let undecodable = RecordFault::Undecodable(consensus::sector::SectorMetadataError::Checksum);
        assert_eq!(report.faults, [(1, SectorFault::Record(undecodable))]);
        assert_eq!((farm.count(), farm.status(1)), (3, SectorStatus::Doubtful));
        made[0].check_in(&farm).await;
        made[2].check_in(&farm).await;
        // Its contents are made up: no history size is theirs.
        assert!(heal_all(&farm).await.is_empty());
        drop(farm);
        // It is put right on disk, as the network's farmer would read it.
        let file = fs::read(dir.path().join(METADATA_FILE)).unwrap();
        let mark = SectorMetadata::decode(&file[record(1) as usize..record(2) as usize]).unwrap();
        assert_eq!((mark.sector_index, mark.pieces_in_sector, mark.history_size), (1, 1, 1));
        assert!(mark.s_bucket_sizes.iter().all(|&size| size == 0));
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        made[1].plot(&farm).await;
        drop(farm);
        cut(dir.path(), METADATA_FILE, record(1) + 5);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        assert_eq!(report.faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [1, 2]);
        made[0].check_in(&farm).await;
        assert!(heal_all(&farm).await.is_empty());
        drop(farm);
        open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
    });
}

#[test]
fn a_wrong_count_is_put_right() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        edit(dir.path(), METADATA_FILE, 1, |_| 1);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        assert_eq!(report, OpenReport { adopted: vec![1, 2], ..OpenReport::default() });
        made[2].check_in(&farm).await;
        drop(farm);
        open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        edit(dir.path(), METADATA_FILE, 2, |_| 200);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        assert_eq!((farm.count(), report.faults.len(), report.faults[0].0), (4, 1, 3));
        assert!(report.dropped > 0);
        made[2].check_in(&farm).await;
    });
}

#[test]
fn a_cut_off_plot_loses_what_was_cut_off() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let bytes = made[0].bytes.len() as u64;
        cut(dir.path(), PLOT_FILE, 2 * bytes - 10);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        let file_bytes = 2 * bytes - 10;
        let cut_off = SectorFault::CutOff { file_bytes };
        assert_eq!(report.faults, [(1, cut_off.clone()), (2, cut_off)]);
        made[0].check_in(&farm).await;
        drop(farm);
        // The file has grown back; the sectors stay marked.
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        let (plotted, expired) = (SectorStatus::Plotted { history_size: 5 }, SectorStatus::Expired);
        assert_eq!(farm.statuses(), [plotted, expired, expired, SectorStatus::NotPlotted]);
        made[1].plot(&farm).await;
    });
}

#[test]
fn directories_that_cannot_be_written_are_told() {
    on_disk(|disk, pool| async move {
        let error = open(&disk, &pool, Path::new("/proc/farm"), &config(1, 4)).await.err().unwrap();
        assert!(error.to_string().starts_with("/proc/farm: cannot open"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        let error = open(&disk, &pool, &file, &config(1, 4)).await.err().unwrap();
        assert!(error.to_string().contains("/file"), "{error}");
    });
}

/// A small file system of its own; none where mounting is not allowed.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn new() -> Option<Self> {
        Self::of(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
    }

    pub fn of(kind: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(kind).arg(dir.path());
        mount.stderr(std::process::Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg(self.0.path()).status().unwrap();
    }
}
