//! Sectors made by devices.

use super::access::Access;
use super::area::Area;
use super::budget::Budget;
use super::card::Card;
use super::feeder::{Batches, Feeder, Inspections};
use super::finish::put_together;
use super::inspect::Inspection;
use super::pipeline::{LANES, Lane, Module};
use super::place::Place;
use super::rooms::{Lease, NoRoom, Rooms};
use super::{Registered, StartError, check_kernels};
use crate::device::{Device, DeviceError};
use crate::finished::{FinishedSector, Output};
use crate::meter::Meter;
use crate::queue::Queue;
use crate::session::{Counters, EncodedRecord, Progress, SectorMemory, Session};
use crate::workers::WorkerSet;
use crate::{BeginError, CardStats, EncoderStats, EncodingSession, FinishError, SectorEncoder, SectorPlan};
use async_trait::async_trait;
use consensus::CpuLevel;
use consensus::sector::RecordEncoder;
use engine::pool::{AcquireError, Pool};
use engine::threads::{CoreSet, ThreadWorkers};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use tokio::sync::Semaphore;

/// One record in so many is checked against the CPU unless told otherwise.
pub const DEFAULT_CHECK_EVERY: u64 = 2000;

/// A device that encodes.
#[derive(Clone)]
pub struct EncodingDevice {
    /// The device.
    pub device: Arc<dyn Device>,
    /// Its plan, see [`Budget::plan`].
    pub budget: Budget,
    /// Where its feeder runs; none: where the system puts it.
    pub feeder: Option<CoreSet>,
}

/// What an encoder is made of.
#[derive(Clone)]
pub struct CardEncoderOptions {
    /// Devices.
    pub devices: Vec<EncodingDevice>,
    /// What the plans were made for.
    pub pieces_in_sector: u16,
    /// Threads that inspect records and put sectors out. Each that inspects takes [`crate::cpu::WORKER_BYTES`].
    pub threads: ThreadWorkers,
    /// Instructions that records are inspected with.
    pub level: CpuLevel,
    /// Where buffers come from; all of it is made known to the devices.
    pub pool: Pool,
    /// Slabs that all sessions together may take: the [`Budget::slabs`] of all devices. Whoever else uses the pool must leave these.
    pub memory_slabs: usize,
    /// The first record, and then one in so many, is compared with what the CPU makes of it.
    pub check_every: u64,
}

/// Encodes with GPUs. Each has sessions of its own, the oldest session first. A device that is lost, or makes a mistake, goes out of service: its
/// sessions end with errors, and new ones begin on the others. Dropping the encoder waits for the records that are being encoded.
pub struct CardEncoder {
    cards: Vec<Arc<Card>>,
    rooms: Arc<Rooms>,
    feeders: Vec<JoinHandle<()>>,
    inspectors: WorkerSet<u8, Inspection>,
    counters: Arc<Counters>,
    next_session: AtomicU64,
    pieces_in_sector: u16,
    threads: ThreadWorkers,
    pool: Pool,
    _registered: Vec<Registered>,
}

impl CardEncoder {
    /// Takes all memory that it will ever take on the devices, and starts their threads.
    pub fn new(options: CardEncoderOptions) -> Result<Self, StartError> {
        let CardEncoderOptions { devices, pieces_in_sector, threads, level, pool, memory_slabs, check_every } =
            options;
        let wanted = devices.iter().map(|device| device.budget.slabs()).sum();
        let available = memory_slabs.min(pool.stats().total);
        if wanted > available {
            return Err(StartError::Slabs { wanted, available });
        }
        let counters = Arc::<Counters>::default();
        let run = {
            let counters = counters.clone();
            move |encoder: &mut RecordEncoder, inspection: Inspection| inspection.run(encoder, &counters)
        };
        // Every inspection holds a credit of a session, so there are never more: this limit is not met.
        let inspectors = WorkerSet::start(&threads, wanted, move || RecordEncoder::new(level), run)?;
        let parts = devices.into_iter().map(|device| Parts::new(device, pieces_in_sector, &pool));
        let (areas, parts): (Vec<_>, Vec<_>) = parts.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let rooms = Rooms::new(areas);
        let mut encoder = Self {
            cards: Vec::new(),
            rooms,
            feeders: Vec::new(),
            inspectors,
            counters,
            next_session: AtomicU64::new(0),
            pieces_in_sector,
            threads,
            pool,
            _registered: Vec::new(),
        };
        parts.into_iter().try_for_each(|parts| encoder.start(parts, check_every))?;
        Ok(encoder)
    }

    fn start(&mut self, parts: Parts, check_every: u64) -> Result<(), StartError> {
        let Parts { module, budget, lanes, access, registered, cores } = parts;
        let card = Arc::new(Card {
            number: self.cards.len(),
            module,
            budget,
            // Every waiting job holds a credit, so there are never more: this limit is not met.
            queue: Arc::new(Queue::new(budget.slabs())),
            meter: Meter::default(),
            access: Mutex::new(access),
            rooms: self.rooms.clone(),
            in_service: AtomicBool::new(true),
            sectors: AtomicU64::new(0),
        });
        tracing::info!("{}: {budget}", card.module.device.name());
        let feeder = Feeder {
            card: card.clone(),
            lanes: lanes.into_iter().map(|lane| Batches { lane, jobs: Vec::new() }).collect(),
            counters: self.counters.clone(),
            inspections: self.inspections(),
            check_every,
            until_check: 0,
        };
        self.cards.push(card);
        self._registered.extend(registered);
        let thread = std::thread::Builder::new().name("feeder".into());
        self.feeders.push(thread.spawn(move || {
            cores.iter().for_each(CoreSet::enter);
            feeder.run();
        })?);
        Ok(())
    }

