//! The small file beside a staged sector.
//!
//! ```text
//!   "ASFSTAG1" | length u32 | plot job, as on the bus | sector bytes u64 | checksum 32 | metadata 131 116 | BLAKE3 of all before
//! ```
//! Integers are little endian.

use consensus::constants::{HASH_SIZE, SECTOR_METADATA_SIZE, sector_size};
use consensus::sector::SectorMetadata;
use control::messages::MAX_MESSAGE_BYTES;
use control::messages::{Control, PlotJob};
use control::plot_server::Made;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const MAGIC: [u8; 8] = *b"ASFSTAG1";
/// No manifest is longer.
const MAX_BYTES: u64 =
    (MAGIC.len() + 4 + MAX_MESSAGE_BYTES + 8 + 2 * HASH_SIZE + SECTOR_METADATA_SIZE) as u64;

/// What is known of a staged sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub job: PlotJob,
    pub made: Made,
    /// Encoded metadata (PROTOCOL 5.4).
    pub metadata: Vec<u8>,
}

/// Why a file is no manifest.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("damaged")]
    Damaged,
    #[error("its parts contradict each other")]
    Contradiction,
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let job = self.job.to_bytes().expect("a job that came from the bus can go there");
        let mut bytes = MAGIC.to_vec();
        bytes.extend((job.len() as u32).to_le_bytes());
        bytes.extend(&job[..]);
        bytes.extend(self.made.size_bytes.to_le_bytes());
        bytes.extend(self.made.checksum);
        bytes.extend(&self.metadata);
        bytes.extend(blake3::hash(&bytes).as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let damaged = || ManifestError::Damaged;
        let (mut body, hash) = bytes.split_last_chunk::<HASH_SIZE>().ok_or_else(damaged)?;
        if blake3::hash(body).as_bytes() != hash {
            return Err(ManifestError::Damaged);
        }
        let mut take = |count: usize| body.split_off(..count).ok_or_else(damaged);
        if take(MAGIC.len())? != MAGIC {
            return Err(ManifestError::Damaged);
        }
        let job_bytes = u32::from_le_bytes(take(4)?.try_into().expect("4 bytes"));
        let job = PlotJob::from_bytes(take(job_bytes as usize)?).map_err(|_| damaged())?;
        let size_bytes = u64::from_le_bytes(take(8)?.try_into().expect("8 bytes"));
        let checksum = take(HASH_SIZE)?.try_into().expect("32 bytes");
        let manifest = Self { job, made: Made { size_bytes, checksum }, metadata: body.to_vec() };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let metadata = SectorMetadata::decode(&self.metadata).map_err(|_| ManifestError::Damaged)?;
        let (job, sector) = (&self.job, &self.job.sector);
        let fits = metadata.sector_index == sector.sector_index
            && metadata.history_size == sector.history_size
            && metadata.pieces_in_sector == job.pieces_in_sector
            && self.made.size_bytes == sector_size(job.pieces_in_sector) as u64;
        if fits { Ok(()) } else { Err(ManifestError::Contradiction) }
    }
}

/// Reads a manifest, whatever the file may hold.
pub(super) fn read(path: &Path) -> Result<Manifest, ManifestError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Manifest::decode(&bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use consensus::constants::S_BUCKETS;
    use control::ids::{FarmId, InstanceId};
    use control::messages::{ProtocolInfo, SectorId};

    /// A manifest of a sector of `pieces_in_sector` pieces that could be.
    pub fn manifest(sector_index: u16, pieces_in_sector: u16) -> Manifest {
        let protocol_info = ProtocolInfo {
            history_size: 5,
            max_pieces_in_sector: 9,
            recent_segments: 5,
            recent_history_fraction: (1, 10),
            min_sector_lifetime: 4,
        };
        let job = PlotJob {
            sector: SectorId { farm: FarmId([1; 16]), sector_index, history_size: 5 },
            public_key: [2; 32],
            pieces_in_sector,
            protocol_info,
            client: InstanceId([3; 16]),
            staged_on: None,
            attempt: 1,
            avoid: Vec::new(),
        };
        let metadata = SectorMetadata {
            sector_index,
            pieces_in_sector,
            s_bucket_sizes: vec![pieces_in_sector / 2; S_BUCKETS],
            history_size: 5,
        };
        let made = Made { size_bytes: sector_size(pieces_in_sector) as u64, checksum: [4; 32] };
        Manifest { job, made, metadata: metadata.encode() }
    }

    #[test]
    fn manifests_round_trip_and_damage_is_found() {
        let good = manifest(3, 2);
        let bytes = good.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), good);
        for at in [0, 8, 40, 1000, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(matches!(Manifest::decode(&bad), Err(ManifestError::Damaged)), "{at}");
        }
        for length in [0, 31, 32, 40, bytes.len() - 1] {
            assert!(Manifest::decode(&bytes[..length]).is_err(), "{length}");
        }
        let other = Manifest { metadata: manifest(4, 2).metadata, ..good };
        assert!(matches!(Manifest::decode(&other.encode()), Err(ManifestError::Contradiction)));
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(u32::MAX.to_le_bytes());
        bytes.extend(blake3::hash(&bytes).as_bytes());
        assert!(matches!(Manifest::decode(&bytes), Err(ManifestError::Damaged)));
    }
}
