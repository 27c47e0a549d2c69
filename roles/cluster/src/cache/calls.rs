//! What the rest of a cache asks of its store, which lives on an executor.
//!
//! Calls are taken up one after the other: what is said to be here is here, and not about to be removed by a call before.

use consensus::piece_set::PieceSet;
use control::messages::{HoldingsAnswer, HoldingsRequest, bounded_text};
use control::refill::Pieces;
use engine::Class;
use engine::piece_store::{ItemId, ItemKind, PieceStore, StoreError};
use engine::pool::SlabMut;
use engine::task::spawn_local;
use futures::poll;
use tokio::sync::{mpsc, oneshot};
use transport::message::Blake3Hash;

use super::parity::Parities;
use std::rc::Rc;

/// Calls that wait for the executor.
const CALLS_MAX: usize = 64;

/// One call and the way back.
pub enum Call {
    /// What a [`HoldingsRequest`] asks for.
    Holdings(HoldingsRequest, oneshot::Sender<HoldingsAnswer>),
    /// All pieces; none while the store is not open.
    Look(oneshot::Sender<Option<Pieces>>),
    /// The slots; none while the store is not open.
    Room(oneshot::Sender<Option<Room>>),
    /// Whether a piece is here.
    Has(u64, oneshot::Sender<bool>),
    /// Store a piece.
    Put(Arrived, oneshot::Sender<Result<(), StoreError>>),
    /// Read a piece, which drops it if it is damaged or cannot be read. Parity is dropped unread: it is as quickly made again.
    Recheck(ItemId, oneshot::Sender<Verdict>),
    /// Remove a piece, if the epoch of this fingerprint is still the present one.
    Remove(u64, u64, oneshot::Sender<Result<bool, StoreError>>),
}

/// The epoch that the cache goes by.
#[derive(Debug, Clone, Copy)]
pub struct EpochNow {
    /// Its number.
    pub number: u64,
    /// What tells it from others of that number.
    pub fingerprint: u64,
}

/// What is found of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it was put.
    Whole,
    /// It was here, damaged or unreadable, and is not any more.
    Lost,
    /// It was not here.
    Absent,
    /// It could not be read now.
    Unknown,
}

/// Slots of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Free ones, and those that parity takes.
    pub free: u64,
    /// All.
    pub capacity: u64,
}

/// A piece that came from another member.
pub struct Arrived {
    /// Which.
    pub index: u64,
    /// Of its bytes, known good.
    pub blake3: Blake3Hash,
    /// As its slot lies on disk.
    pub slab: SlabMut,
}

/// Where calls are made.
#[derive(Clone)]
pub struct Calls(mpsc::Sender<Call>);

/// Both ends.
pub fn channel() -> (Calls, mpsc::Receiver<Call>) {
    let (sender, receiver) = mpsc::channel(CALLS_MAX);
    (Calls(sender), receiver)
}

impl Calls {
    /// The answer to a call; none when the executor has ended.
    pub async fn make<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.0.send(call(done)).await.ok()?;
        answer.await.ok()
    }

    /// The same, if not too many wait: else none.
    pub async fn try_make<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.0.try_send(call(done)).ok()?;
        answer.await.ok()
    }
}

impl Call {
    /// The item that it replaces, removes or doubts.
    pub fn changes(&self) -> Option<ItemId> {
        match self {
            Self::Put(Arrived { index, .. }, _) | Self::Remove(index, _, _) => Some(piece(*index)),
            // What is in memory may be what is wrong.
            Self::Recheck(id, _) => Some(*id),
            Self::Holdings(..) | Self::Look(_) | Self::Room(_) | Self::Has(..) => None,
        }
    }

