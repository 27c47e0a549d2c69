//! A cache's part: the pieces of one sector, or others in their place.

use crate::house::host_config;
use crate::staging::piece;
use bus::SharedBus;
use cluster::host::Host;
use consensus::constants::RECORD_SIZE;
use consensus::kzg::Kzg;
use consensus::piece::Piece;
use consensus::sector::{SectorId, public_key_hash};
use control::messages::{PlotJob, Role};
use engine::pool::{Pool, Slab};
use futures::future::LocalBoxFuture;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use transport::message::{ItemKind, Refusal, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{Answer, Handler, PIECE_POINTS_AT, PIECE_RECORD_AT, PeerInfo, Received, SlabPayload};

struct Library(HashMap<u64, Slab>);

impl Handler for Library {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        _: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        let slab = match request {
            Request::GetItem { index, kind: ItemKind::Piece } => self.0.get(&index),
            _ => None,
        };
        let payload = slab.map(SlabPayload::piece);
        let answer = payload.map(|payload| (Response::Item { blake3: payload.blake3() }, Some(payload)));
        Box::pin(async move { answer.ok_or_else(|| Refusal::new(RefusalCode::NotFound, "not here")) })
    }
}

fn in_slab(pool: &Pool, piece: &Piece) -> Slab {
    let (view, mut slab) = (piece.view(), pool.try_acquire().unwrap());
    slab[PIECE_RECORD_AT..][..RECORD_SIZE].copy_from_slice(view.record.as_flattened());
    slab[PIECE_POINTS_AT..PIECE_RECORD_AT].copy_from_slice([*view.commitment, *view.witness].as_flattened());
    slab.freeze()
}

/// A cache with the pieces that [`crate::staging::make`] makes the sector of; one that lies has another's under their indexes, with true
/// hashes.
pub async fn library(bus: &SharedBus, job: &PlotJob, kzg: &Kzg, lies: bool) -> Host {
    let history_size = job.sector.history_size;
    let id = SectorId::new(&public_key_hash(&job.public_key), job.sector.sector_index, history_size);
    let info = (&job.protocol_info).into();
    let number = |offset: u16| if lies { offset + 7 } else { offset };
    let offsets = 0..job.pieces_in_sector;
    let index = |offset| id.piece_index(offset, history_size, &info);
    let pieces: Vec<_> = offsets.map(|offset| (index(offset), piece(number(offset), kzg))).collect();
    let shelve = move |local: engine::Local| {
        let slabs = pieces.iter().map(|(index, piece)| (*index, in_slab(local.pool(), piece)));
        Rc::new(Library(slabs.collect()))
    };
    Host::start(host_config(Role::FullPieceCache), bus.clone(), shelve).await.unwrap()
}
