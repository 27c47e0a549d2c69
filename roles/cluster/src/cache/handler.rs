//! What a cache answers.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::calls::{Call, EpochNow};
use super::fullness::Fullness;
use engine::piece_store::{
    ItemId, ItemKind, PieceStore, RECORD_AT, SLOT_BYTES, StoreConfig, StoreError, StoreReport,
};
use engine::pool::{AcquireError, SlabMut};
use engine::task::spawn_local;
use engine::{Class, Disk, Limits, Local};
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
    /// Items found damaged on disk and dropped.
    pub damaged: AtomicU64,
    /// The epoch items are stored under.
    pub epoch: AtomicU64,
    /// What tells it from others of that number.
    pub fingerprint: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Serves from a store, as soon as that is open.
pub(super) struct CacheHandler {
    store: OnceCell<PieceStore>,
    counters: Arc<Counters>,
    fullness: Fullness,
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
    /// Hears how many items the store has, or why it does not open.
    pub opened: oneshot::Sender<Result<u64, StoreError>>,
    /// What the rest of the cache asks.
    pub calls: mpsc::Receiver<Call>,
}

impl CacheHandler {
    /// Begins to open the store in `directory` on this executor. Whoever asks what is there is answered from now on.
    pub fn open(local: &Local, directory: PathBuf, config: StoreConfig, parts: Parts) -> Rc<Self> {
        let Parts { counters, lost, is_draining, opened, mut calls } = parts;
        let (store, fullness) = Default::default();
        let handler = Rc::new(Self { store, counters, fullness, lost, is_draining });
        let (local, opening) = (local.clone(), handler.clone());
        spawn_local(async move {
            let store = open_store(&local, directory, config).await;
            let outcome = store.map(|(store, report)| {
                opening.counters.damaged.fetch_add(report.damaged, Ordering::Relaxed);
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
                call.carry_out(handler.store.get(), epoch).await;
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
            (Request::PutItem { index, kind, blake3 }, Some(payload)) => {
                self.put(store, id(kind, index), blake3, payload).await
            }
            _ => Err(Refusal::new(RefusalCode::Invalid, "a cache holds items and does nothing else")),
        }
    }

    async fn get(&self, store: &PieceStore, id: ItemId) -> Answer {
        match store.get(Class::Serving, id).await {
            Ok(Some(item)) => {
                count(&self.counters.hits);
                let payload = match id.kind {
                    ItemKind::Piece => SlabPayload::piece(&item.slab),
                    ItemKind::Parity => SlabPayload::run(item.slab.slice(RECORD_AT..)),
                };
                Ok((Response::Item { blake3: item.blake3 }, Some(payload)))
            }
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

    async fn put(&self, store: &PieceStore, id: ItemId, blake3: Blake3Hash, payload: Received) -> Answer {
        if self.is_draining {
            return Err(Refusal::new(RefusalCode::Busy, "it hands over what it has, and ends"));
        }
        if payload.blake3() != blake3 {
            return Err(Refusal::new(RefusalCode::Damaged, format!("{id} fails its hash")));
        }
        let epoch = self.counters.epoch.load(Ordering::Relaxed);
        let stored = async {
            let slot = into_slot(id.kind, payload.into_payload().into_slab()).await?;
            store.put(Class::SectorWrite, id, epoch, blake3, slot).await
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
            tracing::warn!("{error}; pieces are refused: give it more with size=, or start another cache");
        }
    }
}

async fn open_store(
    local: &Local,
    directory: PathBuf,
    config: StoreConfig,
) -> Result<(PieceStore, StoreReport), StoreError> {
    let disk = Disk::new(local.ring().clone(), Limits::default());
    let scratch = local.pool().acquire().await?;
    PieceStore::open(disk, scratch, &directory, &config).await
}

/// The item as its slot lies on disk. A piece arrives so; parity chunks are moved behind the header's block.
async fn into_slot(kind: ItemKind, received: SlabMut) -> Result<SlabMut, AcquireError> {
    if kind == ItemKind::Piece {
        return Ok(received);
    }
    let mut slot = received.pool().acquire().await?.narrow(..SLOT_BYTES);
    slot[RECORD_AT..].copy_from_slice(&received);
    Ok(slot)
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
        StoreError::Io(_) | StoreError::TooSmall { .. } | StoreError::Closed => RefusalCode::Failed,
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
