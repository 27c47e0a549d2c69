//! The smallest farm: a sector of two records, in memory.

use consensus::CpuLevel;
use consensus::challenge::{SectorSlotChallenge, chunk_distance};
use consensus::identity::Identity;
use consensus::kzg::Kzg;
use consensus::piece::{Piece, PieceIndex};
use consensus::piece_verify::{Candidate, verify_piece};
use consensus::sector::{Bitfield, ProtocolInfo, RecordDecoder, RecordEncoder, SectorId, public_key_hash};
use consensus::segment::SegmentHeader;
use consensus::solution::Solution;
use node::{FarmerAppInfo, SegmentHeaderJson, SlotInfo};
use serde_json::json;

use super::client::Client;

/// Pieces of the sector.
const PIECES: u16 = 2;

struct Record {
    stored: Vec<[u8; 32]>,
    bitfield: Bitfield,
    commitment: [u8; 48],
    witness: [u8; 48],
}

pub struct Farm {
    pub identity: Identity,
    sector_id: SectorId,
    records: Vec<Record>,
    kzg: Kzg,
    decoder: RecordDecoder,
}

impl Farm {
    /// Fetches and verifies the pieces of sector 0 and encodes them.
    pub async fn plot(client: &mut Client, kzg: Kzg, entropy: u8) -> Self {
        let identity = Identity::from_entropy([entropy; 32]);
        let info = client.call("subspace_getFarmerAppInfo", json!([])).await;
        let info: ProtocolInfo = serde_json::from_value::<FarmerAppInfo>(info).unwrap().protocol_info.into();
        let sector_id = SectorId::new(&public_key_hash(&identity.public_key()), 0, info.history_size);
        let header = client.call("subspace_lastSegmentHeaders", json!([1])).await;
        let header: SegmentHeader =
            serde_json::from_value::<SegmentHeaderJson>(header[0].clone()).unwrap().into();
        let mut encoder = RecordEncoder::new(CpuLevel::detect());
        let mut records = Vec::new();
        for offset in 0..PIECES {
            let index = PieceIndex(sector_id.piece_index(offset, info.history_size, &info));
            let hex = client.call("subspace_piece", json!([index.0])).await;
            let bytes = hex::decode(hex.as_str().unwrap()).unwrap();
            let mut piece = Piece::from_bytes(bytes.into()).unwrap();
            let (segment_commitment, position) = (&header.segment_commitment, index.position());
            verify_piece(&kzg, &Candidate { segment_commitment, position, piece: piece.view() }).unwrap();
            let (commitment, witness) = (*piece.view().commitment, *piece.view().witness);
            let seed = sector_id.evaluation_seed(offset);
            let bitfield = encoder.encode(&seed, piece.record_mut()).unwrap();
            records.push(Record { stored: piece.view().record.to_vec(), bitfield, commitment, witness });
        }
        Self { identity, sector_id, records, kzg, decoder: RecordDecoder::new(CpuLevel::detect()) }
    }

    /// All solutions within the voting range, closest first.
    pub fn solve(&mut self, slot: &SlotInfo) -> Vec<Solution> {
        let challenge = SectorSlotChallenge::new(&self.sector_id, &slot.global_challenge);
        let s_bucket = challenge.s_bucket();
        let mut solutions = Vec::new();
        for (offset, record) in (0..).zip(&self.records) {
            if !record.bitfield.get(s_bucket) {
                continue;
            }
            let rank = (0..s_bucket).filter(|before| record.bitfield.get(*before)).count();
            let distance = chunk_distance(&slot.global_challenge, &challenge, &record.stored[rank]);
            if distance <= slot.voting_solution_range / 2 {
                let seed = self.sector_id.evaluation_seed(offset);
                let proved =
                    self.decoder.prove(&seed, &record.stored, &record.bitfield, s_bucket, &self.kzg).unwrap();
                let solution = Solution {
                    public_key: self.identity.public_key(),
                    reward_address: [1; 32],
                    sector_index: 0,
                    history_size: 1,
                    piece_offset: offset,
                    record_commitment: record.commitment,
                    record_witness: record.witness,
                    chunk: proved.chunk,
                    chunk_witness: proved.chunk_witness,
                    proof_of_space: proved.proof_of_space,
                };
                solutions.push((distance, solution));
            }
        }
        solutions.sort_by_key(|(distance, _)| *distance);
        solutions.into_iter().map(|(_, solution)| solution).collect()
    }
}
