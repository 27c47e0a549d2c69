//! Items that lie in memory as well as on the disk (`--mem-cache`), and are given from there as they lie: without a read, without a copy.
//!
//! ```text
//!   get ─▶ in memory, and with the stamp that the store has? ─▶ given
//!              no ─▶ store ─▶ given, and kept                        put ─▶ store, durable ─▶ kept
//! ```
//! Pieces of the newest segments are hot by themselves, since each sector takes a share of its pieces from them; others have to be asked for
//! again ([`Hot`]).
//!
//! Owns: slabs of the pool, as many as that was made larger for them; where serving takes more than its own, a read that finds none left gets
//! that of the item which is the least hot. Never: an item that the store does not hold: the stamp is asked for each time.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use consensus::piece::PieceIndex;
use engine::Class;
use engine::piece_store::{Item, ItemId, PieceStore, StoreError};
use engine::pool::Pool;

use super::hot::Hot;

/// Segments whose pieces are hot: as many as the network calls recent.
const NEWEST_SEGMENTS: u64 = 5;

/// What an item in memory did since the start.
#[derive(Debug, Default)]
pub struct MemCounters {
    /// Items that fit.
    pub capacity: AtomicU64,
    /// Items that are there now.
    pub items: AtomicU64,
    /// Items given from memory.
    pub hits: AtomicU64,
    /// Items given that had to be read.
    pub misses: AtomicU64,
}

/// Some of a store's items in memory. For each of them a whole slab: two do not fit one.
pub(super) struct InMemory {
    hot: RefCell<Hot<Item>>,
    /// None where it keeps nothing.
    pool: Option<Pool>,
    counters: Arc<MemCounters>,
}

impl InMemory {
    /// Of at most so many of the pool's slabs, beyond those that it serves with.
    pub fn new(slabs: usize, pool: Pool, counters: Arc<MemCounters>) -> Self {
        counters.capacity.store(slabs as u64, Ordering::Relaxed);
        Self { hot: RefCell::new(Hot::new(slabs)), pool: (slabs > 0).then_some(pool), counters }
    }

