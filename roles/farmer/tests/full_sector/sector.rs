//! A farm of one sector of full size, and such a sector with made-up contents in the staging of a plot-server.

use consensus::constants::{
    HASH_SIZE, RECORD_SIZE, S_BUCKET_BITFIELD_SIZE, S_BUCKETS, contents_map_size, sector_size,
};
use consensus::sector::SectorMetadata;
use control::ids::{FarmId, InstanceId};
use control::messages::{Control, PlotJob, ProtocolInfo, SectorId};
use engine::farm::{FARM_SCRATCH_BYTES, Farm, FarmConfig, FarmSize, PLOT_FILE};
use engine::pool::Pool;
use engine::{BLOCK_BYTES, Executors, ExecutorsConfig, Limits};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Duration;

const PIECES: u16 = 1000;
/// PROTOCOL 5.3 with 1000 pieces.
pub const SECTOR_BYTES: u64 = 1_056_896_064;
const _: () = assert!(sector_size(PIECES) as u64 == SECTOR_BYTES);
/// Every record uses each second s-bucket: half of them, as many as it has chunks.
const BITFIELD_BYTE: u8 = 0b0101_0101;

/// The chain's rules.
pub const CHAIN: ProtocolInfo = ProtocolInfo {
    history_size: 9,
    max_pieces_in_sector: PIECES,
    recent_segments: 5,
    recent_history_fraction: (1, 10),
    min_sector_lifetime: 4,
};

/// Makes the farm, and the job to plot its sector.
pub fn make_farm(dir: &Path) -> PlotJob {
    let pool = Pool::new(2, 2).unwrap();
    let config = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 8 };
    let executors = Executors::start(&config, &pool).unwrap();
    let path = dir.to_owned();
    let made = executors.spawner(0).spawn(move |local| async move {
        let disk = local.disk(&path, Limits::default()).unwrap();
        let scratch = local.pool().try_acquire().unwrap().narrow(..FARM_SCRATCH_BYTES);
        let config = FarmConfig {
            genesis_hash: [2; 32],
            max_pieces_in_sector: PIECES,
            pieces_in_sector: PIECES,
            size: FarmSize::Sectors(1),
            may_shrink: false,
        };
        let (farm, _) = Farm::open(disk, scratch, &path, &config).await.unwrap();
        (farm.info().id, farm.identity().public_key())
    });
    let (id, public_key) = made.wait().unwrap();
    executors.shutdown(Duration::from_secs(10)).unwrap();
    let farm = FarmId(id.to_bytes());
    PlotJob {
        sector: SectorId { farm, sector_index: 0, history_size: CHAIN.history_size },
        public_key,
        pieces_in_sector: PIECES,
        protocol_info: CHAIN,
        client: InstanceId([3; 16]),
        staged_on: None,
        attempt: 1,
        avoid: Vec::new(),
    }
}

/// Writes sector and manifest as a plot-server leaves them; gives the checksum.
pub fn stage(base_path: &Path, job: &PlotJob) -> [u8; 32] {
    fs::create_dir(base_path).unwrap();
    let path = |suffix| base_path.join(format!("{}.{suffix}", job.sector));
    let checksum = write_sector(&path("sector"));
    let sizes = (0..S_BUCKETS).map(|s_bucket| if s_bucket % 2 == 0 { PIECES } else { 0 });
    let metadata = SectorMetadata {
        sector_index: 0,
        pieces_in_sector: PIECES,
        s_bucket_sizes: sizes.collect(),
        history_size: CHAIN.history_size,
    };
    let job = job.to_bytes().unwrap();
    let mut manifest = b"ASFSTAG1".to_vec();
    manifest.extend((job.len() as u32).to_le_bytes());
    manifest.extend(&job[..]);
    manifest.extend(SECTOR_BYTES.to_le_bytes());
    manifest.extend(checksum);
    manifest.extend(metadata.encode());
    manifest.extend(blake3::hash(&manifest).as_bytes());
    fs::write(path("staged"), manifest).unwrap();
    checksum
}

/// Contents map, then pseudo-random chunks and record metadata, then the checksum of it all.
fn write_sector(path: &Path) -> [u8; 32] {
    let (mut file, mut hasher) = (BufWriter::new(File::create(path).unwrap()), blake3::Hasher::new());
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        file.write_all(bytes).unwrap();
    };
    let bitfields = vec![BITFIELD_BYTE; usize::from(PIECES) * S_BUCKET_BITFIELD_SIZE];
    write(&bitfields);
    write(blake3::hash(&bitfields).as_bytes());
    let mut random = blake3::Hasher::new().finalize_xof();
    let (mut part, mut left) =
        (vec![0; RECORD_SIZE], sector_size(PIECES) - contents_map_size(PIECES) - HASH_SIZE);
    while left > 0 {
        let part = &mut part[..left.min(RECORD_SIZE)];
        random.fill(part);
        write(part);
        left -= part.len();
    }
    let checksum = hasher.finalize();
    file.write_all(checksum.as_bytes()).unwrap();
    let file = file.into_inner().unwrap();
    file.set_len(SECTOR_BYTES.next_multiple_of(BLOCK_BYTES as u64)).unwrap();
    *checksum.as_bytes()
}

/// The checksum that the farm's sector has, which must be the one at its end.
pub fn checksum_in_plot(dir: &Path) -> [u8; 32] {
    let mut sector = BufReader::new(File::open(dir.join(PLOT_FILE)).unwrap()).take(SECTOR_BYTES);
    let (mut hasher, mut part, mut stored) = (blake3::Hasher::new(), vec![0; RECORD_SIZE], [0; HASH_SIZE]);
    let mut left = sector_size(PIECES) - HASH_SIZE;
    while left > 0 {
        let part = &mut part[..left.min(RECORD_SIZE)];
        sector.read_exact(part).unwrap();
        hasher.update(part);
        left -= part.len();
    }
    sector.read_exact(&mut stored).unwrap();
    assert_eq!(*hasher.finalize().as_bytes(), stored);
    stored
}