    /// Carries it out. Whoever called may have gone, which is no harm.
    pub async fn carry_out(self, store: Option<&PieceStore>, epoch: EpochNow, parities: &Rc<Parities>) {
        match self {
            Self::Holdings(request, done) => {
                let answer = match (store, request.lets_go_by) {
                    (None, _) => refused("it still reads what it has"),
                    (_, Some(by)) if by != epoch.fingerprint => refused("it goes by another epoch"),
                    // Whoever asks so deletes what is named: that must be durable here and whole, and no more is named than was there before.
                    (Some(store), Some(_)) => {
                        let held = holdings(store, &request, PieceStore::whole_pieces);
                        store.sync().await.map_or_else(|error| refused(&error.to_string()), |()| held)
                    }
                    (Some(store), None) => holdings(store, &request, PieceStore::pieces),
                };
                let _ = done.send(answer);
            }
            Self::Look(done) => {
                let _ = done.send(store.map(look));
            }
            Self::Room(done) => {
                // What parity takes goes as soon as a piece needs it.
                let free = |store: &PieceStore| store.room() + parities.count();
                let room = |store: &PieceStore| Room { free: free(store), capacity: store.capacity() };
                let _ = done.send(store.map(room));
            }
            Self::Has(index, done) => {
                let _ = done.send(store.is_some_and(|store| store.contains(piece(index))));
            }
            Self::Put(arrived, done) => {
                let Some(store) = store.cloned() else { return };
                let parities = parities.clone();
                // Writing takes its time, and nobody relies on what is not said to be here yet.
                spawn_local(async move {
                    let Arrived { index, blake3, slab } = arrived;
                    let put = async {
                        parities.make_room(&store).await?;
                        store.put(Class::SectorWrite, piece(index), epoch.number, blake3, slab).await
                    };
                    let _ = done.send(put.await.map(drop));
                })
                .detach();
            }
            Self::Recheck(id, done) => {
                let Some(store) = store.cloned() else { return };
                let parities = parities.clone();
                spawn_local(async move {
                    let verdict = match id.kind {
                        ItemKind::Piece => recheck(&store, id).await,
                        ItemKind::Parity => parities
                            .drop_one(&store, id.index)
                            .await
                            .map_or(Verdict::Unknown, |()| Verdict::Absent),
                    };
                    let _ = done.send(verdict);
                })
                .detach();
            }
            Self::Remove(index, by, done) => {
                let Some(store) = store.cloned().filter(|_| by == epoch.fingerprint) else { return };
                // The first step takes it out of the index, before the next call is looked at; the disk may take its time.
                let mut removing =
                    Box::pin(async move { done.send(store.remove(Class::SectorWrite, piece(index)).await) });
                if poll!(removing.as_mut()).is_pending() {
                    spawn_local(async move { drop(removing.await) }).detach();
                }
            }
        }
    }
}

async fn recheck(store: &PieceStore, id: ItemId) -> Verdict {
    let was_here = store.contains(id);
    match store.get(Class::Scrub, id).await {
        Ok(Some(_)) => Verdict::Whole,
        _ if was_here && !store.contains(id) => Verdict::Lost,
        Ok(None) => Verdict::Absent,
        Err(_) => Verdict::Unknown,
    }
}

fn piece(index: u64) -> ItemId {
    ItemId { kind: ItemKind::Piece, index }
}

fn look(store: &PieceStore) -> Pieces {
    store.segments().map(|segment| (segment, store.pieces(segment))).collect()
}

fn holdings(
    store: &PieceStore,
    request: &HoldingsRequest,
    of: impl Fn(&PieceStore, u64) -> PieceSet,
) -> HoldingsAnswer {
    let segments = (request.from_segment..).take(usize::from(request.segments));
    let mut sets: Vec<_> = segments.map(|segment| of(store, segment)).collect();
    let last = sets.iter().rposition(|set| !set.is_empty()).map_or(0, |last| last + 1);
    sets.truncate(last);
    let pieces = sets.into_iter().map(PieceSet::to_bytes).collect();
    HoldingsAnswer::Held { highest: store.last_segment(), pieces }
}

/// An answer that says why there is none.
pub fn refused(reason: &str) -> HoldingsAnswer {
    HoldingsAnswer::Refused { reason: bounded_text(reason) }
}
