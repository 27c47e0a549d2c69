//! A plot-server's part: a sector made for a job, staged and served.

use crate::house::{PATIENCE, host_config, publish};
use bus::SharedBus;
use cluster::host::Host;
use consensus::CpuLevel;
use consensus::bls::{Scalar, scalars_from_bytes};
use consensus::constants::RECORD_CHUNKS;
use consensus::kzg::{Kzg, Polynomial};
use consensus::piece::Piece;
use consensus::sector::{RecordEncoder, RecordMetadata, SectorAssembler, SectorId, public_key_hash};
use control::messages::{Control, PlotJob, PlotPhase, PlotProgress, Role, subjects};
use engine::pool::Pool;
use futures::future::LocalBoxFuture;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use transport::message::{Refusal, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{Answer, Handler, PeerInfo, Received, SlabPayload};

/// A sector and its metadata, encoded.
pub struct Made {
    pub bytes: Vec<u8>,
    pub metadata: Vec<u8>,
}

/// A piece of pseudo-random scalars with its true commitment; the witness is not looked at here.
pub fn piece(number: u16, kzg: &Kzg) -> Piece {
    let mut piece = Piece::zeroed();
    let mut random = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    piece.record_mut().iter_mut().for_each(|chunk| random.fill(&mut chunk[1..]));
    let mut values = vec![Scalar::ZERO; RECORD_CHUNKS];
    scalars_from_bytes(piece.view().record, &mut values).unwrap();
    piece.set_commitment(&kzg.commit(&Polynomial::from_values(&values).unwrap()).unwrap());
    piece
}

/// What a job asks for, of made-up pieces.
pub fn make(job: &PlotJob, kzg: &Kzg) -> Made {
    let (index, history_size) = (job.sector.sector_index, job.sector.history_size);
    let id = SectorId::new(&public_key_hash(&job.public_key), index, history_size);
    let mut encoder = RecordEncoder::new(CpuLevel::detect());
    let (mut records, mut bitfields, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    for offset in 0..job.pieces_in_sector {
        let piece = piece(offset, kzg);
        let mut record = piece.view().record.to_vec();
        bitfields.push(encoder.encode(&id.evaluation_seed(offset), &mut record).unwrap());
        records.push(record);
        metadata.push(RecordMetadata::of(&piece.view()));
    }
    let assembler = SectorAssembler::new(records.iter().map(Vec::as_slice).collect(), bitfields, &metadata);
    let metadata = assembler.sector_metadata(index, history_size).encode();
    Made { bytes: assembler.to_sector(), metadata }
}

/// Serves one staged sector.
struct Staged {
    staging: [u8; 16],
    made: Arc<Made>,
    pool: Pool,
    /// So many ranges more have a wrong bit under a right hash.
    damaged: Cell<u32>,
}

impl Staged {
    async fn answer(self: Rc<Self>, request: Request) -> Answer {
        let not_found = || Refusal::new(RefusalCode::NotFound, "not staged here");
        match request {
            Request::GetSectorMetadata { staging } if staging == self.staging => {
                let (payload, blake3) = self.payload(&self.made.metadata).await;
                let sector_bytes = self.made.bytes.len() as u64;
                Ok((Response::SectorMetadata { blake3, sector_bytes }, Some(payload)))
            }
            Request::GetSectorRange { staging, offset, length, .. } if staging == self.staging => {
                let range = offset as usize..offset as usize + length as usize;
                let mut bytes = self.made.bytes.get(range).unwrap().to_vec();
                let blake3 = *blake3::hash(&bytes).as_bytes();
                if let Some(left) = self.damaged.get().checked_sub(1) {
                    self.damaged.set(left);
                    bytes[1000] ^= 4;
                }
                let (payload, _) = self.payload(&bytes).await;
                Ok((Response::SectorRange { blake3 }, Some(payload)))
            }
            _ => Err(not_found()),
        }
    }

    async fn payload(&self, bytes: &[u8]) -> (SlabPayload, [u8; 32]) {
        let mut slab = self.pool.acquire().await.unwrap().narrow(..bytes.len());
        slab.copy_from_slice(bytes);
        let payload = SlabPayload::run(slab.freeze());
        let blake3 = payload.blake3();
        (payload, blake3)
    }
}

impl Handler for Staged {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        _: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        Box::pin(self.answer(request))
    }
}

/// Stages the sector and says so until the plot-client answers; gives its answer. So many ranges are sent `damaged` before all are sent
/// as they are.
pub async fn stage(
    bus: &SharedBus,
    job: &PlotJob,
    made: Made,
    checksum: [u8; 32],
    damaged: u32,
) -> PlotPhase {
    let (staging, made) = (job.sector.staging(), Arc::new(made));
    let sector_size_bytes = made.bytes.len() as u64;
    let handler = move |local: engine::Local| {
        let (pool, damaged) = (local.pool().clone(), Cell::new(damaged));
        Rc::new(Staged { staging, made, pool, damaged })
    };
    let host = Host::start(host_config(Role::PlotServer), bus.clone(), handler).await.unwrap();
    let mut answers = bus.subscribe(&subjects::plot_answer(host.id())).await.unwrap();
    let phase = PlotPhase::Staged { sector_size_bytes, checksum };
    let staged = PlotProgress { sector: job.sector, server: host.id(), phase };
    let answer = async {
        loop {
            publish(bus, &subjects::plot_progress(job.sector.farm), &staged).await;
            let until = tokio::time::Instant::now() + Duration::from_millis(300);
            while let Ok(message) = tokio::time::timeout_at(until, answers.next()).await {
                let said = PlotProgress::from_bytes(&message.unwrap().payload).unwrap();
                if said.sector == job.sector && said.phase != PlotPhase::Wanted {
                    return said.phase;
                }
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap();
    // It goes on serving for half of this, and nobody asks it any more.
    host.shutdown(Duration::from_secs(4)).await;
    answer
}