    /// The item from memory, else from the store, which checks its hash.
    pub async fn get(&self, store: &PieceStore, id: ItemId) -> Result<Option<Item>, StoreError> {
        if let Some(item) = self.find(store, id) {
            self.counters.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(item));
        }
        // It is to be read into a slab.
        if self.is_short() {
            self.change(Hot::give_back);
        }
        let item = store.get(Class::Serving, id).await?;
        if let Some(item) = item.as_ref().filter(|_| self.pool.is_some()) {
            self.counters.misses.fetch_add(1, Ordering::Relaxed);
            self.keep(store, id, item.clone());
        }
        Ok(item)
    }

    /// Keeps what was read or put just now, if the store still has it.
    pub fn keep(&self, store: &PieceStore, id: ItemId, item: Item) {
        if self.pool.is_none() || store.stamp(id) != Some(item.stamp) {
            return;
        }
        let newest = store.last_segment().unwrap_or_default();
        let is_hot = PieceIndex(id.index).segment_index() + NEWEST_SEGMENTS > newest;
        if is_hot || !self.is_short() {
            self.change(|hot| hot.insert(id, item, is_hot));
        }
    }

    /// Whether all slabs are in use: somebody waits for one, or the next one will.
    fn is_short(&self) -> bool {
        self.pool.as_ref().map(Pool::stats).is_some_and(|stats| stats.in_use == stats.total)
    }

    /// An item is about to be replaced or removed.
    pub fn forget(&self, id: ItemId) {
        self.change(|hot| hot.remove(id));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Hot<Item>) -> T) -> T {
        let mut hot = self.hot.borrow_mut();
        let outcome = change(&mut hot);
        self.counters.items.store(hot.len() as u64, Ordering::Relaxed);
        outcome
    }

    fn find(&self, store: &PieceStore, id: ItemId) -> Option<Item> {
        let item = self.hot.borrow_mut().get(id).cloned()?;
        if store.stamp(id) == Some(item.stamp) {
            return Some(item);
        }
        self.forget(id);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::executor::Spawner;
    use engine::piece_store::{ItemKind, POINTS_AT, SLOT_BYTES, StoreConfig};
    use engine::pool::SlabMut;
    use engine::{Executors, ExecutorsConfig, Limits};
    use std::future::Future;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    const POOL_SLABS: usize = 12;
    const SLOTS: u64 = 16;

    fn id(segment: u64, position: u8) -> ItemId {
        ItemId { kind: ItemKind::Piece, index: PieceIndex::new(segment, position).unwrap().0 }
    }

    /// A store with a memory of so many items.
    struct Shelf {
        store: PieceStore,
        memory: InMemory,
        pool: Pool,
        folder: tempfile::TempDir,
    }

    impl Shelf {
        fn slot(&self, id: ItemId, seed: u8) -> (SlabMut, [u8; 32]) {
            let mut slab = self.pool.try_acquire().unwrap().narrow(..SLOT_BYTES);
            slab.fill(seed ^ id.index as u8);
            let mut hasher = blake3::Hasher::new();
            hasher.update(&slab[4096..]).update(&slab[POINTS_AT..4096]);
            (slab, *hasher.finalize().as_bytes())
        }

        async fn put(&self, id: ItemId, seed: u8) -> Item {
            let (slab, blake3) = self.slot(id, seed);
            self.store.put(Class::SectorWrite, id, 1, blake3, slab).await.unwrap()
        }

        /// As the handler does.
        async fn put_and_keep(&self, id: ItemId, seed: u8) {
            self.memory.forget(id);
            let item = self.put(id, seed).await;
            self.memory.keep(&self.store, id, item);
        }

        /// The seed of the item that is given.
        async fn get(&self, id: ItemId) -> Result<Option<u8>, StoreError> {
            let item = self.memory.get(&self.store, id).await?;
            Ok(item.map(|item| item.slab[9999] ^ id.index as u8))
        }

        fn counts(&self) -> [u64; 3] {
            let MemCounters { items, hits, misses, .. } = &*self.memory.counters;
            [items, hits, misses].map(|counter| counter.load(Ordering::Relaxed))
        }
    }

    fn on_shelf<F: Future<Output = ()> + 'static>(
        slabs: usize,
        test: impl FnOnce(Shelf) -> F + Send + 'static,
    ) {
        let pool = Pool::new(POOL_SLABS, 8).unwrap();
        let config = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 8 };
        let executors = Executors::start(&config, &pool).unwrap();
        let spawner: Spawner = executors.spawner(0);
        let testing = spawner.spawn(move |local| async move {
            let folder = tempfile::tempdir().unwrap();
            let disk = local.disk(folder.path(), Limits::default()).unwrap();
            let pool = local.pool().clone();
            let size_bytes = Some(SLOTS * SLOT_BYTES as u64);
            let config = StoreConfig { size_bytes, ..StoreConfig::default() };
            let scratch = pool.try_acquire().unwrap();
            let (store, _) = PieceStore::open(disk, scratch, folder.path(), &config).await.unwrap();
            let memory = InMemory::new(slabs, pool.clone(), Arc::default());
            test(Shelf { store, memory, pool, folder }).await;
        });
        futures::executor::block_on(testing).unwrap();
        executors.shutdown(Duration::from_secs(9)).unwrap();
        assert_eq!(pool.stats().in_use, 0, "a slab was lost");
    }

    #[test]
    fn the_second_time_it_comes_from_memory_and_a_new_one_at_once() {
        on_shelf(4, |shelf| async move {
            shelf.put(id(1, 0), 7).await;
            for (hits, misses) in [(0, 1), (1, 1), (2, 1)] {
                assert_eq!(shelf.get(id(1, 0)).await.unwrap(), Some(7));
                assert_eq!(shelf.counts(), [1, hits, misses]);
            }
            shelf.put_and_keep(id(2, 0), 8).await;
            assert_eq!(shelf.get(id(2, 0)).await.unwrap(), Some(8));
            assert_eq!(shelf.counts(), [2, 3, 1]);
            assert_eq!(shelf.get(id(3, 0)).await.unwrap(), None);
            assert_eq!(shelf.counts(), [2, 3, 1], "what is not there is not missed");
        });
    }

    #[test]
    fn what_the_store_does_not_hold_any_more_is_not_given() {
        on_shelf(4, |shelf| async move {
            // Behind its back, as a put does whose asker has gone.
            shelf.put_and_keep(id(1, 0), 7).await;
            shelf.put(id(1, 0), 9).await;
            assert_eq!(shelf.get(id(1, 0)).await.unwrap(), Some(9));
            shelf.store.remove(Class::SectorWrite, id(1, 0)).await.unwrap();
            assert_eq!((shelf.get(id(1, 0)).await.unwrap(), shelf.counts()[0]), (None, 0));

            // Two puts of one piece: what comes to its end late is not kept in place of what the store has.
            let first = shelf.put(id(1, 1), 1).await;
            let second = shelf.put(id(1, 1), 2).await;
            shelf.memory.keep(&shelf.store, id(1, 1), second);
            shelf.memory.keep(&shelf.store, id(1, 1), first);
            assert_eq!(shelf.get(id(1, 1)).await.unwrap(), Some(2));
            shelf.memory.forget(id(1, 1));
            assert_eq!(shelf.counts()[0], 0, "its slab is free at once");

            // Damage is found when it is read, and then it is nowhere.
            let file = std::fs::OpenOptions::new().write(true).open(shelf.store.path()).unwrap();
            (0..SLOTS)
                .for_each(|slot| file.write_all_at(&[0xEE; 64], slot * SLOT_BYTES as u64 + 9999).unwrap());
            assert!(matches!(shelf.get(id(1, 1)).await, Err(StoreError::Damaged { .. })));
            assert_eq!((shelf.get(id(1, 1)).await.unwrap(), shelf.counts()[0]), (None, 0));
            drop(shelf.folder);
        });
    }

    #[test]
    fn the_newest_segments_stay_whatever_else_is_read() {
        on_shelf(3, |shelf| async move {
            for segment in 1..=6 {
                shelf.put(id(segment, 0), 1).await;
            }
            for segment in [2, 6] {
                shelf.get(id(segment, 0)).await.unwrap();
            }
            for position in 1..6 {
                shelf.put(id(1, position), 1).await;
                shelf.get(id(1, position)).await.unwrap();
            }
            let before = shelf.counts();
            for segment in [2, 6] {
                shelf.get(id(segment, 0)).await.unwrap();
            }
            assert_eq!(shelf.counts(), [3, before[1] + 2, before[2]], "five are the newest");
        });
    }

    #[test]
    fn where_serving_needs_more_it_gives_back_what_is_not_hot() {
        on_shelf(6, |shelf| async move {
            shelf.put_and_keep(id(9, 0), 1).await;
            for position in 0..4 {
                shelf.put(id(1, position), 1).await;
                shelf.get(id(1, position)).await.unwrap();
            }
            shelf.put(id(1, 4), 1).await;
            assert_eq!(shelf.counts()[0], 5);
            let mut served: Vec<_> = std::iter::from_fn(|| shelf.pool.try_acquire()).collect();
            for left in [4, 3, 2, 1] {
                // It is given, though not a slab was free, and serving has one more when it is sent.
                assert_eq!(shelf.get(id(1, 4)).await.unwrap(), Some(1));
                served.push(shelf.pool.try_acquire().unwrap());
                assert_eq!(shelf.pool.stats().in_use, POOL_SLABS);
                assert_eq!(shelf.counts()[0], left);
            }
            served.pop();
            assert_eq!(shelf.get(id(1, 4)).await.unwrap(), Some(1));
            assert_eq!(shelf.counts()[0], 1, "what is hot stays");
            assert_eq!(shelf.get(id(9, 0)).await.unwrap(), Some(1));
            drop(served);
        });
    }

    #[test]
    fn without_memory_everything_is_read() {
        on_shelf(0, |shelf| async move {
            shelf.put_and_keep(id(1, 0), 7).await;
            for _ in 0..2 {
                assert_eq!(shelf.get(id(1, 0)).await.unwrap(), Some(7));
            }
            assert_eq!(shelf.counts(), [0, 0, 0]);
        });
    }
}
