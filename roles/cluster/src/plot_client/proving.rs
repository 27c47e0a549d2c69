//! From a candidate to a solution: the record off the disk, the proof from a proof-server or made here, and a check of it all.

use super::candidates::Candidate;
use super::farms::{FarmGone, FarmHandle, OpenFarm, is_replaced};
use crate::host::{Host, HostError};
use consensus::constants::S_BUCKET_BITFIELD_SIZE;
use consensus::kzg::Kzg;
use consensus::sector::{Bitfield, ProvedChunk, RecordMetadata, SectorId};
use consensus::solution::Solution;
use consensus::verify::{VerifyError, VerifyParameters, verify_solution};
use control::ids::InstanceId;
use control::messages::{Role, SlotInfo};
use engine::Class;
use engine::farm::{SectorError, SectorStatus};
use engine::pool::{AcquireError, Slab};
use futures::future::{Either, select};
use gpu::cpu::CpuProver;
use gpu::{ProofRequest, ProveError, Prover};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use transport::message::{Layout, Request, Response};

/// Part of the time left after which a proof is made here too, while the proof-server goes on.
const HEAD_START: u32 = 2;

/// What a proof starts from.
struct Loaded {
    sector_id: SectorId,
    piece_offset: u16,
    record: Slab,
    bitfield: Bitfield,
    metadata: RecordMetadata,
}

