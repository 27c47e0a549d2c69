//! The CPU prover through the seam, up to the verdict of verification.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{bytes, encoder, piece, plan};
use consensus::bls::{Scalar, scalars_from_bytes};
use consensus::challenge::SectorSlotChallenge;
use consensus::constants::{RECORD_CHUNKS, RECORD_SIZE, contents_map_size};
use consensus::kzg::{Kzg, Polynomial, insecure};
use consensus::piece::Piece;
use consensus::sector::{ContentsMap, DecodeError, SectorMetadata};
use consensus::solution::Solution;
use consensus::verify::{VerifyParameters, verify_solution};
use consensus::{CpuLevel, audit};
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use futures::FutureExt;
use futures::executor::block_on;
use gpu::cpu::{CpuProver, CpuProverOptions};
use gpu::{ProofRequest, ProveError, Prover, SectorEncoder};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A sector of one piece, whose commitment is true.
struct Plotted {
    piece: Piece,
    sector: Vec<u8>,
    metadata: SectorMetadata,
    pool: Pool,
    prover: CpuProver,
    kzg: Arc<Kzg>,
}

fn plotted(queue_limit: usize) -> Plotted {
    let kzg = Arc::new(Kzg::from_parameters(&insecure::parameters()).unwrap());
    let mut piece = piece(1);
    let mut values = vec![Scalar::ZERO; RECORD_CHUNKS];
    scalars_from_bytes(piece.view().record, &mut values).unwrap();
    piece.set_commitment(&kzg.commit(&Polynomial::from_values(&values).unwrap()).unwrap());
    let (encoder, pool) = encoder(1, 1, 1);
    let (sector, metadata) = block_on(async {
        let session = encoder.begin(plan(1)).await.unwrap();
        common::submit((&*session, &pool), 0, &piece).await.unwrap();
        let mut sector = session.finish().await.unwrap();
        (bytes(&mut sector).await, sector.metadata().clone())
    });
    let options =
        CpuProverOptions { threads: ThreadWorkers::unbound(1), level: CpuLevel::detect(), queue_limit };
    let prover = CpuProver::new(&options, kzg.clone()).unwrap();
    Plotted { piece, sector, metadata, pool, prover, kzg }
}

impl Plotted {
    fn map(&self) -> ContentsMap {
        ContentsMap::decode(&self.sector[..contents_map_size(1)], 1).unwrap()
    }

    fn chunks(&self) -> &[[u8; 32]] {
        self.sector[contents_map_size(1)..][..RECORD_SIZE].as_chunks().0
    }

    fn request(&self, s_bucket: u16, deadline: Instant) -> ProofRequest {
        let locations = self.map().chunk_locations(0, &self.metadata.s_bucket_sizes).unwrap();
        let mut slab = self.pool.try_acquire().unwrap();
        for (chunk, location) in slab.as_chunks_mut().0.iter_mut().zip(locations) {
            *chunk = self.chunks()[location as usize];
        }
        let record = slab.narrow(..RECORD_SIZE).freeze();
        let (seed, bitfield) = (plan(1).sector_id().evaluation_seed(0), self.map().records()[0].clone());
        ProofRequest { seed, record, bitfield, s_bucket, deadline }
    }
}

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn a_proof_is_accepted_by_verification() {
    let plotted = plotted(4);
    let id = plan(1).sector_id();
    let (global_challenge, s_bucket, distance) = (0u64..)
        .find_map(|slot| {
            let global = *blake3::hash(&slot.to_le_bytes()).as_bytes();
            let challenge = SectorSlotChallenge::new(&id, &global);
            let s_bucket = challenge.s_bucket();
            let chunk = plotted.chunks().get(plotted.metadata.chunks_before(s_bucket) as usize)?;
            let used = plotted.map().records()[0].get(s_bucket);
            let found = audit::audit(CpuLevel::detect(), &global, &challenge, u64::MAX, &[*chunk]);
            Some((global, s_bucket, found.first().filter(|_| used)?.distance))
        })
        .unwrap();
    let proved = block_on(plotted.prover.prove(plotted.request(s_bucket, in_a_minute()))).unwrap();
    let solution = Solution {
        public_key: plan(1).public_key,
        reward_address: [8; 32],
        sector_index: plan(1).sector_index,
        history_size: plan(1).history_size,
        piece_offset: 0,
        record_commitment: *plotted.piece.view().commitment,
        record_witness: [0; 48],
        chunk: proved.chunk,
        chunk_witness: proved.chunk_witness,
        proof_of_space: proved.proof_of_space,
    };
    let parameters = VerifyParameters { global_challenge, solution_range: 2 * distance, piece_check: None };
    assert_eq!(verify_solution(&solution, &parameters, plotted.kzg.verifier()), Ok(distance));
    assert_eq!(plotted.pool.stats().in_use, 0);
}

#[test]
fn late_surplus_and_abandoned_requests_are_dropped_and_counted() {
    let plotted = plotted(2);
    let s_bucket = plotted.map().records()[0].used().next().unwrap().0;
    let request = || plotted.request(s_bucket, in_a_minute());
    let within = |time_ms| Instant::now() + Duration::from_millis(time_ms);
    let mut requests = vec![request(), request(), request(), request()].into_iter();
    let mut prove = |deadline| {
        let request = requests.next().unwrap();
        plotted.prover.prove(ProofRequest { deadline, ..request })
    };
    block_on(async {
        let mut working = prove(in_a_minute());
        assert_eq!((&mut working).now_or_never(), None);
        while plotted.prover.stats().queued > 0 {
            std::thread::yield_now();
        }
        // The worker is busy for longer than this deadline.
        let mut late = prove(within(50));
        let mut abandoned = prove(in_a_minute());
        assert_eq!(((&mut late).now_or_never(), (&mut abandoned).now_or_never()), (None, None));
        assert_eq!(prove(in_a_minute()).await, Err(ProveError::Busy { limit: 2 }));
        assert_eq!(plotted.pool.stats().in_use, 3);
        drop(abandoned);
        assert_eq!((plotted.pool.stats().in_use, plotted.prover.stats().queued), (2, 1));
        assert!(working.await.is_ok());
        assert_eq!(late.await, Err(ProveError::Late));
        let hopeless = plotted.prover.prove(plotted.request(s_bucket, Instant::now()));
        assert_eq!(hopeless.await, Err(ProveError::Late));
    });
    let stats = plotted.prover.stats();
    assert_eq!((stats.proved, stats.late, stats.refused, stats.failed), (1, 2, 1, 0));
    assert_eq!(plotted.pool.stats().in_use, 0);
}

#[test]
fn records_that_cannot_be_proved_are_errors() {
    let plotted = plotted(2);
    let map = plotted.map();
    let bitfield = &map.records()[0];
    let unused = (0..=u16::MAX).find(|s_bucket| !bitfield.get(*s_bucket)).unwrap();
    let used = bitfield.used().next().unwrap().0;
    let error = |request| block_on(plotted.prover.prove(request)).unwrap_err();
    let not_encoded = error(plotted.request(unused, in_a_minute()));
    assert_eq!(not_encoded, ProveError::Record(DecodeError::NotEncoded(unused)));
    let mut short = plotted.request(used, in_a_minute());
    short.record = short.record.slice(..RECORD_SIZE - 1);
    assert!(matches!(error(short), ProveError::Record(DecodeError::Length(_))));
    assert_eq!(plotted.prover.stats().failed, 2);
}
