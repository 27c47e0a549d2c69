//! Records made anew of real sectors: one piece each, encoded with the proofs of space of their farm's key. A table takes about half a second.

use super::bad_input::edit;
use super::refusing::on_refusing_disk;
use super::*;
use consensus::CpuLevel;
use consensus::piece::Piece;
use consensus::sector::RecordEncoder;

const RECORD_BYTES: u64 = 131_116;

fn record_at(sector: u64) -> u64 {
    1_048_576 + sector * RECORD_BYTES
}

/// A sector of one piece as a plot-server makes it.
fn encoded(farm: &Farm, encoder: &mut RecordEncoder, sector: u16, history_size: u64) -> Made {
    let mut piece = Piece::zeroed();
    let mut random = blake3::Hasher::new().update(&sector.to_le_bytes()).finalize_xof();
    // Their first byte is zero, so that they are scalars.
    piece.record_mut().iter_mut().for_each(|chunk| random.fill(&mut chunk[1..]));
    piece.set_commitment(&[3; 48]);
    piece.set_witness(&[4; 48]);
    let metadata = RecordMetadata::of(&piece.view());
    let mut record = piece.record_mut().to_vec();
    let seed = farm.sector_id(sector, history_size).evaluation_seed(0);
    let bitfield = encoder.encode(&seed, &mut record).unwrap();
    let record_metadata = vec![metadata];
    let assembler = SectorAssembler::new(vec![&record], vec![bitfield.clone()], &record_metadata);
    let (metadata, bytes) = (assembler.sector_metadata(sector, history_size), assembler.to_sector());
    Made { records: vec![record], map: ContentsMap::new(vec![bitfield]), record_metadata, bytes, metadata }
}

async fn scrubbed(disk: &Disk, pool: &Pool, dir: &Path, target: Target, dry_run: bool) -> ScrubReport {
    scrub(disk.clone(), scratch(pool), dir, options(target, dry_run), |_| ()).await.unwrap()
}

/// A farm of two such sectors and one of made-up contents, of different history sizes.
async fn plotted(disk: &Disk, pool: &Pool) -> (tempfile::TempDir, [Made; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let farm = open_clean(disk, pool, dir.path(), &config(1, 4)).await;
    let mut encoder = RecordEncoder::new(CpuLevel::current());
    let first = encoded(&farm, &mut encoder, 0, 7);
    let made = [first, Made::new(1, 1, 5, 1), encoded(&farm, &mut encoder, 2, 7)];
    for made in &made {
        made.plot(&farm).await;
    }
    (dir, made)
}

#[test]
fn damaged_records_of_whole_sectors_are_made_anew() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let metadata = || fs::read(dir.join(METADATA_FILE)).unwrap();
        let whole = metadata();
        // Of one the sizes are damaged, of the other all of it; the third is no sector that can be decoded.
        edit(dir, METADATA_FILE, record_at(0) + 1000, |byte| byte ^ 1);
        edit(dir, METADATA_FILE, record_at(1) + 1000, |byte| byte ^ 1);
        let mut damaged = metadata();
        damaged[record_at(2) as usize..record_at(3) as usize].fill(0xAB);
        fs::write(dir.join(METADATA_FILE), &damaged).unwrap();
        let plot = scrubbed(&disk, &pool, dir, Target::Plot, true).await;
        assert_eq!((plot.left.len(), plot.bad, plot.rebuilt), (3, vec![], vec![]));
        let plot = scrubbed(&disk, &pool, dir, Target::Plot, false).await;
        assert!(!plot.is_clean() && metadata() == damaged, "they are left to who can make them anew");
        // The history size of sector 2 stands in the wrong record of sector 0 alone.
        for dry_run in [true, false] {
            let report = scrubbed(&disk, &pool, dir, Target::Metadata, dry_run).await;
            assert_eq!(report.rebuilt, [0, 2]);
            assert_eq!(report.bad.iter().map(|bad| bad.0).collect::<Vec<_>>(), [1]);
            assert!(!report.is_clean() && (metadata() == damaged) == dry_run);
        }
        let clean = ScrubReport { sectors: 3, good: 2, expired: 1, ..ScrubReport::default() };
        assert_eq!(scrubbed(&disk, &pool, dir, Target::All, false).await, clean);
        let (first, third) = (record_at(0) as usize, record_at(2) as usize);
        assert!(metadata()[first..][..RECORD_BYTES as usize] == whole[first..][..RECORD_BYTES as usize]);
        assert!(metadata()[third..][..RECORD_BYTES as usize] == whole[third..][..RECORD_BYTES as usize]);
        let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
        made[0].check_in(&farm).await;
        made[2].check_in(&farm).await;
        assert_eq!(farm.status(1), SectorStatus::Expired);
        // One that an earlier run has marked, and nobody has plotted since.
        farm.mark_for_replotting(Class::Scrub, 2).await.unwrap();
        drop(farm);
        assert_eq!(scrubbed(&disk, &pool, dir, Target::All, false).await.rebuilt, [2]);
        made[2].check_in(&open_clean(&disk, &pool, dir, &config(1, 4)).await).await;
    });
}

