//! Pieces and sectors that the tests share.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use consensus::CpuLevel;
use consensus::constants::RECORD_SIZE;
use consensus::erasure::extend_record;
use consensus::piece::Piece;
use consensus::sector::{RecordEncoder, RecordMetadata, SectorAssembler, SectorMetadata};
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use gpu::cpu::{CpuEncoder, CpuEncoderOptions, session_slabs};
use gpu::{EncodingSession, FinishedSector, PieceError, PieceToEncode, SectorPlan};

/// A plan of so many pieces.
pub fn plan(pieces_in_sector: u16) -> SectorPlan {
    SectorPlan { public_key: [5; 32], sector_index: 2, history_size: 9, pieces_in_sector }
}

/// A piece of pseudo-random scalars; its points are not looked at by encoders.
pub fn piece(number: u16) -> Piece {
    let mut piece = Piece::zeroed();
    let mut random = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    piece.record_mut().iter_mut().for_each(|chunk| random.fill(&mut chunk[1..]));
    piece.set_commitment(&[number as u8; 48]);
    piece.set_witness(&[number as u8 + 100; 48]);
    piece
}

/// The sector as `consensus` alone makes it.
pub fn expected(plan: &SectorPlan, pieces: &[Piece]) -> (Vec<u8>, SectorMetadata) {
    let mut encoder = RecordEncoder::new(CpuLevel::detect());
    let (mut records, mut bitfields, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    for (offset, piece) in (0..).zip(pieces) {
        let mut record = piece.view().record.to_vec();
        bitfields.push(encoder.encode(&plan.sector_id().evaluation_seed(offset), &mut record).unwrap());
        records.push(record);
        metadata.push(RecordMetadata::of(&piece.view()));
    }
    let assembler = SectorAssembler::new(records.iter().map(Vec::as_slice).collect(), bitfields, &metadata);
    let sector_metadata = assembler.sector_metadata(plan.sector_index, plan.history_size);
    (assembler.to_sector(), sector_metadata)
}

/// An encoder that has memory for `sessions` sectors of `pieces`, and its pool, which has no more.
pub fn encoder(threads: usize, pieces: u16, sessions: usize) -> (CpuEncoder, Pool) {
    let memory_slabs = sessions * session_slabs(pieces, threads, 1);
    let pool = Pool::new(memory_slabs, 64).unwrap();
    let threads = ThreadWorkers::unbound(threads);
    let options = CpuEncoderOptions {
        threads,
        level: CpuLevel::detect(),
        pool: pool.clone(),
        memory_slabs,
        piece_slabs: 1,
    };
    (CpuEncoder::new(options).unwrap(), pool)
}

/// The piece as it arrives: its record on the second block of a slab.
pub async fn arrived(
    (session, pool): (&dyn EncodingSession, &Pool),
    piece_offset: u16,
    piece: &Piece,
) -> PieceToEncode {
    let credit = session.credit().await;
    let mut record = pool.acquire().await.unwrap().narrow(4096..4096 + RECORD_SIZE);
    let view = piece.view();
    record.copy_from_slice(view.record.as_flattened());
    let (commitment, witness, hash) = (*view.commitment, *view.witness, view.hash());
    PieceToEncode { piece_offset, record: record.freeze(), parity: None, credit, commitment, witness, hash }
}

/// The same with the parity of another piece's record, or of its own.
pub async fn arrived_with_parity(
    (session, pool): (&dyn EncodingSession, &Pool),
    piece_offset: u16,
    piece: &Piece,
    parity_of: &Piece,
) -> PieceToEncode {
    let mut parity = pool.acquire().await.unwrap().narrow(..RECORD_SIZE);
    extend_record(parity_of.view().record, parity.as_chunks_mut().0).unwrap();
    PieceToEncode { parity: Some(parity.freeze()), ..arrived((session, pool), piece_offset, piece).await }
}

/// Submits a piece and waits for it.
pub async fn submit(
    (session, pool): (&dyn EncodingSession, &Pool),
    offset: u16,
    piece: &Piece,
) -> Result<(), PieceError> {
    session.submit(arrived((session, pool), offset, piece).await).await
}

/// All bytes of a finished sector.
pub async fn bytes(sector: &mut FinishedSector) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(slab) = sector.next().await {
        bytes.extend_from_slice(&slab.unwrap());
    }
    bytes
}
