//! Sectors whose wrong bytes are made anew of their pieces: any blocks, any order of what becomes known, and a disk that loses its power
//! meanwhile. Contents are made up, but in the one test that encodes and decodes; that takes three seconds, all others together two.

use super::*;
use crate::disk::Limits;
use crate::piece_layout::{POINTS_AT, RECORD_AT};
use crate::power::{Loss, Power, Rng};
use consensus::CpuLevel;
use consensus::constants::{RECORD_SIZE, contents_map_size};
use consensus::piece::Piece;
use consensus::sector::RecordEncoder;
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;

const CLASS: Class = Class::Scrub;
const PIECES: u16 = 3;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A record as whoever has its piece would encode it.
fn encoded(made: &Made, record: u16) -> EncodedRecord {
    let at = usize::from(record);
    EncodedRecord {
        chunks: made.records[at].clone(),
        bitfield: made.map.records()[at].clone(),
        metadata: made.record_metadata[at],
    }
}

/// Three sectors, of which the one in the middle begins and ends amid a block.
async fn plotted(disk: &Disk, pool: &Pool) -> (tempfile::TempDir, Farm, Vec<Made>) {
    let dir = tempfile::tempdir().unwrap();
    let farm = open_clean(disk, pool, dir.path(), &config(PIECES, 3)).await;
    let made: Vec<_> = (0..3).map(|sector| Made::new(PIECES, sector, 5, 1)).collect();
    for made in &made {
        made.plot(&farm).await;
    }
    (dir, farm, made)
}

async fn damage_of(farm: &Farm, sector: u16) -> Damage {
    match farm.check_and_mend(CLASS, sector, Depth::Whole).await.unwrap() {
        Some((SectorFault::Checksum | SectorFault::ContentsMap(_), Mended::Damaged(damage))) => damage,
        found => panic!("{found:?}"),
    }
}

/// Adds what is suspected, and compares, until all is known. Where nothing more is suspected it goes on with a record that was not looked at.
async fn rebuild(farm: &Farm, made: &Made, damage: Damage, first: u16) -> Result<BTreeSet<u16>, RebuildLook> {
    let mut rebuild = farm.begin_rebuild(CLASS, damage).await.unwrap();
    let (mut wanted, mut known) = (rebuild.suspects(), BTreeSet::new());
    wanted.insert(first);
    loop {
        for record in wanted.difference(&known) {
            rebuild.add(*record, encoded(made, *record));
        }
        known.append(&mut wanted);
        let (next, look) = farm.compare_rebuild(CLASS, rebuild).await.unwrap();
        rebuild = next;
        match look {
            RebuildLook::Right => break,
            RebuildLook::Suspects(suspects) => wanted = suspects,
            RebuildLook::TooMuch => return Err(look),
        }
        if wanted.is_subset(&known) {
            let Some(left) = (0..PIECES).find(|record| !known.contains(record)) else {
                return Err(RebuildLook::Suspects(wanted));
            };
            wanted.insert(left);
        }
    }
    farm.finish_rebuild(&rebuild).await.unwrap();
    Ok(known)
}

/// Damages so much of a block as belongs to the sector.
fn damage_block(bytes: &mut [u8], start: u64, block: u64, rng: &mut Rng) {
    let from = (block * BLOCK).saturating_sub(start) as usize;
    let to = (((block + 1) * BLOCK - start) as usize).min(bytes.len() - 32);
    let part = &mut bytes[from.min(to)..to];
    match rng.below(3) {
        0 => part.fill(0),
        1 => part.iter_mut().for_each(|byte| *byte = rng.below(256) as u8),
        _ => part[rng.below(part.len() as u64) as usize] ^= 1 << rng.below(8),
    }
}

#[test]
fn any_few_blocks_become_what_they_were() {
    on_disk(|disk, pool| async move {
        let (dir, farm, made) = plotted(&disk, &pool).await;
        let path = dir.path().join(PLOT_FILE);
        let metadata = || fs::read(dir.path().join(METADATA_FILE)).unwrap();
        let (whole, records) = (fs::read(&path).unwrap(), metadata());
        let start = farm.layout().sector_offset(1);
        let bytes = farm.layout().sector_bytes();
        let first_chunk = contents_map_size(PIECES) as u64;
        let first_metadata = bytes - 32 - u64::from(PIECES) * 128;
        let blocks = start / BLOCK..=(start + bytes - 33) / BLOCK;
        // Both edges of the sector, of its contents map, and of its records' metadata.
        let edges = [0, first_chunk - 33, first_chunk, first_metadata].map(|at| (start + at) / BLOCK);
        for seed in 0..24 {
            let mut rng = Rng::new(seed);
            let mut damaged = made[1].bytes.clone();
            for n in 0..1 + seed % 4 {
                let anywhere = blocks.start() + rng.below(blocks.end() - blocks.start());
                let block = if n == 0 { edges.get(seed as usize).copied() } else { None };
                damage_block(&mut damaged, start, block.unwrap_or(anywhere), &mut rng);
            }
            if damaged == made[1].bytes {
                continue;
            }
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&damaged, start).unwrap();
            let damage = damage_of(&farm, 1).await;
            assert_eq!(farm.status(1), SectorStatus::Plotted { history_size: 5 }, "it is what it was");
            rebuild(&farm, &made[1], damage, (seed % 3) as u16).await.unwrap();
            assert!(fs::read(&path).unwrap() == whole && metadata() == records, "seed {seed}");
            // What was known of it then is not of it now.
            let again = farm.begin_rebuild(CLASS, damage).await.err();
            assert!(matches!(again, Some(SectorError::BeingWritten { sector: 1 })), "{again:?}");
        }
        for made in &made {
            made.check_in(&farm).await;
        }
    });
}

