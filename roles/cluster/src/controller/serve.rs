//! Gives pieces to members that found them nowhere else.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::pool::Slab;
use futures::future::LocalBoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use transport::message::{ItemKind, Refusal, RefusalCode, Request, Response};
use transport::tcp::{Answer, Handler, PeerInfo, Received, SlabPayload};

use super::context::Context;
use super::pieces::{PieceError, into_slab};
use super::rebuild::{Rebuilder, Rebuilt};
use super::settings::Known;
use consensus::piece::PieceIndex;

/// Requests that wait or are worked on; more are refused, and find another controller or come again.
const REQUESTS_MAX: usize = 64;

/// One request for a piece and the way back.
pub struct Ask {
    index: u64,
    done: oneshot::Sender<Result<(Slab, [u8; 32]), Refusal>>,
}

/// The part on the executor: hands requests to the runtime where the node is.
pub struct Desk(mpsc::Sender<Ask>);

impl Desk {
    pub fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        (Self(sender), receiver)
    }

    async fn get(&self, index: u64) -> Answer {
        let (done, answer) = oneshot::channel();
        let busy = |_| Refusal::new(RefusalCode::Busy, "this controller answers as many as it can");
        self.0.try_send(Ask { index, done }).map_err(busy)?;
        let ended = |_| Refusal::new(RefusalCode::Failed, "this controller ends");
        let (slab, blake3) = answer.await.map_err(ended)??;
        Ok((Response::Item { blake3 }, Some(SlabPayload::piece(&slab))))
    }
}

impl Handler for Desk {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        _: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        Box::pin(async move {
            match request {
                Request::GetItem { index, kind: ItemKind::Piece } => self.get(index).await,
                _ => Err(Refusal::new(RefusalCode::Invalid, "a controller gives pieces and nothing else")),
            }
        })
    }
}

/// The part beside the node: answers until the executor has ended.
pub async fn answer(
    mut asks: mpsc::Receiver<Ask>,
    context: &Arc<Context>,
    known: &Known,
    rebuilder: &Rebuilder,
) {
    let mut underway = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = underway.join_next(), if !underway.is_empty() => {}
            ask = asks.recv(), if underway.len() < REQUESTS_MAX => {
                let Some(ask) = ask else { return };
                let (context, rebuilder) = (context.clone(), rebuilder.clone());
                let history = known.agreed.borrow().as_ref().map_or(0, |info| info.protocol_info.history_size);
                underway.spawn(async move {
                    let Ask { index, mut done } = ask;
                    let piece = tokio::select! {
                        () = done.closed() => return,
                        piece = give(&context, &rebuilder, history, index) => piece,
                    };
                    // Whoever asked may have gone meanwhile.
                    let _ = done.send(piece.map_err(|error| refusal(&error)));
                });
            }
        }
    }
}

/// A piece that is here, or that the node has; one of the cluster's history, of so many segments, is rebuilt where it is nowhere else.
async fn give(
    context: &Context,
    rebuilder: &Rebuilder,
    history: u64,
    index: u64,
) -> Result<(Slab, [u8; 32]), PieceError> {
    let pool = context.host.pool();
    match context.pieces.piece(index, pool).await {
        Err(error @ (PieceError::NotAtHand(_) | PieceError::Node(_)))
            if PieceIndex(index).segment_index() < history =>
        {
            match rebuilder.piece(PieceIndex(index)) {
                Rebuilt::Piece(piece) => into_slab(&piece, pool).await,
                Rebuilt::NotYet => Err(PieceError::NotYet(index)),
                Rebuilt::Busy => Err(PieceError::Busy(index)),
                Rebuilt::Not => Err(error),
            }
        }
        piece => piece,
    }
}

fn refusal(error: &PieceError) -> Refusal {
    let code = match error {
        PieceError::Future(_) | PieceError::NotAtHand(_) => RefusalCode::NotFound,
        // This code alone makes askers wait here: another controller may have the node that this one has not.
        PieceError::NotYet(_) => RefusalCode::NotReady,
        PieceError::Memory(_) | PieceError::Busy(_) => RefusalCode::Busy,
        PieceError::Invalid { .. } => RefusalCode::Damaged,
        PieceError::Node(_) | PieceError::Spool(_) | PieceError::Ended => RefusalCode::Failed,
    };
    Refusal::new(code, error.to_string())
}
