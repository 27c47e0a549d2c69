//! What is kept in memory of sectors, and that audits find the same whatever that is.

use super::bad_input::{edit, plotted};
use super::*;
use consensus::challenge::SectorSlotChallenge;
use consensus::{CpuLevel, audit};
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

const MODES: [AuditMemory; 2] = [AuditMemory::Exact, AuditMemory::Lean];
/// Where the sizes begin in the record of the first sector.
const FIRST_SIZES: u64 = METADATA_RESERVED_BYTES + 4;

async fn open_as(
    disk: &Disk,
    pool: &Pool,
    dir: &Path,
    config: &FarmConfig,
    memory: AuditMemory,
) -> (Farm, OpenReport) {
    Farm::open_with(disk.clone(), scratch(pool), dir, config, memory).await.unwrap()
}

/// Memory for one s-bucket, taken again and again.
fn buffer(farm: &Farm) -> SlabMut {
    let pieces = farm.layout().pieces_in_sector();
    farm.0.files.pool.try_acquire().unwrap().narrow(..s_bucket_buf_bytes(pieces))
}

/// Candidates of some slots, with their sectors: all that are within a range so wide that it takes half of the chunks.
async fn candidates(farm: &Farm, seed: u64) -> Vec<(u64, u16, audit::Candidate)> {
    let (mut found, mut buf) = (Vec::new(), buffer(farm));
    for slot in 0..150u64 {
        let global = *blake3::hash(&(seed ^ slot).to_le_bytes()).as_bytes();
        for sector in 0..farm.count() {
            let SectorStatus::Plotted { history_size } = farm.status(sector) else { continue };
            let challenge = SectorSlotChallenge::new(&farm.sector_id(sector, history_size), &global);
            let read = farm.read_s_bucket(sector, challenge.s_bucket(), buf).await.unwrap();
            let of_sector = audit::audit(CpuLevel::current(), &global, &challenge, u64::MAX, read.chunks());
            found.extend(of_sector.into_iter().map(|candidate| (slot, sector, candidate)));
            buf = read.into_buf();
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    /// The farm's sectors lie anywhere in their blocks, and so do their records.
    #[test]
    fn audits_find_the_same_in_both_modes(seed: u64, pieces in 1u16..6) {
        on_disk(move |disk, pool| async move {
            let dir = tempfile::tempdir().unwrap();
            let made: Vec<_> = (0..4).map(|sector| Made::new(pieces, sector, 5 + seed % 3, seed)).collect();
            let (farm, _) = open_as(&disk, &pool, dir.path(), &config(pieces, 4), MODES[seed as usize % 2]).await;
            for made in &made {
                made.plot(&farm).await;
            }
            let written = candidates(&farm, seed).await;
            assert!(written.len() > 50, "{}", written.len());
            drop(farm);
            for memory in MODES {
                let (farm, report) = open_as(&disk, &pool, dir.path(), &config(pieces, 4), memory).await;
                assert_eq!(report, OpenReport::default());
                assert_eq!(candidates(&farm, seed).await, written, "{memory:?}");
                made[1].check_in(&farm).await;
                let read = farm.read_record(Class::ProofRead, 2, pieces - 1).await.unwrap();
                assert!(read.chunks.as_chunks::<32>().0 == made[2].records[usize::from(pieces) - 1]);
            }
        });
    }
}

/// What is read is of the sector that is there, or refused as being written.
#[test]
fn sectors_replaced_meanwhile_are_read_whole_or_not_at_all() {
    for memory in MODES {
        on_disk(move |disk, pool| async move {
            let dir = tempfile::tempdir().unwrap();
            let (farm, _) = open_as(&disk, &pool, dir.path(), &config(2, 2), memory).await;
            // By history size, so that a reader knows which is there.
            let made: Rc<Vec<_>> = Rc::new((0..8).map(|age| Made::new(2, 1, age + 3, age)).collect());
            made[0].plot(&farm).await;
            let good = Rc::new(Cell::new(0u64));
            let (writer, theirs, read) = (farm.clone(), made.clone(), good.clone());
            let replacing = task::spawn_local(async move {
                for (done, made) in (1..).zip(&theirs[1..]) {
                    while read.get() < 20 * done {
                        task::sleep(std::time::Duration::from_millis(1)).await;
                    }
                    made.plot(&writer).await;
                }
            });
            let (mut reads, mut ages) = (0u64, std::collections::BTreeSet::new());
            while good.get() < 20 * made.len() as u64 {
                let SectorStatus::Plotted { history_size } = farm.status(1) else {
                    task::sleep(std::time::Duration::from_millis(1)).await;
                    continue;
                };
                let s_bucket = (reads.wrapping_mul(7919) % 54_000) as u16;
                reads += 1;
                match farm.read_s_bucket(1, s_bucket, buffer(&farm)).await {
                    Ok(read) => {
                        let made = &made[history_size as usize - 3];
                        let map_bytes = consensus::constants::contents_map_size(2);
                        let first = made.metadata.chunks_before(s_bucket) as usize;
                        let size = usize::from(made.metadata.s_bucket_sizes[usize::from(s_bucket)]);
                        let chunks = made.bytes[map_bytes..][first * 32..][..size * 32].as_chunks::<32>().0;
                        assert_eq!(read.chunks(), chunks, "s-bucket {s_bucket} at {history_size}");
                        ages.insert(history_size);
                        good.set(good.get() + 1);
                    }
                    Err(SectorError::BeingWritten { sector: 1 }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            replacing.await;
            assert_eq!(ages.len(), made.len());
        });
    }
}

/// Records that change under an open farm.
#[test]
fn a_damaged_group_is_a_fault_of_its_sector_and_never_a_wrong_read() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let (farm, _) = open_as(&disk, &pool, dir.path(), &config(1, 4), AuditMemory::Lean).await;
        let sizes = &made[0].metadata.s_bucket_sizes;
        let used = sizes[512..768].iter().position(|&size| size == 1).unwrap() as u16 + 512;
        let fault = |error: SectorError| match error {
            SectorError::Metadata { sector: 0, source } => source,
            error => panic!("{error}"),
        };
        let damages: [(u64, u8, RecordFault); 3] = [
            (u64::from(used), 1, RecordFault::Group(512)),
            (u64::from(used), 2, RecordFault::TooManyChunks(used)),
            (700, 0x80, RecordFault::TooManyChunks(700)),
        ];
        for (s_bucket, bits, expected) in damages {
            edit(dir.path(), METADATA_FILE, FIRST_SIZES + 2 * s_bucket, |byte| byte ^ bits);
            let error = farm.read_s_bucket(0, used, buffer(&farm)).await.unwrap_err();
            assert_eq!(fault(error), expected);
            assert!(expected.to_string().contains("metadata"), "{expected}");
            // Other groups, other sectors.
            farm.read_s_bucket(0, 300, buffer(&farm)).await.unwrap();
            farm.read_s_bucket(1, used, buffer(&farm)).await.unwrap();
            let error = farm.read_record(Class::ProofRead, 0, 0).await.unwrap_err();
            assert!(matches!(fault(error), RecordFault::Undecodable(_)));
            let found = farm.check_sector(Class::Scrub, 0).await.unwrap();
            assert!(matches!(found, Some(SectorFault::Record(RecordFault::Undecodable(_)))), "{found:?}");
            edit(dir.path(), METADATA_FILE, FIRST_SIZES + 2 * s_bucket, |byte| byte ^ bits);
        }
        made[0].check_in(&farm).await;
        // Whole records, of another plotting and of nothing.
        let metadata = fs::File::options().write(true).open(dir.path().join(METADATA_FILE)).unwrap();
        let other = Made::new(1, 0, 9, 77).metadata;
        for record in [other.encode(), files::expired(0, 1).encode()] {
            metadata.write_all_at(&record, METADATA_RESERVED_BYTES).unwrap();
            let error = farm.read_s_bucket(0, used, buffer(&farm)).await.unwrap_err();
            assert_eq!(fault(error), RecordFault::Group(512));
            let error = farm.read_record(Class::ProofRead, 0, 0).await.unwrap_err();
            assert_eq!(fault(error), RecordFault::Group(0));
        }
        // A file that ends before it.
        metadata.set_len(METADATA_RESERVED_BYTES).unwrap();
        let error = farm.read_s_bucket(0, used, buffer(&farm)).await.unwrap_err();
        assert!(matches!(error, SectorError::Io(_)), "{error}");
    });
}

/// All that a farm holds for its sectors, counted.
#[test]
fn a_lean_sector_takes_a_kibibyte_and_a_large_farm_64_mebibytes() {
    on_disk(|disk, pool| async move {
        let (dir, _) = plotted(&disk, &pool).await;
        let mut bytes = Vec::new();
        for memory in MODES {
            let (farm, _) = open_as(&disk, &pool, dir.path(), &config(1, 4), memory).await;
            assert_eq!(farm.count(), 3);
            let of_none = 4 * size_of::<state::Sector>();
            let least = 3 * memory.sector_bytes() + of_none;
            assert!((least..least + 3 * 2048).contains(&farm.memory_bytes()), "{memory:?}");
            bytes.push(farm.memory_bytes());
        }
        assert!(bytes[1] <= 4 * size_of::<state::Sector>() + 3 * 1024);
        // As many as the largest disks hold, with what a plot-client lists of them besides: two lists of what each is.
        let of_sector = size_of::<state::Sector>() + 1024 + 16 + 2 * size_of::<SectorStatus>();
        assert!(32_000 * of_sector <= 64 << 20, "{of_sector} bytes a sector");
    });
}
