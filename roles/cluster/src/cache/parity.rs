//! Parity of records: made when it is first asked for, kept by its first owner while there is room, and first to go.
//!
//! ```text
//!   GetItem parity ─▶ store ─ has it ─────────────────────────────────────────────────────────────▶ Item
//!                       └─ not ─▶ own piece, or another member's ─▶ extended ─▶ store, if it is ours ─▶ Item
//! ```
//! Parity follows from its piece, so nobody has to bring it, move it or miss it: no epoch, holdings or refill knows of it.
//!
//! Owns: which parity is here, and making it. Never: a slot that a piece needs.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consensus::CpuLevel;
use consensus::constants::{RECORD_CHUNKS, RECORD_SIZE};
use consensus::erasure::{ErasureError, Extender};
use control::messages;
use engine::Class;
use engine::piece_store::{ItemId, ItemKind, PieceStore, RECORD_AT, SLOT_BYTES, StoreError};
use engine::pool::{Slab, SlabMut};
use engine::task::spawn_local;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use transport::message::{Blake3Hash, Refusal, RefusalCode};

use crate::host::Host;
use crate::pieces::PieceSource;
use bus::BusError;

/// Records extended at once: a cache's CPUs are for serving.
const MADE_AT_ONCE: usize = 2;
/// Requests that wait for that; whoever comes then extends the record himself.
const WAITING_MAX: usize = 32;
/// How long another cache may take to give the piece: whoever waits for parity does not wait long.
const PIECE_WITHIN: Duration = Duration::from_secs(1);

const UNSTABLE: &str = "the same record was extended to different parity: check this machine's memory";

/// The parity that is in a store.
#[derive(Default)]
pub struct Parities(RefCell<BTreeSet<u64>>);

impl Parities {
    /// Notes what a store has that was just opened.
    pub fn found(&self, store: &PieceStore) {
        let items = store.items().into_iter().map(|(id, _)| id);
        self.0.borrow_mut().extend(items.filter(|id| id.kind == ItemKind::Parity).map(|id| id.index));
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.borrow().len() as u64
    }

    /// Keeps one, if there is room for it; gives it back as it is to be served. What is begun goes on though nobody waits for it: parity that is
    /// in the store is noted here.
    pub async fn keep(
        self: &Rc<Self>,
        store: &PieceStore,
        (index, epoch): (u64, u64),
        made: Made,
    ) -> Result<Slab, StoreError> {
        if !made.is_own || store.room() == 0 {
            return Ok(made.slab.freeze());
        }
        let (parities, store) = (self.clone(), store.clone());
        let (done, kept) = oneshot::channel();
        spawn_local(async move {
            let put = store.put(Class::SectorWrite, parity(index), epoch, made.blake3, made.slab).await;
            if put.is_ok() {
                parities.0.borrow_mut().insert(index);
            }
            let _ = done.send(put.map(|item| item.slab));
        })
        .detach();
        kept.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Removes one that may be wrong.
    pub async fn drop_one(&self, store: &PieceStore, index: u64) -> Result<(), StoreError> {
        self.0.borrow_mut().remove(&index);
        store.remove(Class::SectorWrite, parity(index)).await.map(drop)
    }

    /// Frees a slot for a piece, if one is taken by parity.
    pub async fn make_room(&self, store: &PieceStore) -> Result<(), StoreError> {
        while store.room() == 0 {
            let Some(index) = self.0.borrow_mut().pop_first() else { return Ok(()) };
            store.remove(Class::SectorWrite, parity(index)).await?;
        }
        Ok(())
    }
}

fn parity(index: u64) -> ItemId {
    ItemId { kind: ItemKind::Parity, index }
}

/// Parity that was made.
pub struct Made {
    /// As its slot lies on disk.
    pub slab: SlabMut,
    /// Of the parity chunks.
    pub blake3: Blake3Hash,
    /// Whether this cache is its first owner.
    is_own: bool,
}

/// Parity that is asked for.
pub struct Wanted {
    index: u64,
    /// Its piece, if that is here.
    piece: Option<Slab>,
    done: oneshot::Sender<Result<Made, Refusal>>,
}

/// Where it is asked for.
#[derive(Clone)]
pub struct Makers(mpsc::Sender<Wanted>);

/// Both ends.
pub fn channel() -> (Makers, mpsc::Receiver<Wanted>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Makers(sender), receiver)
}

