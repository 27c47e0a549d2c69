//! Full verification of pieces, in batches: whoever waits is served together, since a batch costs hardly more than a piece.

use std::sync::Arc;

use consensus::Workers;
use consensus::constants::SEGMENT_PIECES;
use consensus::kzg::{Kzg, PointBytes};
use consensus::piece::{Piece, PieceIndex};
use consensus::piece_verify::{Candidate, InvalidPiece, PieceHash, verify_pieces};
use engine::threads::ThreadWorkers;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, spawn_blocking};

/// Pieces of a batch, and pieces that wait for the next one.
const BATCH_MAX: usize = SEGMENT_PIECES;

/// A piece that belongs to history, and its BLAKE3.
pub type Verified = (Piece, PieceHash);

struct Job {
    index: PieceIndex,
    segment_commitment: PointBytes,
    piece: Piece,
    done: oneshot::Sender<Result<Verified, InvalidPiece>>,
}

/// Where to hand in pieces.
#[derive(Clone)]
pub struct Verifier(mpsc::Sender<Job>);

/// The other end; [`Batches::run`] does the work.
pub struct Batches(mpsc::Receiver<Job>);

impl Verifier {
    pub fn new() -> (Self, Batches) {
        let (sender, receiver) = mpsc::channel(BATCH_MAX);
        (Self(sender), Batches(receiver))
    }

    /// The piece and its hash if it belongs to history; waits for its batch. None when the controller ends.
    pub async fn verify(
        &self,
        index: PieceIndex,
        segment_commitment: PointBytes,
        piece: Piece,
    ) -> Option<Result<Verified, InvalidPiece>> {
        let (done, verdict) = oneshot::channel();
        self.0.send(Job { index, segment_commitment, piece, done }).await.ok()?;
        verdict.await.ok()
    }
}

impl Batches {
    /// Verifies what comes in on threads of its own, for ever.
    pub async fn run(mut self, kzg: Arc<Kzg>, workers: ThreadWorkers) -> Result<(), JoinError> {
        loop {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            if self.0.recv_many(&mut batch, BATCH_MAX).await == 0 {
                return Ok(());
            }
            let (kzg, workers) = (kzg.clone(), workers.clone());
            spawn_blocking(move || verify(&kzg, &workers, batch)).await?;
        }
    }
}

fn verify(kzg: &Kzg, workers: &dyn Workers, batch: Vec<Job>) {
    let candidate = |job| {
        let Job { index, segment_commitment, piece, .. }: &Job = job;
        Candidate { segment_commitment, position: index.position(), piece: piece.view() }
    };
    let candidates: Vec<_> = batch.iter().map(candidate).collect();
    let verdicts = verify_pieces(kzg, workers, &candidates);
    for (job, verdict) in batch.into_iter().zip(verdicts) {
        // Whoever asked may be gone.
        let _ = job.done.send(verdict.map(|hash| (job.piece, hash)));
    }
}
