//! What was read and is wrong: whatever byte it is, the sector is found out and marked, and nothing panics.

use super::bad_input::{edit, plotted};
use super::*;
use crate::power::Rng;

const RECORD_BYTES: u64 = 131_116;

/// Reads all that farming reads of a sector; what comes of it is no matter, but that it comes.
async fn read_all(farm: &Farm, pool: &Pool, sector: u16) {
    for s_bucket in (0..=u16::MAX).step_by(9_001) {
        let buf = pool.acquire().await.unwrap().narrow(..s_bucket_buf_bytes(1));
        let _ = farm.read_s_bucket(sector, s_bucket, buf).await;
    }
    let _ = farm.read_contents_map(Class::ProofRead, sector).await;
    let _ = farm.read_record(Class::ProofRead, sector, 0).await;
    let _ = farm.read_record_metadata(Class::ProofRead, sector, 0).await;
}

#[test]
fn any_bit_of_a_sector_is_found_and_marked() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let (farm, mut rng) = (open_clean(&disk, &pool, dir.path(), &config(1, 4)).await, Rng::new(7));
        let bytes = made[1].bytes.len() as u64;
        // Both ends of each part of a sector, and anywhere.
        let (map, metadata) = (8192 + 32, bytes - 32 - 128);
        let edges = [0, map - 1, map, metadata - 1, metadata, bytes - 33, bytes - 32, bytes - 1];
        let anywhere: Vec<_> = (0..16).map(|_| rng.below(bytes)).collect();
        for at in edges.into_iter().chain(anywhere) {
            let bit = 1 << rng.below(8);
            edit(dir.path(), PLOT_FILE, bytes + at, |byte| byte ^ bit);
            read_all(&farm, &pool, 1).await;
            let mut found = farm.check_and_mend(Class::Scrub, 1, Depth::Map).await.unwrap();
            assert_eq!(found.is_some(), at < map, "byte {at}");
            if found.is_none() {
                found = farm.check_and_mend(Class::Scrub, 1, Depth::Whole).await.unwrap();
                assert!(matches!(found, Some((SectorFault::Checksum, _))), "byte {at}");
            }
            let Some((_, Mended::Damaged(damage))) = found else { panic!("byte {at}: {found:?}") };
            farm.mark_damaged(Class::Scrub, damage).await.unwrap();
            assert_eq!(farm.status(1), SectorStatus::Expired, "byte {at}");
            made[1].plot(&farm).await;
            made[1].check_in(&farm).await;
        }
        made[0].check_in(&farm).await;
        made[2].check_in(&farm).await;
    });
}

#[test]
fn any_bit_of_a_record_costs_its_sector_alone() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let mut rng = Rng::new(8);
        let edges =
            [0, 1, 2, 3, 4, RECORD_BYTES - 41, RECORD_BYTES - 33, RECORD_BYTES - 32, RECORD_BYTES - 1];
        let anywhere: Vec<_> = (0..8).map(|_| rng.below(RECORD_BYTES)).collect();
        for at in edges.into_iter().chain(anywhere) {
            let bit = 1 << rng.below(8);
            edit(dir.path(), METADATA_FILE, 1_048_576 + RECORD_BYTES + at, |byte| byte ^ bit);
            let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
            assert!(matches!(report.faults[..], [(1, SectorFault::Record(_))]), "byte {at}: {report:?}");
            made[1].plot(&farm).await;
        }
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        for made in &made {
            made.check_in(&farm).await;
        }
    });
}

/// Records whose hash is right and whose content cannot be, or is of another sector.
fn hostile(metadata: &SectorMetadata) -> Vec<SectorMetadata> {
    let with = |change: &dyn Fn(&mut SectorMetadata)| {
        let mut changed = metadata.clone();
        change(&mut changed);
        changed
    };
    vec![
        with(&|it| it.sector_index = 2),
        with(&|it| it.sector_index = u16::MAX),
        with(&|it| it.pieces_in_sector = 0),
        with(&|it| it.pieces_in_sector = u16::MAX),
        with(&|it| it.s_bucket_sizes.fill(u16::MAX)),
        with(&|it| it.s_bucket_sizes.fill(0)),
        with(&|it| it.s_bucket_sizes[65_535] += 1),
        // As many chunks as there are, all in one place.
        with(&|it| {
            it.s_bucket_sizes.fill(0);
            it.s_bucket_sizes[9] = RECORD_CHUNKS as u16;
        }),
        // Chunks where there are none.
        with(&|it| it.s_bucket_sizes.rotate_right(1)),
        with(&|it| it.s_bucket_sizes.reverse()),
        with(&|it| it.history_size = u64::MAX),
    ]
}

#[test]
fn records_that_cannot_be_are_told_or_farmed_in_vain_but_never_panic() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let at = (1_048_576 + RECORD_BYTES) as usize;
        for (number, record) in hostile(&made[1].metadata).into_iter().enumerate() {
            let mut file = fs::read(dir.path().join(METADATA_FILE)).unwrap();
            file[at..at + RECORD_BYTES as usize].copy_from_slice(&record.encode());
            fs::write(dir.path().join(METADATA_FILE), file).unwrap();
            let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
            assert_eq!(report.faults.len(), usize::from(number < 8), "record {number}");
            read_all(&farm, &pool, 1).await;
            if (8..10).contains(&number) {
                let found = farm.check_and_mend(Class::Scrub, 1, Depth::Map).await.unwrap();
                let is_difference =
                    |fault: &SectorFault| matches!(fault, SectorFault::Record(RecordFault::SBucketSize(_)));
                // Its contents are made up: no history size is theirs.
                assert!(matches!(&found, Some((fault, Mended::Marked)) if is_difference(fault)), "{found:?}");
            }
            made[1].plot(&farm).await;
        }
    });
}

#[test]
fn a_sector_that_was_replaced_since_it_was_found_bad_is_not_marked() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        edit(dir.path(), PLOT_FILE, 9000, |byte| byte ^ 1);
        let (fault, generation) = farm.check(Class::Scrub, 0, Depth::Whole).await.unwrap().unwrap();
        assert_eq!(fault, SectorFault::Checksum);
        made[0].plot(&farm).await;
        let error = farm.mark_bad(Class::Scrub, 0, generation).await.unwrap_err();
        assert!(matches!(error, SectorError::BeingWritten { .. }), "{error}");
        made[0].check_in(&farm).await;
    });
}
