//! Records by whatever reads, and farms that are only looked at.

use super::*;
use crate::file::Access;

const CLASS: Class = Class::ProofRead;

#[test]
fn a_record_is_the_same_by_whatever_reads() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let farm = open_clean(&disk, &pool, dir.path(), &config(2, 2)).await;
        let made = Made::new(2, 1, 5, 1);
        made.plot(&farm).await;
        let measured = farm.read_cost(CLASS, 1).await.unwrap();
        assert!(measured.read_us > 0.0 && measured.bytes_per_us > 0.0, "{measured:?}");
        assert_eq!(farm.read_cost(CLASS, 1).await.unwrap(), measured, "measured once");
        for offset in 0..2 {
            let mut all = Vec::new();
            for cost in [ReadCost::CHUNKS, ReadCost::USUAL, measured, ReadCost::WHOLE] {
                let (record, reads) = farm.read_record_at(CLASS, 1, offset, cost).await.unwrap();
                assert!(record.chunks[..] == *made.records[usize::from(offset)].as_flattened(), "{cost:?}");
                all.push(reads);
            }
            // The first brings the fewest bytes, the last by the fewest reads.
            assert!(
                all.iter().all(|reads| reads.bytes >= all[0].bytes && reads.reads >= all[3].reads),
                "{all:?}"
            );
            assert!(all[3].reads <= 9 && all[3].bytes <= farm.layout().sector_bytes(), "{all:?}");
        }
    });
}

#[test]
fn a_disk_that_does_not_give_its_blocks_counts_as_a_usual_one() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 1)).await;
        Made::new(1, 0, 5, 1).plot(&farm).await;
        let plot = fs::File::options().write(true).open(dir.path().join(PLOT_FILE)).unwrap();
        let bytes = plot.metadata().unwrap().len();
        plot.set_len(BLOCK_BYTES as u64).unwrap();
        assert_eq!(farm.read_cost(CLASS, 0).await.unwrap(), ReadCost::USUAL);
        // That is not kept.
        plot.set_len(bytes).unwrap();
        assert_ne!(farm.read_cost(CLASS, 0).await.unwrap(), ReadCost::USUAL);
    });
}

#[test]
fn a_farm_is_looked_at_also_while_it_is_in_use() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let made = Made::new(1, 0, 5, 1);
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
        made.plot(&farm).await;
        let look = || Farm::open_to_look(disk.clone(), scratch(&pool), dir.path(), Access::ReadCached);
        let (looked, report) = look().await.unwrap();
        assert_eq!((looked.is_in_use(), farm.is_in_use(), report), (true, false, OpenReport::default()));
        made.check_in(&looked).await;
        drop((looked, farm));
        let (looked, _) = look().await.unwrap();
        assert!(!looked.is_in_use());
        made.check_in(&looked).await;
        // Whoever begins to farm it meanwhile is not kept out.
        open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
    });
}
