//! What a chain was made with.

use std::time::{SystemTime, UNIX_EPOCH};

use parity_scale_codec::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::super::chain::{ChainParameters, InvalidParameters};
use super::super::history::BLOCK_0_SIZE;

/// Version of the file.
const VERSION: u32 = 2;

/// Fewest milliseconds in a slot.
const SLOT_MS_MIN: u64 = 20;

/// What the operator asks for. Nothing is said where a default or the stored chain shall decide.
#[derive(Debug, Clone, Default)]
pub struct GenesisParameters {
    /// Length of a slot.
    pub slot_ms: Option<u64>,
    /// Probability of a block in a slot, as numerator and denominator.
    pub slot_probability: Option<(u64, u64)>,
    /// Authored blocks in an era.
    pub era_blocks: Option<u32>,
    /// Votes expected for each block.
    pub votes_per_block: Option<u16>,
    /// Most pieces in a sector.
    pub max_pieces_in_sector: Option<u16>,
    /// Pieces that the initial solution range is made for.
    pub expected_pieces: Option<u64>,
    /// Most segments to archive at the start.
    pub segments: Option<u64>,
    /// When slot 0 begins, in milliseconds since 1970.
    pub genesis_time_ms: Option<u64>,
    /// SHA-256 of the KZG setup's parameters.
    pub kzg: [u8; 32],
}

/// Why a chain cannot be made with these parameters, or is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// No chain works so.
    #[error(transparent)]
    Invalid(#[from] InvalidParameters),
    /// Slots too short or segments missing.
    #[error("{flag} must be at least {least}")]
    TooSmall {
        /// The flag.
        flag: &'static str,
        /// The least it takes.
        least: u64,
    },
    /// The stored chain has another value.
    #[error(
        "the chain in this base path was made with {flag} {stored}, not {asked}: leave the flag out or give another --base-path"
    )]
    Differs {
        /// The flag.
        flag: &'static str,
        /// Value of the stored chain.
        stored: String,
        /// Value of the flag.
        asked: String,
    },
    /// The stored chain has another KZG setup.
    #[error(
        "the chain in this base path was made with another KZG setup: give the same --kzg-parameters as then, or another --base-path"
    )]
    OtherKzg,
}

/// What a chain was made with. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Genesis {
    version: u32,
    /// When slot 0 begins, in milliseconds since 1970.
    pub genesis_time_ms: u64,
    /// Length of a slot.
    pub slot_ms: u64,
    /// Segments to archive at the start, if the imported bytes fill so many.
    pub segments_at_start: u64,
    /// Constants of the chain.
    pub parameters: ChainParameters,
    /// SHA-256 of the KZG setup's parameters.
    #[serde(with = "hex")]
    pub kzg: [u8; 32],
    /// Hash of the manifest over the imported bytes.
    #[serde(with = "hex")]
    pub manifest_hash: [u8; 32],
    /// How many bytes were imported.
    pub imported_size: u64,
}

/// What is hashed of block 0: the header fields of a block, and what fixes everything else on the chain.
#[derive(Encode, Decode)]
struct GenesisHeader {
    height: u32,
    parent_hash: [u8; 32],
    slot: u64,
    slot_ms: u64,
    parameters: ChainParameters,
    kzg: [u8; 32],
    imported_size: u64,
    manifest_hash: [u8; 32],
}

impl Genesis {
    /// Fills in defaults.
    pub(super) fn new(
        asked: &GenesisParameters,
        manifest_hash: [u8; 32],
        imported_size: u64,
    ) -> Result<Self, GenesisError> {
        let max_pieces_in_sector = asked.max_pieces_in_sector.unwrap_or(32);
        let parameters = ChainParameters {
            slot_probability: asked.slot_probability.unwrap_or((1, 6)),
            era_blocks: asked.era_blocks.unwrap_or(30),
            votes_per_block: asked.votes_per_block.unwrap_or(1),
            max_pieces_in_sector,
            expected_pieces: asked.expected_pieces.unwrap_or(4 * u64::from(max_pieces_in_sector)),
        };
        parameters.check()?;
        let genesis = Self {
            version: VERSION,
            genesis_time_ms: asked.genesis_time_ms.unwrap_or_else(now_ms),
            slot_ms: asked.slot_ms.unwrap_or(1000),
            segments_at_start: asked.segments.unwrap_or(1),
            parameters,
            kzg: asked.kzg,
            manifest_hash,
            imported_size,
        };
        for (flag, value, least) in
            [("--slot-ms", genesis.slot_ms, SLOT_MS_MIN), ("--segments", genesis.segments_at_start, 1)]
        {
            if value < least {
                return Err(GenesisError::TooSmall { flag, least });
            }
        }
        Ok(genesis)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let genesis: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if genesis.version != VERSION {
            return Err(format!("it has version {}, only {VERSION} is known", genesis.version));
        }
        genesis.parameters.check().map_err(|error| error.to_string())?;
        if genesis.slot_ms < SLOT_MS_MIN {
            return Err(format!("its slots have {} ms", genesis.slot_ms));
        }
        Ok(genesis)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("numbers and strings make JSON")
    }