/// Why a candidate came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProvingError {
    /// Its chunk is not encoded, so it cannot win; nothing is wrong.
    #[error("the chunk is not encoded")]
    NotEncoded,
    /// The sector is being replaced.
    #[error("the sector is being replaced")]
    Replaced,
    /// The record could not be read.
    #[error("{0}")]
    Read(SectorError),
    /// The contents map knows fewer chunks in the s-bucket than the audit saw.
    #[error("the contents map does not fit the sector's s-buckets: the sector must be plotted again")]
    NoSuchChunk,
    /// No memory to ask a proof-server.
    #[error(transparent)]
    Memory(#[from] AcquireError),
    /// No proof.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The proof does not stand.
    #[error("the solution would be refused ({0}): the sector is damaged, scrub the farm")]
    Invalid(VerifyError),
    /// The farm has ended.
    #[error(transparent)]
    Gone(#[from] FarmGone),
}

impl From<SectorError> for ProvingError {
    fn from(error: SectorError) -> Self {
        if is_replaced(&error) { Self::Replaced } else { Self::Read(error) }
    }
}

/// Makes proofs, elsewhere or here.
pub struct Provers {
    host: Host,
    local: CpuProver,
    kzg: Arc<Kzg>,
    /// Spreads requests over the proof-servers.
    turn: AtomicUsize,
}

impl Provers {
    /// Asks the proof-servers that `host` sees, and `local` when there is none, or none answers.
    pub fn new(host: Host, local: CpuProver, kzg: Arc<Kzg>) -> Self {
        Self { host, local, kzg, turn: AtomicUsize::new(0) }
    }

    /// The solution for a candidate of `farm`, verified against the voting range of its slot.
    pub async fn solve(
        &self,
        farm: &FarmHandle,
        candidate: Candidate,
        slot: &SlotInfo,
        reward_address: &[u8; 32],
        deadline: Instant,
    ) -> Result<Solution, ProvingError> {
        let load = move |open: std::rc::Rc<OpenFarm>| async move { load(&open, &candidate).await };
        let loaded = farm.run(Class::ProofRead, load).await??;
        let proved = self.prove(&loaded, candidate.s_bucket, deadline).await?;
        let solution = Solution {
            public_key: farm.identity().public_key(),
            reward_address: *reward_address,
            sector_index: candidate.sector,
            history_size: candidate.history_size,
            piece_offset: loaded.piece_offset,
            record_commitment: loaded.metadata.commitment,
            record_witness: loaded.metadata.witness,
            chunk: proved.chunk,
            chunk_witness: proved.chunk_witness,
            proof_of_space: proved.proof_of_space,
        };
        let parameters = VerifyParameters {
            global_challenge: slot.global_challenge,
            solution_range: slot.voting_solution_range,
            piece_check: None,
        };
        let verified = verify_solution(&solution, &parameters, self.kzg.verifier());
        verified.map(|_| solution).map_err(ProvingError::Invalid)
    }

    /// Asks a proof-server and, when half of the time is gone without an answer, begins here too: whoever is first wins.
    async fn prove(
        &self,
        loaded: &Loaded,
        s_bucket: u16,
        deadline: Instant,
    ) -> Result<ProvedChunk, ProvingError> {
        let mut here = pin!(self.prove_here(loaded, s_bucket, deadline));
        let Some(server) = self.next_server() else { return here.await };
        let left = deadline.saturating_duration_since(Instant::now());
        let mut there = pin!(self.prove_at(server, loaded, s_bucket, left));
        let failed = match timeout(left / HEAD_START, &mut there).await {
            Ok(Ok(proved)) => return Ok(proved),
            Ok(Err(error)) => error,
            Err(_) => match select(there, &mut here).await {
                Either::Left((Ok(proved), _)) | Either::Right((Ok(proved), _)) => return Ok(proved),
                Either::Left((Err(error), _)) => error,
                Either::Right((Err(error), there)) => return there.await.map_err(|_| error),
            },
        };
        tracing::warn!(%server, "the proof is made here instead: {failed}");
        here.await
    }

    async fn prove_here(
        &self,
        loaded: &Loaded,
        s_bucket: u16,
        deadline: Instant,
    ) -> Result<ProvedChunk, ProvingError> {
        let request = ProofRequest {
            seed: loaded.sector_id.evaluation_seed(loaded.piece_offset),
            record: loaded.record.clone(),
            bitfield: loaded.bitfield.clone(),
            s_bucket,
            deadline,
        };
        Ok(self.local.prove(request).await?)
    }

    fn next_server(&self) -> Option<InstanceId> {
        let servers = self.host.members(Role::ProofServer);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        servers.get(turn.checked_rem(servers.len())?).map(|server| server.id)
    }

    async fn prove_at(
        &self,
        server: InstanceId,
        loaded: &Loaded,
        s_bucket: u16,
        limit: Duration,
    ) -> Result<ProvedChunk, RemoteError> {
        // Not awaited: this task holds memory already.
        let mut bitfield = self.host.pool().try_acquire().ok_or(RemoteError::Memory)?;
        bitfield = bitfield.narrow(..S_BUCKET_BITFIELD_SIZE);
        bitfield.copy_from_slice(loaded.bitfield.as_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&loaded.record).update(&bitfield);
        let request = Request::Prove {
            blake3: hasher.finalize().into(),
            sector_id: loaded.sector_id.0,
            piece_offset: loaded.piece_offset,
            s_bucket,
        };
        let payload = vec![loaded.record.clone(), bitfield.freeze()];
        let reply = self.host.request(server, request, payload, Layout::Run { phase: 0 }, limit).await?;
        match reply.response {
            Response::Proof { chunk, witness, proof_of_space } => {
                Ok(ProvedChunk { chunk, chunk_witness: witness, proof_of_space })
            }
            _ => unreachable!("the transport lets only a proof answer a request for one"),
        }
    }
}

/// Why a proof-server gave no proof.
#[derive(Debug, thiserror::Error)]
enum RemoteError {
    #[error("all buffers are in use")]
    Memory,
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Reads the record that a candidate's chunk is of. On the farm's executor.
async fn load(open: &OpenFarm, candidate: &Candidate) -> Result<Loaded, ProvingError> {
    let (farm, sector) = (&open.farm, candidate.sector);
    let map = farm.read_contents_map(Class::ProofRead, sector).await?;
    let found = map.record_at(candidate.s_bucket, candidate.chunk_offset);
    let (piece_offset, encoded) = found.ok_or(ProvingError::NoSuchChunk)?;
    drop(map);
    if !encoded {
        return Err(ProvingError::NotEncoded);
    }
    let metadata = farm.read_record_metadata(Class::ProofRead, sector, piece_offset).await?;
    let record = farm.read_record(Class::ProofRead, sector, piece_offset).await?;
    // Each read was of one sector; all were of the one audited if it is still there.
    let history_size = candidate.history_size;
    if farm.status(sector) != (SectorStatus::Plotted { history_size }) {
        return Err(ProvingError::Replaced);
    }
    let sector_id = farm.sector_id(sector, history_size);
    Ok(Loaded {
        sector_id,
        piece_offset,
        record: record.chunks.freeze(),
        bitfield: record.bitfield,
        metadata,
    })
}