impl Makers {
    /// The parity of a piece, which may be here.
    pub async fn make(&self, index: u64, piece: Option<Slab>) -> Result<Made, Refusal> {
        let busy = || Refusal::new(RefusalCode::Busy, "too many records wait to be extended here");
        let (done, made) = oneshot::channel();
        self.0.try_send(Wanted { index, piece, done }).map_err(|_| busy())?;
        made.await.map_err(|_| busy())?
    }
}

/// Makes what is wanted until the cache ends.
pub async fn make(host: Host, mut wanted: mpsc::Receiver<Wanted>) -> Result<(), BusError> {
    let source = PieceSource::start(host.clone(), false).await?;
    let maker = Maker { host, source, idle: Arc::default() };
    let (maker, mut work) = (&maker, FuturesUnordered::new());
    loop {
        tokio::select! {
            Some(Wanted { index, piece, done }) = wanted.recv(), if work.len() < MADE_AT_ONCE => {
                // Whoever asked may have gone.
                if !done.is_closed() {
                    work.push(async move { drop(done.send(maker.make(index, piece).await)) });
                }
            }
            Some(()) = work.next() => {}
            else => return Ok(()),
        }
    }
}

struct Maker {
    host: Host,
    source: PieceSource,
    /// Extenders that nobody uses now: each has memory for a record.
    idle: Arc<Mutex<Vec<Extender>>>,
}

impl Maker {
    async fn make(&self, index: u64, piece: Option<Slab>) -> Result<Made, Refusal> {
        let piece = match piece {
            Some(piece) => piece,
            None => self.fetch(index).await?,
        };
        let refused = |code, error: &dyn std::fmt::Display| Refusal::new(code, error.to_string());
        let slab = self.host.pool().acquire().await.map_err(|error| refused(RefusalCode::Busy, &error))?;
        let (mut slab, idle) = (slab.narrow(..SLOT_BYTES), self.idle.clone());
        let extended = spawn_blocking(move || {
            let record = piece[RECORD_AT..][..RECORD_SIZE].as_chunks().0;
            let mut extended = || {
                extend(&idle, record, slab[RECORD_AT..].as_chunks_mut().0)?;
                Ok::<_, ErasureError>(blake3::hash(&slab[RECORD_AT..]))
            };
            // Nobody checks it again, and a wrong one would spoil a chunk of every sector that it goes into.
            let (once, again) = (extended()?, extended()?);
            Ok::<_, ErasureError>((once == again).then(|| (slab, once.into())))
        });
        let (slab, blake3) = match extended.await {
            Ok(Ok(Some(extended))) => extended,
            Ok(Ok(None)) => return Err(Refusal::new(RefusalCode::Failed, UNSTABLE)),
            Ok(Err(error)) => return Err(refused(RefusalCode::Failed, &error as &dyn std::fmt::Display)),
            Err(_) => return Err(Refusal::new(RefusalCode::Busy, "this cache ends")),
        };
        let owners = self.source.owners().borrow().of(messages::ItemKind::ParityPiece, index, 1);
        Ok(Made { slab, blake3, is_own: owners == [self.host.id()] })
    }

    async fn fetch(&self, index: u64) -> Result<Slab, Refusal> {
        let given = self.source.from_caches(index, PIECE_WITHIN).await;
        given.map(|given| given.slab).map_err(|error| Refusal::new(RefusalCode::NotFound, error.to_string()))
    }
}

fn extend(
    idle: &Mutex<Vec<Extender>>,
    record: &[[u8; 32]],
    parity: &mut [[u8; 32]],
) -> Result<(), ErasureError> {
    let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let used = lock().pop();
    let mut extender = used.map_or_else(|| Extender::new(CpuLevel::current(), RECORD_CHUNKS), Ok)?;
    let extended = extender.extend_record(record, parity);
    lock().push(extender);
    extended
}