#[test]
fn what_is_not_right_is_never_written() {
    on_disk(|disk, pool| async move {
        let (dir, farm, made) = plotted(&disk, &pool).await;
        let path = dir.path().join(PLOT_FILE);
        let (start, chunks) = (farm.layout().sector_offset(1), contents_map_size(PIECES) as u64);
        let whole = fs::read(&path).unwrap();
        let set = |damaged: &[u8]| fs::write(&path, damaged).unwrap();
        let mut damaged = whole.clone();
        damaged[(start + chunks) as usize + 70_000] ^= 4;
        // Of another sector, and with one chunk that is not its own.
        let other = Made::new(PIECES, 1, 5, 2);
        let mut liar = Made::new(PIECES, 1, 5, 1);
        (0..3).for_each(|record| liar.records[record][7][5] ^= 1);
        for (liar, all) in [(&other, true), (&liar, false)] {
            set(&damaged);
            let damage = damage_of(&farm, 1).await;
            let end = rebuild(&farm, liar, damage, 0).await.unwrap_err();
            assert_eq!(end == RebuildLook::TooMuch, all);
            assert!(fs::read(&path).unwrap() == damaged, "nothing was written");
            assert_eq!(farm.status(1), SectorStatus::Plotted { history_size: 5 });
        }
        // The checksum itself is wrong: nothing can be said of the rest.
        let mut damaged = whole.clone();
        damaged[(start + farm.layout().sector_bytes()) as usize - 5] ^= 4;
        set(&damaged);
        let damage = damage_of(&farm, 1).await;
        rebuild(&farm, &made[1], damage, 0).await.unwrap_err();
        assert!(fs::read(&path).unwrap() == damaged);
        farm.mark_damaged(CLASS, damage).await.unwrap();
        assert_eq!(farm.status(1), SectorStatus::Expired);
        // It passed by itself: nothing is written, and nothing marked.
        made[1].plot(&farm).await;
        let now = fs::read(&path).unwrap();
        let mut damaged = now.clone();
        damaged[(start + chunks) as usize + 9] ^= 4;
        set(&damaged);
        let damage = damage_of(&farm, 1).await;
        set(&now);
        assert_eq!(rebuild(&farm, &made[1], damage, 2).await.unwrap(), BTreeSet::from([1, 2]));
        made[1].check_in(&farm).await;
        farm.mark_damaged(CLASS, damage).await.unwrap();
        // Plotted meanwhile: what was found says nothing of the new one.
        made[1].plot(&farm).await;
        let refused = farm.mark_damaged(CLASS, damage).await.unwrap_err();
        assert!(matches!(refused, SectorError::BeingWritten { sector: 1 }));
        made[1].check_in(&farm).await;
    });
}

/// Cut off at every step of writing, by every kind of loss: it is farmed only where it is whole, or nothing of it was written yet.
#[test]
fn a_loss_of_power_amid_a_rebuild_leaves_a_mark() {
    on_disk(|_, _| async move {
        let pool = Pool::new(32, 64).unwrap();
        let made = Made::new(1, 0, 5, 1);
        let mut ends = [0; 3];
        for loss in [Loss::Kill, Loss::Blocks, Loss::Sectors, Loss::Unsynced] {
            for step in 1.. {
                let power = Power::new(step);
                let (disk, dir) = (power.disk(&pool, Limits::default()), tempfile::tempdir().unwrap());
                let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
                made.plot(&farm).await;
                // Three blocks that are neighbours, and a bit far off.
                let mut damaged = made.bytes.clone();
                damaged[9 * BLOCK_BYTES..12 * BLOCK_BYTES].fill(7);
                damaged[100 * BLOCK_BYTES + 5] ^= 1;
                write_all(&farm, &pool, &damaged).await;
                let damage = damage_of(&farm, 0).await;
                let mut known = farm.begin_rebuild(CLASS, damage).await.unwrap();
                known.add(0, encoded(&made, 0));
                let (known, look) = farm.compare_rebuild(CLASS, known).await.unwrap();
                assert_eq!(look, RebuildLook::Right);
                power.lose_after(step);
                let is_done = farm.finish_rebuild(&known).await.is_ok();
                drop(farm);
                while pool.stats().in_use > 0 {
                    task::yield_now().await;
                }
                power.come_back(loss);
                let (farm, _) = open(&disk, &pool, dir.path(), &config(1, 2)).await.unwrap();
                let is_plotted = matches!(farm.status(0), SectorStatus::Plotted { .. });
                let bytes = power.bytes(&dir.path().join(PLOT_FILE), 0, made.bytes.len());
                assert!(!is_plotted || bytes == made.bytes || bytes == damaged, "{loss:?} at step {step}");
                assert!(
                    !is_done || (is_plotted && bytes == made.bytes),
                    "{loss:?} at step {step}: it was done"
                );
                ends[usize::from(is_plotted) + usize::from(is_plotted && bytes == made.bytes)] += 1;
                drop(farm);
                if is_done {
                    break;
                }
            }
        }
        assert!(ends.iter().all(|end| *end > 0), "marked, as it was, rebuilt: {ends:?}");
        while pool.stats().in_use > 0 {
            task::yield_now().await;
        }
    });
}

