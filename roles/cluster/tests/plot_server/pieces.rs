//! Pieces that follow from their index, and the sector as consensus alone makes it.

use async_trait::async_trait;
use cluster::plot_server::{FetchedPiece, Missing, PieceFailure, Pieces};
use consensus::CpuLevel;
use consensus::erasure::extend_record;
use consensus::piece::Piece;
use consensus::sector::{
    ProtocolInfo, RecordEncoder, RecordMetadata, SectorAssembler, SectorId, public_key_hash,
};
use control::ids::InstanceId;
use control::messages::PlotJob;
use engine::pool::{Pool, Slab};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use transport::tcp::{PIECE_POINTS_AT, PIECE_RECORD_AT};

/// A piece of pseudo-random scalars; its points are not looked at by encoders.
pub fn piece(index: u64) -> Piece {
    let mut piece = Piece::zeroed();
    let mut random = blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof();
    piece.record_mut().iter_mut().for_each(|chunk| random.fill(&mut chunk[1..]));
    piece.set_commitment(&[index as u8; 48]);
    piece.set_witness(&[index as u8 ^ 1; 48]);
    piece
}

/// Whoever gives parity.
const GIVER: InstanceId = InstanceId([9; 16]);

/// Gives [`piece`]s, and their parity. The first of all pieces comes damaged, and the first parity is none.
pub struct Library {
    pub pool: Pool,
    pub given: AtomicUsize,
    pub parities: AtomicUsize,
}

#[async_trait]
impl Pieces for Library {
    async fn get(&self, index: u64, _: &Missing) -> Result<FetchedPiece, PieceFailure> {
        let (mut slab, piece) = (self.pool.acquire().await?, piece(index));
        let view = piece.view();
        slab[PIECE_RECORD_AT..][..1 << 20].copy_from_slice(view.record.as_flattened());
        let points = [*view.commitment, *view.witness];
        slab[PIECE_POINTS_AT..PIECE_RECORD_AT].copy_from_slice(points.as_flattened());
        if self.given.fetch_add(1, Ordering::Relaxed) == 0 {
            slab[PIECE_RECORD_AT + 99] ^= 1;
        }
        Ok((slab.freeze(), view.hash()))
    }

    async fn parity(&self, index: u64) -> Option<(Slab, InstanceId)> {
        let mut slab = self.pool.acquire().await.ok()?.narrow(..1 << 20);
        match self.parities.fetch_add(1, Ordering::Relaxed) {
            0 => slab.fill(0xff),
            1 => return None,
            _ => extend_record(piece(index).view().record, slab.as_chunks_mut().0).ok()?,
        }
        Some((slab.freeze(), GIVER))
    }

    async fn parity_was_wrong(&self, _: u64, giver: InstanceId) {
        assert_eq!(giver, GIVER);
    }
}

/// No piece ever comes.
pub struct Nothing;

#[async_trait]
impl Pieces for Nothing {
    async fn get(&self, _: u64, _: &Missing) -> Result<FetchedPiece, PieceFailure> {
        std::future::pending().await
    }
}

/// Gives [`piece`]s, but for one that nobody has.
pub struct Gap {
    pub library: Library,
    pub missing: u64,
}

#[async_trait]
impl Pieces for Gap {
    async fn get(&self, index: u64, missing: &Missing) -> Result<FetchedPiece, PieceFailure> {
        if index != self.missing {
            return self.library.get(index, missing).await;
        }
        loop {
            missing.note(index, "not here");
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
}

/// Indexes in the history of a job's pieces.
pub fn indexes(job: &PlotJob) -> Vec<u64> {
    let id =
        SectorId::new(&public_key_hash(&job.public_key), job.sector.sector_index, job.sector.history_size);
    let info = ProtocolInfo::from(&job.protocol_info);
    (0..job.pieces_in_sector).map(|offset| id.piece_index(offset, job.sector.history_size, &info)).collect()
}

/// Sector and encoded metadata of a job.
pub fn expected(job: &PlotJob) -> (Vec<u8>, Vec<u8>) {
    let (index, history_size) = (job.sector.sector_index, job.sector.history_size);
    let id = SectorId::new(&public_key_hash(&job.public_key), index, history_size);
    let info = ProtocolInfo::from(&job.protocol_info);
    let mut encoder = RecordEncoder::new(CpuLevel::detect());
    let (mut records, mut bitfields, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    for offset in 0..job.pieces_in_sector {
        let piece = piece(id.piece_index(offset, history_size, &info));
        let mut record = piece.view().record.to_vec();
        bitfields.push(encoder.encode(&id.evaluation_seed(offset), &mut record).unwrap());
        records.push(record);
        metadata.push(RecordMetadata::of(&piece.view()));
    }
    let assembler = SectorAssembler::new(records.iter().map(Vec::as_slice).collect(), bitfields, &metadata);
    let metadata = assembler.sector_metadata(index, history_size).encode();
    (assembler.to_sector(), metadata)
}