    /// Each device, in the order of [`CardEncoderOptions::devices`].
    pub fn cards(&self) -> Vec<CardStats> {
        self.cards.iter().map(|card| card.stats()).collect()
    }

    fn inspections(&self) -> Arc<Inspections> {
        self.inspectors.queue.clone()
    }
}

/// One device, before its thread is started.
struct Parts {
    module: Arc<Module>,
    budget: Budget,
    lanes: Vec<Lane<super::pipeline::Encoding>>,
    access: Access,
    registered: Vec<Registered>,
    cores: Option<CoreSet>,
}

impl Parts {
    fn new(
        device: EncodingDevice,
        pieces_in_sector: u16,
        pool: &Pool,
    ) -> Result<(Vec<Area>, Self), StartError> {
        let EncodingDevice { device, budget, feeder: cores } = device;
        check_kernels(&*device)?;
        let lanes = budget.concurrency.min(LANES);
        // What host and device tell each other: a slab for each lane and session, and one for inspections.
        let own = Pool::new(lanes + budget.sessions + 1, 0)?;
        let registered =
            [pool, &own].map(|pool| Registered::new(&*device, pool)).into_iter().flatten().collect();
        let staging = || own.try_acquire().expect("the pool has a slab for each");
        let module = Module::new(device.clone())?;
        let capacity = |lane| (budget.concurrency + lane) / lanes;
        let lanes = (0..lanes).map(|lane| Lane::new(module.clone(), staging(), capacity(lane)));
        let lanes = lanes.collect::<Result<_, DeviceError>>()?;
        let access = Access::new(&*device, staging())?;
        let areas = (0..budget.sessions).map(|_| Area::new(&*device, pieces_in_sector, staging()));
        let areas = areas.collect::<Result<_, DeviceError>>()?;
        Ok((areas, Self { module, budget, lanes, access, registered, cores }))
    }
}

#[async_trait]
impl SectorEncoder for CardEncoder {
    async fn begin(&self, plan: SectorPlan) -> Result<Box<dyn EncodingSession>, BeginError> {
        plan.check()?;
        let (pieces_in_sector, limit) = (plan.pieces_in_sector, self.pieces_in_sector);
        if pieces_in_sector > limit {
            return Err(BeginError::DeviceMemory { pieces_in_sector, limit });
        }
        let lease = self.rooms.lease().await.map_err(|error| match error {
            NoRoom::Stopped => BeginError::Stopped,
            NoRoom::OutOfService => BeginError::OutOfService,
        })?;
        let card = self.cards[lease.device()].clone();
        let session = Session {
            progress: Progress::new(plan),
            number: self.next_session.fetch_add(1, Ordering::Relaxed),
            queue: card.queue.clone(),
            credits: Arc::new(Semaphore::new(card.budget.credits())),
            memory: SectorOnCard {
                card,
                lease: Arc::new(lease),
                threads: self.threads.clone(),
                pool: self.pool.clone(),
            },
        };
        Ok(Box::new(session))
    }

    fn stats(&self) -> EncoderStats {
        let leased = |card: &Arc<Card>| self.rooms.leased(card.number) * card.budget.session_slabs();
        EncoderStats {
            records_encoded: self.counters.encoded(),
            pieces_refused: self.counters.refused(),
            queued: self.cards.iter().map(|card| card.queue.len()).sum(),
            slabs_promised: self.cards.iter().map(leased).sum(),
            workers: self.cards.iter().map(|card| card.meter.stats()).collect(),
        }
    }
}

impl Drop for CardEncoder {
    fn drop(&mut self) {
        self.rooms.stop();
        self.cards.iter().for_each(|card| card.queue.close());
        for feeder in self.feeders.drain(..) {
            if feeder.join().is_err() {
                tracing::error!("the thread that fed a GPU panicked");
            }
        }
    }
}

/// Where the records of one sector are.
struct SectorOnCard {
    card: Arc<Card>,
    lease: Arc<Lease>,
    /// For putting the sector out.
    threads: ThreadWorkers,
    /// For the finished bytes.
    pool: Pool,
}

#[async_trait]
impl SectorMemory for SectorOnCard {
    type Room = Place;

    async fn room(&self, piece_offset: u16) -> Result<Place, AcquireError> {
        Ok(Place::new(self.lease.clone(), piece_offset))
    }

    async fn assemble(
        &self,
        plan: SectorPlan,
        records: Vec<EncodedRecord<Place>>,
    ) -> Result<FinishedSector, FinishError> {
        if !self.card.is_in_service() {
            return Err(FinishError::Dropped);
        }
        let (card, lease) = (self.card.clone(), self.lease.clone());
        let make = move |output: &mut Output| {
            put_together(&card, &lease, plan, &records, output);
            // The device's memory, too, goes before the output ends.
            drop((records, lease));
        };
        FinishedSector::start(&self.threads, &self.pool, make).await
    }
}
