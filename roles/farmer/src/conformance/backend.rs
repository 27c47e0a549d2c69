//! What computes tables, records and sectors: the processor through `consensus`, or kernels through the `gpu` crate.

use std::sync::Arc;

use super::json::Check;
use clap::ValueEnum;
use consensus::CpuLevel;
use consensus::constants::{RECORD_CHUNKS, RECORD_SIZE};
use consensus::erasure::extend_record;
use consensus::piece::Piece;
use consensus::pos::{Proof, Seed};
use consensus::sector::SectorMetadata;
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use futures::executor::block_on;
use gpu::card::{Budget, CardEncoder, CardEncoderOptions, EncodingDevice, Wanted};
use gpu::device::Device;
use gpu::device::cuda::{CudaDevice, cards, ptx};
use gpu::workbench::Workbench;
use gpu::{EncodingSession, PieceToEncode, SectorEncoder, SectorPlan};

/// What computes tables, records and sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// The processor.
    Cpu,
    /// The first GPU; for pos, erasure and sector
    Gpu,
    /// The kernels of the GPU, run by the processor; for the same suites
    #[cfg(feature = "kernel-shim")]
    KernelShim,
}

impl Backend {
    /// Its device, if it is one.
    pub fn device(self) -> Check<Option<KernelDevice>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Gpu => KernelDevice::new(Arc::new(first_gpu()?)).map(Some),
            #[cfg(feature = "kernel-shim")]
            Self::KernelShim => KernelDevice::new(kernel_shim()?).map(Some),
        }
    }
}

/// The kernels of the GPU on all processors, with the memory of a small card.
#[cfg(feature = "kernel-shim")]
pub(crate) fn kernel_shim() -> Check<Arc<dyn Device>> {
    use gpu::device::shim::{ShimDevice, ShimOptions};
    let os_threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(64));
    let options = ShimOptions {
        k: consensus::constants::POS_K,
        schedule_seed: None,
        os_threads: os_threads as u32,
        memory_bytes: 4 << 30,
    };
    Ok(Arc::new(ShimDevice::new(options).map_err(|error| error.to_string())?))
}

/// The first card that is new enough.
fn first_gpu() -> Check<CudaDevice> {
    let cards = cards().map_err(|error| error.to_string())?;
    let card = cards.iter().find(|card| card.check().is_ok()).unwrap_or(&cards[0]);
    card.check().map_err(|error| error.to_string())?;
    let ptx = ptx::for_compute_capability(card.capability).ok_or("there are no kernels for this GPU")?;
    CudaDevice::open(card, ptx).map_err(|error| error.to_string())
}

/// A device that runs kernels, and a bench on it for single steps.
pub(super) struct KernelDevice {
    device: Arc<dyn Device>,
    bench: Workbench,
}

impl KernelDevice {
    fn new(device: Arc<dyn Device>) -> Check<Self> {
        let bench = Workbench::new(&*device).map_err(|error| error.to_string())?;
        Ok(Self { device, bench })
    }

    /// The proof of every s-bucket.
    pub fn proofs(&self, seed: &Seed) -> Check<Vec<Option<Proof>>> {
        let grown = self.bench.grow(seed).map_err(|error| error.to_string())?;
        super::json::equal("flags of the tables", grown.flags, 0)?;
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let proofs = self.bench.proofs(&all).map_err(|error| error.to_string())?;
        let sized = |proof: Vec<u8>| proof.try_into().map_err(|_| "a proof has another size".to_owned());
        proofs.into_iter().map(|proof| proof.map(sized).transpose()).collect()
    }

    /// The parity of `source`: kernels extend whole records, and fewer values over and over have their parity over and over.
    fn extend(&self, source: &[[u8; 32]]) -> Check<Vec<[u8; 32]>> {
        if source.is_empty() || !RECORD_CHUNKS.is_multiple_of(source.len()) {
            return Err(format!("no record is {} chunks over and over", source.len()));
        }
        let record = source.repeat(RECORD_CHUNKS / source.len()).into_flattened();
        let (parity, result) = self.bench.extend(&record).map_err(|error| error.to_string())?;
        super::json::equal("first chunk that is no scalar", result.invalid, 0)?;
        let parity = parity.as_chunks().0;
        super::json::equal(
            "the parity repeats",
            parity == parity[..source.len()].repeat(RECORD_CHUNKS / source.len()),
            true,
        )?;
        Ok(parity[..source.len()].to_vec())
    }

    /// A whole sector as a plot-server makes it; each record is also compared with the CPU's.
    pub fn plot(&self, plan: SectorPlan, pieces: &[&Piece]) -> Check<(Vec<u8>, SectorMetadata)> {
        let wanted = Wanted {
            concurrency: Some(2),
            sessions: 1,
            pieces_in_sector: plan.pieces_in_sector,
            piece_slabs: 1,
        };
        let memory = self.device.memory().map_err(|error| error.to_string())?;
        let budget =
            Budget::plan(self.device.layout(), memory, &wanted).map_err(|error| error.to_string())?;
        let memory_slabs = budget.slabs();
        let pool = Pool::new(memory_slabs, 64).map_err(|error| error.to_string())?;
        let encoder = CardEncoder::new(CardEncoderOptions {
            devices: vec![EncodingDevice { device: self.device.clone(), budget, feeder: None }],
            pieces_in_sector: plan.pieces_in_sector,
            threads: ThreadWorkers::unbound(1),
            level: CpuLevel::current(),
            pool: pool.clone(),
            memory_slabs,
            check_every: 1,
        });
        let encoder = encoder.map_err(|error| error.to_string())?;
        block_on(plot(&encoder, &pool, plan, pieces))
    }
}

async fn plot(
    encoder: &CardEncoder,
    pool: &Pool,
    plan: SectorPlan,
    pieces: &[&Piece],
) -> Check<(Vec<u8>, SectorMetadata)> {
    let session = encoder.begin(plan).await.map_err(|error| error.to_string())?;
    let submissions = (0..).zip(pieces).map(|(offset, piece)| submit(&*session, pool, offset, piece));
    futures::future::try_join_all(submissions).await?;
    let mut sector = session.finish().await.map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(sector.size_bytes());
    while let Some(slab) = sector.next().await {
        bytes.extend_from_slice(&slab.map_err(|error| error.to_string())?);
    }
    Ok((bytes, sector.metadata().clone()))
}

async fn submit(session: &dyn EncodingSession, pool: &Pool, piece_offset: u16, piece: &Piece) -> Check {
    let credit = session.credit().await;
    let mut record = pool.acquire().await.map_err(|error| error.to_string())?.narrow(..RECORD_SIZE);
    let view = piece.view();
    record.copy_from_slice(view.record.as_flattened());
    let (commitment, witness, hash) = (*view.commitment, *view.witness, view.hash());
    let piece = PieceToEncode {
        piece_offset,
        record: record.freeze(),
        parity: None,
        credit,
        commitment,
        witness,
        hash,
    };
    session.submit(piece).await.map_err(|error| error.to_string())
}

/// The parity of `source`, by a device or the processor.
pub(super) fn extend(device: Option<&KernelDevice>, source: &[[u8; 32]]) -> Check<Vec<[u8; 32]>> {
    if let Some(device) = device {
        return device.extend(source);
    }
    let mut parity = vec![[0; 32]; source.len()];
    extend_record(source, &mut parity).map_err(|error| error.to_string())?;
    Ok(parity)
}
