//! From a candidate to a solution: the record off the disk, the proof from a proof-server or made here, and a check of it all. A
//! proof of a proof-server that does not stand counts as none: it says more of that server than of the sector.

use super::candidates::Candidate;
use super::farms::{FarmGone, FarmHandle, OpenFarm, is_replaced};
use crate::host::{Host, HostError};
use consensus::constants::S_BUCKET_BITFIELD_SIZE;
use consensus::kzg::Kzg;
use consensus::sector::{Bitfield, DecodeError, ProvedChunk, RecordMetadata, SectorId};
use consensus::solution::Solution;
use consensus::verify::{VerifyError, VerifyParameters, verify_solution};
use control::ids::InstanceId;
use control::messages::{Role, SlotInfo};
use engine::Class;
use engine::farm::{Depth, SectorError, SectorStatus};
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
    #[error("the contents map does not fit the sector's s-buckets")]
    NoSuchChunk,
    /// No memory to ask a proof-server.
    #[error(transparent)]
    Memory(#[from] AcquireError),
    /// No proof.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The proof does not stand.
    #[error("the solution would be refused ({0})")]
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

impl ProvingError {
    /// How much of the sector must be read to know whether it is damaged; none where this says nothing against it.
    pub fn doubt(&self) -> Option<Depth> {
        match self {
            Self::Read(SectorError::ContentsMap { .. }) => Some(Depth::Map),
            Self::Read(SectorError::Metadata { .. }) | Self::NoSuchChunk | Self::Invalid(_) => {
                Some(Depth::Whole)
            }
            Self::Prove(ProveError::Record(error)) => {
                let is_of_bytes = matches!(
                    error,
                    DecodeError::NoProof(_) | DecodeError::InvalidScalar(_) | DecodeError::Checksum
                );
                is_of_bytes.then_some(Depth::Whole)
            }
            // Of the disk, of memory, of time: not of the sector.
            Self::Read(_)
            | Self::Prove(_)
            | Self::NotEncoded
            | Self::Replaced
            | Self::Memory(_)
            | Self::Gone(_) => None,
        }
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
        let parameters = VerifyParameters {
            global_challenge: slot.global_challenge,
            solution_range: slot.voting_solution_range,
            piece_check: None,
        };
        let check = |proved: ProvedChunk| {
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
            verify_solution(&solution, &parameters, self.kzg.verifier()).map(|_| solution)
        };
        let s_bucket = candidate.s_bucket;
        let here = async {
            let proved = self.prove_here(&loaded, s_bucket, deadline).await?;
            check(proved).map_err(ProvingError::Invalid)
        };
        let Some(server) = self.next_server() else { return here.await };
        let left = deadline.saturating_duration_since(Instant::now());
        let there = async {
            let proved = self.prove_at(server, &loaded, s_bucket, left).await?;
            check(proved).map_err(RemoteError::Invalid)
        };
        first_good(server, there, here, left / HEAD_START).await
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
    #[error(
        "its proof would be refused ({0}); if that goes on, that proof-server, or its GPU, makes wrong ones"
    )]
    Invalid(VerifyError),
}

/// What a proof-server gives, which has `head_start` for itself; after that it is made here too, and the first that is good wins. One
/// that fails leaves it to the other.
async fn first_good<T, E>(
    server: InstanceId,
    there: impl Future<Output = Result<T, RemoteError>>,
    here: impl Future<Output = Result<T, E>>,
    head_start: Duration,
) -> Result<T, E> {
    let (mut there, mut here) = (pin!(there), pin!(here));
    let failed = match timeout(head_start, &mut there).await {
        Ok(Ok(good)) => return Ok(good),
        Ok(Err(error)) => error,
        Err(_) => match select(there, &mut here).await {
            Either::Left((Ok(good), _)) | Either::Right((Ok(good), _)) => return Ok(good),
            Either::Left((Err(error), _)) => error,
            Either::Right((Err(error), there)) => return there.await.map_err(|_| error),
        },
    };
    tracing::warn!(%server, "the proof is made here instead: {failed}");
    here.await
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

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: InstanceId = InstanceId([1; 16]);
    const HEAD_START: Duration = Duration::from_secs(2);

    async fn there(after_s: u64, is_good: bool) -> Result<&'static str, RemoteError> {
        tokio::time::sleep(Duration::from_secs(after_s)).await;
        if is_good { Ok("there") } else { Err(RemoteError::Invalid(VerifyError::InvalidProofOfSpace)) }
    }

    async fn here(takes_s: u64, is_good: bool) -> Result<&'static str, &'static str> {
        tokio::time::sleep(Duration::from_secs(takes_s)).await;
        if is_good { Ok("here") } else { Err("bad sector") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_proof_of_a_proof_server_costs_its_time_and_not_the_solution() {
        for (server, own, first) in [
            ((1, true), (1, true), Ok("there")),
            ((1, false), (1, true), Ok("here")),
            ((3, false), (1, true), Ok("here")),
            ((3, false), (2, true), Ok("here")),
            ((3, true), (2, true), Ok("there")),
            ((9, true), (1, false), Ok("there")),
            ((9, false), (1, false), Err("bad sector")),
        ] {
            let proved = first_good(SERVER, there(server.0, server.1), here(own.0, own.1), HEAD_START).await;
            assert_eq!(proved, first, "{server:?} {own:?}");
        }
    }
}
