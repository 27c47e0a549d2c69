//! What a cache answers.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::calls::{Call, EpochNow};
use super::fullness::Fullness;
use super::in_memory::{InMemory, MemCounters};
use super::parity::{Makers, Parities};
use engine::piece_store::{ItemId, ItemKind, PieceStore, RECORD_AT, StoreConfig, StoreError, StoreReport};
use engine::pool::Slab;
use engine::task::spawn_local;
use engine::{Class, Limits, Local};
use futures::future::LocalBoxFuture;
use tokio::sync::{Notify, mpsc, oneshot};
use transport::message::{self, Blake3Hash, Refusal, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{Answer, Handler, PeerInfo, Received, SlabPayload};

/// What a cache did since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Items given.
    pub hits: AtomicU64,
    /// Items asked for that are not here.
    pub misses: AtomicU64,
    /// Items stored.
    pub stored: AtomicU64,
    /// Parity made.
    pub made: AtomicU64,
    /// Items found damaged on disk and dropped.
    pub damaged: AtomicU64,
    /// The epoch items are stored under.
    pub epoch: AtomicU64,
    /// What tells it from others of that number.
    pub fingerprint: AtomicU64,
    /// Of its items in memory.
    pub memory: Arc<MemCounters>,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Serves from a store, as soon as that is open.
pub(super) struct CacheHandler {
    store: OnceCell<PieceStore>,
    memory: InMemory,
    counters: Arc<Counters>,
    fullness: Fullness,
    parities: Rc<Parities>,
    makers: Makers,
    /// Told when an item was found to be lost.
    lost: Arc<Notify>,
    /// It takes nothing any more.
    is_draining: bool,
}

/// What a handler is made of.
pub(super) struct Parts {
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Told when an item was found to be lost.
    pub lost: Arc<Notify>,
    /// Whether it takes nothing any more.
    pub is_draining: bool,
    /// Slabs for items that stay in memory.
    pub mem_slabs: usize,
    /// Hears how many items the store has, or why it does not open.
    pub opened: oneshot::Sender<Result<u64, StoreError>>,
    /// Who makes parity.
    pub makers: Makers,
    /// What the rest of the cache asks.
    pub calls: mpsc::Receiver<Call>,
}

impl CacheHandler {
    /// Begins to open the store in `directory` on this executor. Whoever asks what is there is answered from now on.
    pub fn open(local: &Local, directory: PathBuf, config: StoreConfig, parts: Parts) -> Rc<Self> {
        let Parts { counters, lost, is_draining, mem_slabs, opened, makers, mut calls } = parts;
        let (store, fullness, parities) = Default::default();
        let memory = InMemory::new(mem_slabs, local.pool().clone(), counters.memory.clone());
        let handler =
            Rc::new(Self { store, memory, counters, fullness, parities, makers, lost, is_draining });
        let (local, opening) = (local.clone(), handler.clone());
        spawn_local(async move {
            let store = open_store(&local, directory, config).await;
            let outcome = store.map(|(store, report)| {
                opening.counters.damaged.fetch_add(report.damaged, Ordering::Relaxed);
                opening.parities.found(&store);
                let (counters, lost) = (opening.counters.clone(), opening.lost.clone());
                store.check_behind(move || {
                    count(&counters.damaged);
                    lost.notify_one();
                });
                opening.store.get_or_init(|| store).len()
            });
            // Whoever waited may have been told to end meanwhile.
            drop(opened.send(outcome));
        })
        .detach();
        // The store is closed with the server, though nobody may ask any more.
        let answering = Rc::downgrade(&handler);
        spawn_local(async move {
            while let Some(call) = calls.recv().await {
                let Some(handler) = answering.upgrade() else { return };
                let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
                let epoch = EpochNow {
                    number: load(&handler.counters.epoch),
                    fingerprint: load(&handler.counters.fingerprint),
                };
                call.changes().into_iter().for_each(|id| handler.memory.forget(id));
                call.carry_out(handler.store.get(), epoch, &handler.parities).await;
            }
        })
        .detach();
        handler
    }

    async fn answer(&self, request: Request, payload: Option<Received>) -> Answer {
        let Some(store) = self.store.get() else {
            return Err(Refusal::new(RefusalCode::NotReady, "the cache still reads what it has"));
        };
        match (request, payload) {
            (Request::GetItem { index, kind }, _) => self.get(store, id(kind, index)).await,
            (Request::PutItem { index, kind: message::ItemKind::Piece, blake3 }, Some(payload)) => {
                self.put(store, index, blake3, payload).await
            }
            (Request::PutItem { .. }, _) => {
                Err(Refusal::new(RefusalCode::Invalid, "caches make parity themselves"))
            }
            _ => Err(Refusal::new(RefusalCode::Invalid, "a cache holds items and does nothing else")),
        }
    }

    async fn get(&self, store: &PieceStore, id: ItemId) -> Answer {
        match self.memory.get(store, id).await {
            Ok(Some(item)) => {
                count(&self.counters.hits);
                Ok(item_answer(id.kind, &item.slab, item.blake3))
            }
            Ok(None) if id.kind == ItemKind::Parity => self.make_parity(store, id).await,
            Ok(None) => {
                count(&self.counters.misses);
                Err(Refusal::new(RefusalCode::NotFound, format!("{id} is not in this cache")))
            }
            Err(error) => {
                if matches!(error, StoreError::Damaged { .. }) {
                    count(&self.counters.damaged);
                }
                if !store.contains(id) {
                    self.lost.notify_one();
                }
                tracing::warn!("{error}");
                Err(refusal(&error))
            }
        }
    }

    async fn make_parity(&self, store: &PieceStore, id: ItemId) -> Answer {
        let piece = ItemId { kind: ItemKind::Piece, ..id };
        // One that the disk does not give is asked of others.
        let piece = store.get(Class::Serving, piece).await.ok().flatten().map(|item| item.slab);
        let made = self.makers.make(id.index, piece).await?;
        count(&self.counters.made);
        let (blake3, epoch) = (made.blake3, self.counters.epoch.load(Ordering::Relaxed));
        let kept = self.parities.keep(store, (id.index, epoch), made).await;
        Ok(item_answer(id.kind, &kept.map_err(|error| refusal(&error))?, blake3))
    }

    async fn put(&self, store: &PieceStore, index: u64, blake3: Blake3Hash, payload: Received) -> Answer {
        let id = ItemId { kind: ItemKind::Piece, index };
        if self.is_draining {
            return Err(Refusal::new(RefusalCode::Busy, "it hands over what it has, and ends"));
        }
        if payload.blake3() != blake3 {
            return Err(Refusal::new(RefusalCode::Damaged, format!("{id} fails its hash")));
        }
        let epoch = self.counters.epoch.load(Ordering::Relaxed);
        self.memory.forget(id);
        let stored = async {
            self.parities.make_room(store).await?;
            let slot = payload.into_payload().into_slab();
            let item = store.put(Class::SectorWrite, id, epoch, blake3, slot).await?;
            self.memory.keep(store, id, item);
            Ok(())
        };
        stored.await.map_err(|error: StoreError| {
            self.tell_refused(&error);
            refusal(&error)
        })?;
        if let Some(refused) = self.fullness.stored(Instant::now()) {
            tracing::info!("the cache takes pieces again after {} s", refused.as_secs());
        }
        count(&self.counters.stored);
        Ok((Response::Stored, None))
    }

    fn tell_refused(&self, error: &StoreError) {
        if !matches!(error, StoreError::Full { .. }) {
            tracing::warn!("{error}");
        } else if self.fullness.refused(Instant::now()) {
            // What is not its own may go.
            self.lost.notify_one();
            tracing::warn!("{error}; pieces are refused: give it more with size=, or start another cache");
        }
    }
}

async fn open_store(
    local: &Local,
    directory: PathBuf,
    config: StoreConfig,
) -> Result<(PieceStore, StoreReport), StoreError> {
    let disk = local.disk(&directory, Limits::default())?;
    let scratch = local.pool().acquire().await?;
    PieceStore::open(disk, scratch, &directory, &config).await
}

/// An item as its slot lies on disk, as it is sent.
fn item_answer(kind: ItemKind, slab: &Slab, blake3: Blake3Hash) -> (Response, Option<SlabPayload>) {
    let payload = match kind {
        ItemKind::Piece => SlabPayload::piece(slab),
        ItemKind::Parity => SlabPayload::run(slab.slice(RECORD_AT..)),
    };
    (Response::Item { blake3 }, Some(payload))
}

fn id(kind: message::ItemKind, index: u64) -> ItemId {
    let kind = match kind {
        message::ItemKind::Piece => ItemKind::Piece,
        message::ItemKind::Parity => ItemKind::Parity,
    };
    ItemId { kind, index }
}

/// A failure of the store as the peer is told.
fn refusal(error: &StoreError) -> Refusal {
    let code = match error {
        StoreError::Full { .. } | StoreError::Buffers(_) => RefusalCode::Busy,
        // It is dropped; others may have it.
        StoreError::Damaged { .. } => RefusalCode::NotFound,
        StoreError::Io(_) | StoreError::TooSmall { .. } | StoreError::Ring(_) | StoreError::Closed => {
            RefusalCode::Failed
        }
    };
    Refusal::new(code, error.to_string())
}

impl Handler for CacheHandler {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        payload: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        Box::pin(async move { self.answer(request, payload).await })
    }
}