#[test]
fn a_record_of_other_sizes_is_made_anew_and_one_of_a_damaged_sector_never() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let mut other = made[2].metadata.clone();
        other.s_bucket_sizes.rotate_right(1);
        let mut file = fs::read(dir.join(METADATA_FILE)).unwrap();
        file[record_at(2) as usize..record_at(3) as usize].copy_from_slice(&other.encode());
        fs::write(dir.join(METADATA_FILE), file).unwrap();
        // Of sector 0 the record metadata is damaged: map and chunks would do.
        edit(dir, METADATA_FILE, record_at(0) + 1000, |byte| byte ^ 1);
        edit(dir, PLOT_FILE, made[0].bytes.len() as u64 - 32 - 128, |byte| byte ^ 1);
        let report = scrubbed(&disk, &pool, dir, Target::Metadata, false).await;
        assert_eq!((report.rebuilt, report.good), (vec![2], 1));
        assert!(matches!(report.bad[..], [(0, SectorFault::Record(_))]), "{:?}", report.bad);
        let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
        made[2].check_in(&farm).await;
        assert_eq!(farm.status(0), SectorStatus::Expired);
    });
}

#[test]
fn an_open_farm_marks_no_whole_sector_for_its_record() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let metadata = || fs::read(dir.join(METADATA_FILE)).unwrap();
        let whole = metadata();
        for sector in 0..3 {
            edit(dir, METADATA_FILE, record_at(sector) + 1000, |byte| byte ^ 1);
        }
        let damaged = metadata();
        let all = [SectorStatus::Doubtful; 3];
        let (farm, report) = open(&disk, &pool, dir, &config(1, 4)).await.unwrap();
        assert_eq!((report.faults.len(), &farm.statuses()[..3]), (3, &all[..]));
        // What the disk does not give stays as it is, and so does what a killed process leaves.
        refusals.set(&[(PLOT_FILE, 500_000..500_001)]);
        assert!(matches!(farm.heal(Class::Scrub, 0).await, Err(SectorError::Io(_))));
        refusals.set(&[]);
        drop(farm);
        assert!(metadata() == damaged, "nothing was written");
        let (farm, _) = open(&disk, &pool, dir, &config(1, 4)).await.unwrap();
        assert_eq!(farm.statuses()[..3], all);
        assert_eq!(heal_all(&farm).await, [0, 2]);
        made[0].check_in(&farm).await;
        made[2].check_in(&farm).await;
        // No proofs of space decode the made-up one.
        assert_eq!(farm.status(1), SectorStatus::Expired);
        let unmarked =
            |bytes: &[u8]| [&bytes[..record_at(1) as usize], &bytes[record_at(2) as usize..]].concat();
        assert!(unmarked(&metadata()) == unmarked(&whole));
        assert_eq!(farm.heal(Class::Scrub, 0).await.unwrap(), None);
        drop(farm);
        open_clean(&disk, &pool, dir, &config(1, 4)).await;
    });
}

#[test]
fn a_record_that_is_damaged_while_its_sector_is_farmed_is_made_anew() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let config = config(1, 4);
        let opened = Farm::open_with(disk.clone(), scratch(&pool), dir, &config, AuditMemory::Lean);
        let (farm, _) = opened.await.unwrap();
        let whole = fs::read(dir.join(METADATA_FILE)).unwrap();
        edit(dir, METADATA_FILE, record_at(0) + 1000, |byte| byte ^ 1);
        edit(dir, METADATA_FILE, record_at(2) + 1000, |byte| byte ^ 1);
        edit(dir, PLOT_FILE, 2 * made[0].bytes.len() as u64 + 500_000, |byte| byte ^ 1);
        let found = farm.check_and_mend(Class::Scrub, 0, Depth::Map).await.unwrap();
        assert!(matches!(found, Some((SectorFault::Record(_), Mended::Rebuilt))), "{found:?}");
        made[0].check_in(&farm).await;
        assert!(
            fs::read(dir.join(METADATA_FILE)).unwrap()[..record_at(2) as usize]
                == whole[..record_at(2) as usize]
        );
        // Of the other the bytes are damaged, too.
        let found = farm.check_and_mend(Class::Scrub, 2, Depth::Map).await.unwrap();
        assert!(matches!(found, Some((SectorFault::Record(_), Mended::Marked))), "{found:?}");
        assert_eq!(farm.status(2), SectorStatus::Expired);
    });
}

#[test]
fn a_sector_that_is_written_while_it_is_looked_into_is_what_was_written() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        edit(dir.path(), METADATA_FILE, record_at(0) + 1000, |byte| byte ^ 1);
        let (farm, _) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        let other = Made::new(1, 0, 9, 3);
        let (healed, ()) = futures::join!(farm.heal(Class::Scrub, 0), other.plot(&farm));
        // By when it looks it is another sector, or was made anew before.
        assert!(matches!(healed, Err(SectorError::BeingWritten { .. }) | Ok(Some(_))), "{healed:?}");
        other.check_in(&farm).await;
        made[2].check_in(&farm).await;
        drop(farm);
        other.check_in(&open_clean(&disk, &pool, dir.path(), &config(1, 4)).await).await;
    });
}
