//! A sector from pieces to verified solution, without history: encode, read back, audit, prove.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use consensus::challenge::SectorSlotChallenge;
use consensus::constants::{RECORD_CHUNKS, contents_map_size, sector_size};
use consensus::kzg::{Kzg, Polynomial, insecure};
use consensus::piece::Piece;
use consensus::sector::{
    ContentsMap, RecordDecoder, RecordEncoder, RecordMetadata, SectorAssembler, SectorId, SectorMetadata,
    public_key_hash,
};
use consensus::solution::Solution;
use consensus::verify::{VerifyError, VerifyParameters, verify_solution};
use consensus::{CpuLevel, audit};

const PUBLIC_KEY: [u8; 32] = [5; 32];

/// A piece of pseudo-random scalars with its true commitment; the witness is not looked at here.
fn piece(number: u8, kzg: &Kzg) -> Piece {
    let mut piece = Piece::zeroed();
    let mut random = blake3::Hasher::new().update(&[number]).finalize_xof();
    for chunk in piece.record_mut() {
        random.fill(&mut chunk[1..]);
    }
    let mut values = vec![consensus::bls::Scalar::ZERO; RECORD_CHUNKS];
    consensus::bls::scalars_from_bytes(piece.view().record, &mut values).unwrap();
    piece.set_commitment(&kzg.commit(&Polynomial::from_values(&values).unwrap()).unwrap());
    piece
}

struct Plotted {
    id: SectorId,
    pieces: Vec<Piece>,
    sector: Vec<u8>,
    metadata: SectorMetadata,
}

fn plot(kzg: &Kzg, pieces: u8) -> Plotted {
    let id = SectorId::new(&public_key_hash(&PUBLIC_KEY), 2, 9);
    let pieces: Vec<Piece> = (0..pieces).map(|number| piece(number, kzg)).collect();
    let mut encoder = RecordEncoder::new(CpuLevel::detect());
    let (mut records, mut bitfields, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    for (offset, piece) in pieces.iter().enumerate() {
        let mut record = piece.view().record.to_vec();
        bitfields.push(encoder.encode(&id.evaluation_seed(offset as u16), &mut record).unwrap());
        records.push(record);
        metadata.push(RecordMetadata::of(&piece.view()));
    }
    let assembler = SectorAssembler::new(records.iter().map(Vec::as_slice).collect(), bitfields, &metadata);
    let metadata = assembler.sector_metadata(2, 9);
    Plotted { id, pieces, sector: assembler.to_sector(), metadata }
}

impl Plotted {
    fn chunks(&self) -> &[[u8; 32]] {
        let count = self.pieces.len() * RECORD_CHUNKS;
        self.sector[contents_map_size(self.pieces.len() as u16)..][..32 * count].as_chunks().0
    }

    fn stored_record(&self, map: &ContentsMap, offset: u16) -> Vec<[u8; 32]> {
        let locations = map.chunk_locations(offset, &self.metadata.s_bucket_sizes).unwrap();
        locations.into_iter().map(|location| self.chunks()[location as usize]).collect()
    }
}

#[test]
fn a_sector_is_read_audited_proved_and_verified() {
    let kzg = Kzg::from_parameters(&insecure::parameters()).unwrap();
    let plotted = plot(&kzg, 2);
    assert_eq!(plotted.sector.len(), sector_size(2));
    let map = ContentsMap::decode(&plotted.sector[..contents_map_size(2)], 2).unwrap();
    assert_eq!(map.s_bucket_sizes(), plotted.metadata.s_bucket_sizes);
    let mut decoder = RecordDecoder::new(CpuLevel::detect());

    for (offset, piece) in plotted.pieces.iter().enumerate() {
        let mut stored = plotted.stored_record(&map, offset as u16);
        let (seed, bitfield) = (plotted.id.evaluation_seed(offset as u16), &map.records()[offset]);
        let metadata = RecordMetadata::of(&piece.view());
        assert_eq!(&decoder.read_piece(&seed, &stored, bitfield, &metadata).unwrap(), piece);
        stored[77][31] ^= 1;
        assert!(decoder.read_piece(&seed, &stored, bitfield, &metadata).is_err());
    }

    let (slot_challenge, s_bucket, candidate) = first_candidate(&plotted);
    let global_challenge = slot_challenge;
    let (offset, encoded) = map.record_at(s_bucket, candidate.chunk_offset).unwrap();
    assert!(encoded);
    let stored = plotted.stored_record(&map, offset);
    let seed = plotted.id.evaluation_seed(offset);
    let proved = decoder.prove(&seed, &stored, &map.records()[usize::from(offset)], s_bucket, &kzg).unwrap();
    let solution = Solution {
        public_key: PUBLIC_KEY,
        reward_address: [8; 32],
        sector_index: 2,
        history_size: 9,
        piece_offset: offset,
        record_commitment: *plotted.pieces[usize::from(offset)].view().commitment,
        record_witness: [0; 48],
        chunk: proved.chunk,
        chunk_witness: proved.chunk_witness,
        proof_of_space: proved.proof_of_space,
    };
    let range = |range| VerifyParameters { global_challenge, solution_range: range, piece_check: None };
    let distance = candidate.distance;
    let verify = |solution: &Solution, solution_range| {
        verify_solution(solution, &range(solution_range), kzg.verifier())
    };
    assert_eq!(verify(&solution, 2 * distance), Ok(distance));
    assert!(matches!(verify(&solution, 2 * distance - 1), Err(VerifyError::OutsideSolutionRange { .. })));
    let other_offset = Solution { piece_offset: 1 - offset, ..solution.clone() };
    assert_eq!(verify(&other_offset, u64::MAX), Err(VerifyError::InvalidProofOfSpace));
    let other_witness = Solution { chunk_witness: solution.record_commitment, ..solution };
    assert_eq!(verify(&other_witness, u64::MAX), Err(VerifyError::InvalidChunkWitness));
}

/// The first challenge of a made-up series that has a candidate.
fn first_candidate(plotted: &Plotted) -> ([u8; 32], u16, audit::Candidate) {
    for slot in 0u64.. {
        let global_challenge = *blake3::hash(&slot.to_le_bytes()).as_bytes();
        let challenge = SectorSlotChallenge::new(&plotted.id, &global_challenge);
        let s_bucket = challenge.s_bucket();
        let start = plotted.metadata.chunks_before(s_bucket) as usize;
        let size = usize::from(plotted.metadata.s_bucket_sizes[usize::from(s_bucket)]);
        let chunks = &plotted.chunks()[start..start + size];
        let found = audit::audit(CpuLevel::detect(), &global_challenge, &challenge, u64::MAX / 2, chunks);
        if let Some(candidate) = found.first() {
            return (global_challenge, s_bucket, *candidate);
        }
    }
    unreachable!("half of all chunks are candidates at this range");
}
