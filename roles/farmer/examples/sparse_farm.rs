//! A farm of sectors of full size for `benchmark audit`, in little space: its plot is sparse, and only the blocks that the audits
//! against the first so many challenges read are written. Holes are never read, so that all reads come from the device.
//!
//! `sparse_farm DIRECTORY SECTORS CHALLENGES FIO_LOG` makes it, and a log of the same reads in the same order for fio
//! (`--read_iolog`), several times over. Audit it with `--challenges CHALLENGES`.

use consensus::challenge::SectorSlotChallenge;
use consensus::constants::{RECORD_CHUNKS, S_BUCKETS, SCALAR_BYTES, contents_map_size};
use consensus::identity::Identity;
use consensus::sector::{SectorId, SectorMetadata, public_key_hash};
use engine::BLOCK_BYTES;
use engine::farm::{FarmInfo, FarmSize, IDENTITY_FILE, INFO_FILE, Layout, METADATA_FILE, PLOT_FILE};
use farmer::benchmark::audit::challenge;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PIECES: u16 = 1000;
/// S-buckets that are not empty.
const USED_S_BUCKETS: usize = 54_000;
/// History size of all sectors.
const HISTORY_SIZE: u64 = 100;
/// Seed of the challenges: the default of `benchmark audit`.
const SEED: u64 = 0;
/// The log repeats the reads so often.
const REPEATS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: sparse_farm DIRECTORY SECTORS CHALLENGES FIO_LOG";
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [directory, sectors, challenges, log] = &args[..] else { return Err(usage.into()) };
    let (directory, sectors, challenges): (PathBuf, u16, u64) =
        (directory.into(), sectors.parse()?, challenges.parse()?);
    fs::create_dir_all(&directory)?;
    let identity = Identity::from_entropy([7; 32]);
    let allocated_bytes = FarmSize::Sectors(sectors).allocated_bytes(PIECES);
    let layout = Layout::new(PIECES, FarmSize::Allocated(allocated_bytes))?;
    let info = FarmInfo {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse()?,
        genesis_hash: [1; 32],
        public_key: identity.public_key(),
        pieces_in_sector: PIECES,
        allocated_bytes,
    };
    let sizes = s_bucket_sizes();
    write_metadata(&directory, &layout, &sizes)?;
    let reads =
        write_plot(&directory, &layout, &sizes, &public_key_hash(&identity.public_key()), challenges)?;
    fs::write(directory.join(IDENTITY_FILE), identity.to_file_bytes())?;
    fs::write(directory.join(INFO_FILE), info.to_json())?;
    write_log(Path::new(log), &directory.join(PLOT_FILE), &reads)
}

/// As a sector's are, about, and together just its chunks.
fn s_bucket_sizes() -> Vec<u16> {
    let mut noise = vec![0u8; USED_S_BUCKETS];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let mut sizes: Vec<u16> = noise.iter().map(|noise| 590 + u16::from(noise % 32)).collect();
    let missing =
        usize::from(PIECES) * RECORD_CHUNKS - sizes.iter().map(|&size| usize::from(size)).sum::<usize>();
    (0..missing).for_each(|n| sizes[n % USED_S_BUCKETS] += 1);
    sizes.resize(S_BUCKETS, 0);
    sizes
}

fn write_metadata(directory: &Path, layout: &Layout, sizes: &[u16]) -> Result<(), Box<dyn Error>> {
    let file = File::create(directory.join(METADATA_FILE))?;
    file.set_len(layout.metadata_bytes())?;
    let [low, high] = layout.sectors().to_le_bytes();
    file.write_all_at(&[0, low, high], 0)?;
    for sector_index in 0..layout.sectors() {
        let s_bucket_sizes = sizes.to_vec();
        let metadata = SectorMetadata {
            sector_index,
            pieces_in_sector: PIECES,
            s_bucket_sizes,
            history_size: HISTORY_SIZE,
        };
        file.write_all_at(&metadata.encode(), layout.record_offset(sector_index))?;
    }
    Ok(file.sync_all()?)
}

/// Writes what will be read, sector by sector, so that no audit finds its reads side by side; the reads challenge by challenge.
fn write_plot(
    directory: &Path,
    layout: &Layout,
    sizes: &[u16],
    key_hash: &[u8; 32],
    challenges: u64,
) -> Result<Vec<Range<u64>>, Box<dyn Error>> {
    let file = File::create(directory.join(PLOT_FILE))?;
    file.set_len(layout.plot_bytes())?;
    let mut starts = vec![0];
    sizes.iter().for_each(|&size| starts.push(starts[starts.len() - 1] + u64::from(size)));
    let mut noise = vec![0; 2 * BLOCK_BYTES + SCALAR_BYTES * usize::from(PIECES)];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let mut reads = vec![Vec::new(); challenges as usize];
    for sector in 0..layout.sectors() {
        let (id, chunks_at) = (
            SectorId::new(key_hash, sector, HISTORY_SIZE),
            layout.sector_offset(sector) + contents_map_size(PIECES) as u64,
        );
        for (number, reads) in (0..).zip(&mut reads) {
            let s_bucket = SectorSlotChallenge::new(&id, &challenge(SEED, number)).s_bucket();
            let of_chunk = |chunk: u64| chunks_at + chunk * SCALAR_BYTES as u64;
            let (start, end) = (starts[usize::from(s_bucket)], starts[usize::from(s_bucket) + 1]);
            if start < end {
                let block = BLOCK_BYTES as u64;
                let blocks = of_chunk(start) / block * block..of_chunk(end).next_multiple_of(block);
                file.write_all_at(&noise[..(blocks.end - blocks.start) as usize], blocks.start)?;
                reads.push(blocks);
            }
        }
    }
    file.sync_all()?;
    Ok(reads.concat())
}

fn write_log(log: &Path, plot: &Path, reads: &[Range<u64>]) -> Result<(), Box<dyn Error>> {
    let (mut log, plot) = (BufWriter::new(File::create(log)?), plot.display());
    writeln!(log, "fio version 2 iolog\n{plot} add\n{plot} open")?;
    for read in (0..REPEATS).flat_map(|_| reads) {
        writeln!(log, "{plot} read {} {}", read.start, read.end - read.start)?;
    }
    writeln!(log, "{plot} close")?;
    Ok(log.flush()?)
}