    /// Whether the chain is what the operator asks for. Only what fixes the chain is compared.
    pub(super) fn check(&self, asked: &GenesisParameters) -> Result<(), GenesisError> {
        fn same<T: PartialEq + std::fmt::Debug>(
            flag: &'static str,
            stored: &T,
            asked: Option<&T>,
        ) -> Result<(), GenesisError> {
            match asked {
                Some(asked) if asked != stored => {
                    let (stored, asked) = (format!("{stored:?}"), format!("{asked:?}"));
                    Err(GenesisError::Differs { flag, stored, asked })
                }
                _ => Ok(()),
            }
        }
        let parameters = &self.parameters;
        same("--slot-ms", &self.slot_ms, asked.slot_ms.as_ref())?;
        same("--slot-probability", &parameters.slot_probability, asked.slot_probability.as_ref())?;
        same("--era-blocks", &parameters.era_blocks, asked.era_blocks.as_ref())?;
        same("--votes-per-block", &parameters.votes_per_block, asked.votes_per_block.as_ref())?;
        let max_pieces = asked.max_pieces_in_sector.as_ref();
        same("--max-pieces-in-sector", &parameters.max_pieces_in_sector, max_pieces)?;
        same("--expected-pieces", &parameters.expected_pieces, asked.expected_pieces.as_ref())?;
        same("--genesis-time-ms", &self.genesis_time_ms, asked.genesis_time_ms.as_ref())?;
        if self.kzg == asked.kzg { Ok(()) } else { Err(GenesisError::OtherKzg) }
    }

    /// Hash of block 0: BLAKE3 of the SCALE encoding of its header fields (height 0, parent zeros, slot 0), length of a slot,
    /// constants, KZG setup, number of imported bytes and manifest hash. The time of the genesis is not in it: nodes with the
    /// same files and flags have the same chain, whenever they were started.
    pub fn hash(&self) -> [u8; 32] {
        let header = GenesisHeader {
            height: 0,
            parent_hash: [0; 32],
            slot: 0,
            slot_ms: self.slot_ms,
            parameters: self.parameters.clone(),
            kzg: self.kzg,
            imported_size: self.imported_size,
            manifest_hash: self.manifest_hash,
        };
        blake3::hash(&header.encode()).into()
    }

    /// Imported bytes in block 0.
    pub fn imported_in_block_0(&self) -> u64 {
        self.imported_size.min(BLOCK_0_SIZE as u64)
    }

    /// The slot at a time, none before slot 0.
    pub fn slot_at(&self, time_ms: u64) -> Option<u64> {
        Some(time_ms.checked_sub(self.genesis_time_ms)? / self.slot_ms)
    }

    /// When a slot begins, in milliseconds since 1970.
    pub fn slot_time_ms(&self, slot: u64) -> u64 {
        slot.saturating_mul(self.slot_ms).saturating_add(self.genesis_time_ms)
    }
}

/// Milliseconds since 1970; a clock before that counts as 0.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> GenesisParameters {
        GenesisParameters { genesis_time_ms: Some(5000), slot_ms: Some(200), ..GenesisParameters::default() }
    }

    #[test]
    fn defaults_and_slots() {
        let genesis = Genesis::new(&asked(), [1; 32], 10).unwrap();
        assert_eq!(genesis.parameters.expected_pieces, 128);
        assert_eq!(genesis.slot_at(4999), None);
        assert_eq!(genesis.slot_at(5399), Some(1));
        assert_eq!(genesis.slot_time_ms(1), 5200);
        assert_eq!(Genesis::decode(&genesis.encode()).unwrap(), genesis);
        assert!(Genesis::decode(b"{}").is_err());
    }

    #[test]
    fn the_hash_covers_the_chain_and_not_the_time() {
        let genesis = Genesis::new(&asked(), [1; 32], 10).unwrap();
        let later = Genesis { genesis_time_ms: 9, segments_at_start: 2, ..genesis.clone() };
        assert_eq!(genesis.hash(), later.hash());
        let others = [
            Genesis { slot_ms: 300, ..genesis.clone() },
            Genesis { kzg: [7; 32], ..genesis.clone() },
            Genesis { manifest_hash: [7; 32], ..genesis.clone() },
            Genesis {
                parameters: ChainParameters { era_blocks: 7, ..genesis.parameters.clone() },
                ..genesis.clone()
            },
        ];
        assert!(others.iter().all(|other| other.hash() != genesis.hash()));
    }

    #[test]
    fn a_stored_chain_refuses_other_flags() {
        let genesis = Genesis::new(&asked(), [1; 32], 10).unwrap();
        genesis.check(&GenesisParameters::default()).unwrap();
        genesis.check(&GenesisParameters { slot_ms: Some(200), ..GenesisParameters::default() }).unwrap();
        let error =
            genesis.check(&GenesisParameters { max_pieces_in_sector: Some(20), ..asked() }).unwrap_err();
        assert!(error.to_string().contains("--max-pieces-in-sector 32, not 20"), "{error}");
        let other = GenesisParameters { kzg: [3; 32], ..asked() };
        assert_eq!(genesis.check(&other), Err(GenesisError::OtherKzg));
        assert!(Genesis::new(&GenesisParameters { slot_ms: Some(1), ..asked() }, [1; 32], 10).is_err());
        assert!(Genesis::new(&GenesisParameters { segments: Some(0), ..asked() }, [1; 32], 10).is_err());
        assert!(Genesis::new(&GenesisParameters { era_blocks: Some(0), ..asked() }, [1; 32], 10).is_err());
    }
}