async fn write_all(farm: &Farm, pool: &Pool, bytes: &[u8]) {
    for (offset, part) in (0..).step_by(1 << 20).zip(bytes.chunks(1 << 20)) {
        let mut slab = pool.try_acquire().unwrap().narrow(..part.len());
        slab.copy_from_slice(part);
        farm.0.files.plot.write(CLASS, offset, &slab.freeze()).await.unwrap();
    }
    farm.0.files.plot.sync(CLASS).await.unwrap();
}

/// A piece as it comes over the wire.
fn in_slab(pool: &Pool, piece: &Piece) -> Slab {
    let (view, mut slab) = (piece.view(), pool.try_acquire().unwrap());
    slab[RECORD_AT..][..RECORD_SIZE].copy_from_slice(view.record.as_flattened());
    slab[POINTS_AT..RECORD_AT].copy_from_slice([*view.commitment, *view.witness].as_flattened());
    slab.freeze()
}

#[test]
fn a_damaged_record_is_found_by_decoding_and_made_of_its_piece() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let farm = open_clean(&disk, &pool, dir.path(), &config(2, 1)).await;
        let id = farm.sector_id(0, 5);
        let mut encoder = RecordEncoder::new(CpuLevel::current());
        let (mut pieces, mut records, mut bitfields, mut metadata) = (vec![], vec![], vec![], vec![]);
        for offset in 0..2u16 {
            let mut piece = Piece::zeroed();
            let mut random = blake3::Hasher::new().update(&[offset as u8]).finalize_xof();
            piece.record_mut().iter_mut().for_each(|chunk| random.fill(&mut chunk[1..]));
            let mut record = piece.record_mut().to_vec();
            bitfields.push(encoder.encode(&id.evaluation_seed(offset), &mut record).unwrap());
            metadata.push(RecordMetadata::of(&piece.view()));
            records.push(record);
            pieces.push(piece);
        }
        let slices = records.iter().map(Vec::as_slice).collect();
        let assembler = SectorAssembler::new(slices, bitfields.clone(), &metadata);
        let (sector, bytes) = (assembler.sector_metadata(0, 5), assembler.to_sector());
        let map = ContentsMap::new(bitfields);
        let made = Made { records, map, record_metadata: metadata, bytes, metadata: sector };
        made.plot(&farm).await;
        // A chunk of the second record, in the middle of the sector.
        let unit =
            (0..32_768).find(|unit| made.bytes[1_000_000 + 32 * unit..][..32] == made.records[1][15_000]);
        let at = 1_000_000 + 32 * unit.unwrap_or_default() as u64;
        super::bad_input::edit(dir.path(), PLOT_FILE, at + 3, |byte| byte ^ 1);
        let damage = damage_of(&farm, 0).await;
        let rebuild = farm.begin_rebuild(CLASS, damage).await.unwrap();
        assert_eq!((rebuild.suspects(), rebuild.id(), rebuild.records()), (BTreeSet::new(), id, 2));
        let (rebuild, look) = farm.search_rebuild(CLASS, rebuild, vec![0, 1]).await.unwrap();
        let RebuildLook::Suspects(damaged) = look else { panic!("{look:?}") };
        assert_eq!(damaged.len(), 1);
        let record = *damaged.first().unwrap();
        let piece = in_slab(&pool, &pieces[usize::from(record)]);
        let encoded = EncodedRecord::of(piece, rebuild.id().evaluation_seed(record)).await.unwrap().unwrap();
        let mut rebuild = rebuild;
        rebuild.add(record, encoded);
        let (rebuild, look) = farm.compare_rebuild(CLASS, rebuild).await.unwrap();
        assert_eq!((look, rebuild.wrong_bytes()), (RebuildLook::Right, 32));
        farm.finish_rebuild(&rebuild).await.unwrap();
        made.check_in(&farm).await;
        // No scalars: no piece.
        let mut slab = pool.try_acquire().unwrap();
        slab.fill(0xff);
        assert!(EncodedRecord::of(slab.freeze(), id.evaluation_seed(0)).await.unwrap().is_none());
    });
}
