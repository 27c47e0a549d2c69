//! The store on a disk that loses its power at any write and any sync, also while it opens; reads, writes and syncs fail now and then.
//!
//! Never: an item lost, torn or older that was put, or one back that was removed, once that was said to be done; something read that was
//! never put; an index, in memory or on disk, that says else than the headers. One seed is one run; `POWER_SEED=7` runs that alone.

use super::*;
use crate::disk::Limits;
use crate::error::Action;
use crate::on_disk::on_disk;
use crate::power::{Faults, Loss, Power, Rng};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::task::Poll;

const IDS: u64 = 6;
/// Many more than are used: opening compares every 16th with the index. The file grows while there are items in it.
const SLOTS: u64 = 700;
const SEEDS: u64 = 500;
const SEEDS_AT_ONCE: usize = 16;
const ROUNDS: u64 = 6;

/// A version of an item; none: it is not there.
type Version = Option<u64>;

#[derive(Debug, Clone, Copy)]
enum Step {
    Put(u64, u64),
    Remove(u64),
}

type Change = LocalBoxFuture<'static, Result<(), StoreError>>;

struct Run {
    rng: Rng,
    power: Power,
    disk: Disk,
    pool: Pool,
    dir: tempfile::TempDir,
    config: StoreConfig,
    /// What each item may be: one, when it is known.
    may: BTreeMap<u64, BTreeSet<Version>>,
    /// Items that the disk did not give, and so the store has not any more until it is opened again.
    refused: BTreeSet<u64>,
    versions: u64,
    hashes: HashMap<(u64, u64), [u8; 32]>,
}

fn id(index: u64) -> ItemId {
    ItemId { kind: if index.is_multiple_of(3) { ItemKind::Parity } else { ItemKind::Piece }, index }
}

/// The item as it lies in its slot: zeros, but for a word here and there, also in the points.
fn fill(slot: &mut [u8], id: ItemId, version: u64) {
    slot.fill(0);
    let word = (id.index << 32 | version).to_le_bytes();
    for at in [POINTS_AT, RECORD_AT, RECORD_AT + 70_000, SLOT_BYTES - 8] {
        if at != POINTS_AT || id.kind == ItemKind::Piece {
            slot[at..at + 8].copy_from_slice(&word);
        }
    }
}

impl Run {
    fn new(seed: u64, pool: &Pool) -> Self {
        let (mut rng, power) = (Rng::new(seed + 1000), Power::new(seed));
        let disk = Disk::over(Box::new(power.clone()), pool, Limits::default());
        let size_bytes = Some(SLOTS * SLOT_BYTES as u64);
        let config = StoreConfig { size_bytes, grows: rng.one_in(3), tmp: false };
        let dir = tempfile::tempdir().unwrap();
        let may = (0..IDS).map(|index| (index, BTreeSet::from([None]))).collect();
        let (pool, hashes, refused) = (pool.clone(), HashMap::new(), BTreeSet::new());
        Self { rng, power, disk, pool, dir, config, may, refused, versions: 0, hashes }
    }

    fn faults(&mut self, lasting: bool) {
        let mut some = |one_in| if self.rng.one_in(3) { one_in } else { 0 };
        let faults = Faults { read: some(40), write: some(60), sync: some(30), lasting, ..Faults::default() };
        self.power.set_faults(faults);
    }

    fn fails_soon(&mut self) -> Loss {
        if !self.rng.one_in(4) {
            let steps = 1 + self.rng.below(100);
            self.power.lose_after(steps);
        }
        [Loss::Kill, Loss::Blocks, Loss::Sectors][self.rng.below(3) as usize]
    }

    /// Opens the store, as often as the power is lost meanwhile.
    async fn open(&mut self) -> (PieceStore, Loss) {
        loop {
            let loss = self.fails_soon();
            self.faults(false);
            let scratch = self.pool.acquire().await.unwrap();
            match PieceStore::open(self.disk.clone(), scratch, self.dir.path(), &self.config).await {
                Ok((store, _)) => {
                    self.power.set_faults(Faults::default());
                    return (store, loss);
                }
                Err(error) => {
                    let is_sync =
                        matches!(error, StoreError::Io(IoError::Failed { action: Action::Sync, .. }));
                    assert!(is_sync || self.power.is_lost(), "{error}");
                }
            }
            self.end(None, loss).await;
        }
    }

    /// Waits until nothing is under way, and turns the disk off and on.
    async fn end(&mut self, store: Option<PieceStore>, loss: Loss) {
        let inner = store.map(|store| Rc::downgrade(&store.0));
        while inner.as_ref().is_some_and(|inner| inner.strong_count() > 0) {
            task::yield_now().await;
        }
        self.power.come_back(loss);
    }

    async fn put(
        &mut self,
        store: &PieceStore,
        id: ItemId,
    ) -> (Step, impl Future<Output = Result<(), StoreError>> + use<>) {
        self.versions += 1;
        let version = self.versions;
        let mut slab = self.pool.acquire().await.unwrap().narrow(..SLOT_BYTES);
        fill(&mut slab, id, version);
        let header = Header { id, epoch: 0, blake3: [0; 32] };
        let blake3 = header.hash_of_item(&slab);
        self.hashes.insert((id.index, version), blake3);
        let (store, epoch) = (store.clone(), self.rng.below(3));
        let put = async move { store.put(Class::SectorWrite, id, epoch, blake3, slab).await.map(drop) };
        (Step::Put(id.index, version), put)
    }

    /// What is there; none where it is damaged or cannot be read.
    async fn look(&self, store: &PieceStore, index: u64) -> Result<Version, StoreError> {
        let Some(item) = store.get(Class::Serving, id(index)).await? else { return Ok(None) };
        let word = u64::from_le_bytes(*item.slab[RECORD_AT..].first_chunk().unwrap());
        let version = word & u64::from(u32::MAX);
        let mut expected = vec![0; SLOT_BYTES];
        fill(&mut expected, id(index), version);
        let points = if id(index).kind == ItemKind::Piece { POINTS_AT } else { RECORD_AT };
        assert!(item.slab[points..] == expected[points..], "item {index} was never put like this");
        assert_eq!(Some(&item.blake3), self.hashes.get(&(index, version)));
        Ok(Some(version))
    }

    async fn check(&mut self, store: &PieceStore, index: u64, is_settled: bool) {
        let is_named = store.0.slots.borrow().is_whole(id(index));
        let found = self.look(store, index).await;
        let is_torn = matches!(found, Err(StoreError::Damaged { .. }));
        assert!(!(is_named && is_torn), "item {index}: others may have deleted theirs for it");
        let may = self.may.get_mut(&index).unwrap();
        match found {
            Ok(version) => {
                assert!(may.contains(&version), "item {index}: {version:?} of {may:?}");
                if is_settled {
                    *may = BTreeSet::from([version]);
                }
            }
            // Torn when it was on its way, and never said to be there.
            Err(StoreError::Damaged { .. }) => {
                assert!(may.contains(&None), "item {index}: damaged, {may:?}");
                *may = BTreeSet::from([None]);
            }
            Err(_) => {
                may.insert(None);
                self.refused.insert(index);
            }
        }
    }

    /// Some changes to be made at once.
    async fn changes(&mut self, store: &PieceStore) -> (Vec<Step>, Vec<Change>) {
        let (mut steps, mut changes) = (Vec::new(), Vec::<Change>::new());
        for _ in 0..self.rng.below(5) {
            let index = self.rng.below(IDS);
            let may = self.may.entry(index).or_default();
            if self.rng.below(3) > 0 {
                may.insert(Some(self.versions + 1));
                let (step, put) = self.put(store, id(index)).await;
                steps.push(step);
                changes.push(Box::pin(put));
            } else {
                may.insert(None);
                let store = store.clone();
                steps.push(Step::Remove(index));
                changes
                    .push(Box::pin(async move { store.remove(Class::Serving, id(index)).await.map(drop) }));
            }
        }
        (steps, changes)
    }

    /// Some puts and removals at once, and reads beside them. Now and then nobody waits for the end.
    async fn batch(&mut self, store: &PieceStore) {
        let (steps, changes) = self.changes(store).await;
        let mut changes = Box::pin(join_all(changes));
        let mut outcome = None;
        if self.rng.one_in(8) {
            drop(futures::poll!(&mut changes));
        } else {
            for _ in 0..self.rng.below(3) {
                if outcome.is_none()
                    && let Poll::Ready(all) = futures::poll!(&mut changes)
                {
                    outcome = Some(all);
                }
                let index = self.rng.below(IDS);
                self.check(store, index, false).await;
            }
            if outcome.is_none() {
                outcome = Some(changes.as_mut().await);
            }
        }
        drop(changes);
        self.conclude(&steps, &outcome.unwrap_or_default());
        for index in std::mem::take(&mut self.refused) {
            self.may.entry(index).or_default().insert(None);
        }
        while Rc::strong_count(&store.0) > 1 {
            task::yield_now().await;
        }
    }

    /// What was said to be done rules out what was there before.
    fn conclude(&mut self, steps: &[Step], outcome: &[Result<(), StoreError>]) {
        let mut is_done: BTreeMap<u64, bool> = BTreeMap::new();
        for (step, outcome) in steps.iter().zip(outcome) {
            let (Step::Put(index, _) | Step::Remove(index)) = *step;
            *is_done.entry(index).or_default() |= outcome.is_ok();
        }
        for (index, _) in is_done.into_iter().filter(|(_, is_done)| *is_done) {
            let new = steps.iter().filter_map(|step| match *step {
                Step::Put(at, version) if at == index => Some(Some(version)),
                Step::Remove(at) if at == index => Some(None),
                _ => None,
            });
            self.may.insert(index, new.collect());
        }
    }

    /// The index says what the headers say; and the index on disk, what it says at all.
    fn check_index(&self, store: &PieceStore) {
        let slots = store.0.slots.borrow();
        let mut named = 0;
        for slot in 0..slots.in_file() {
            let block = self.power.block(store.path(), slot * (SLOT_BYTES / BLOCK_BYTES) as u64);
            match (slots.state(slot), Header::read_from(&block)) {
                (slots::State::Held(id), Ok(Some(header))) => {
                    assert_eq!((header.id, header.epoch), (id, slots.get(id).unwrap().epoch));
                    assert_eq!(slots.get(id).unwrap().slot, slot);
                    named += 1;
                }
                (slots::State::Free | slots::State::Claimed, Ok(None)) | (slots::State::Retired, _) => {}
                (slots::State::Busy, _) if slots.is_suspect(slot) => {}
                (state, header) => panic!("slot {slot} is {state:?} here, and on disk {header:?}"),
            }
        }
        assert_eq!(named, slots.len());
        let Some(index) = store.0.index.as_ref().filter(|index| index.is_used()) else { return };
        for number in 0..slots.in_file().div_ceil(index::SLOTS_A_BLOCK) {
            let block = self.power.block(index.file.path(), number);
            let notes = index::read_block(&block, number, index.inode);
            for (slot, note) in (number * index::SLOTS_A_BLOCK..slots.in_file()).zip(notes) {
                match (note, slots.state(slot)) {
                    (index::Note::Doubt, _) | (_, slots::State::Retired) => {}
                    (index::Note::Free, state) => assert_eq!(state, slots::State::Free, "slot {slot}"),
                    // Its header is as it was, too.
                    (index::Note::Item(..), slots::State::Busy) if slots.is_suspect(slot) => {}
                    (index::Note::Item(id, _), state) => {
                        assert_eq!(state, slots::State::Held(id), "slot {slot}");
                    }
                }
            }
        }
    }

    async fn run(mut self) {
        for _ in 0..ROUNDS {
            let (store, loss) = self.open().await;
            if !self.power.is_lost() {
                self.check_index(&store);
            }
            for index in 0..IDS {
                self.check(&store, index, true).await;
            }
            self.faults(true);
            for _ in 0..self.rng.below(10) {
                self.batch(&store).await;
                if self.power.is_lost() {
                    break;
                }
                self.check_index(&store);
            }
            self.power.set_faults(Faults::default());
            self.end(Some(store), loss).await;
        }
    }
}

#[test]
fn nothing_that_was_said_to_be_done_is_undone() {
    on_disk(|_, _| async {
        let pool = Pool::new(16 * SEEDS_AT_ONCE, 4096).unwrap();
        let one = std::env::var("POWER_SEED").ok().map(|seed| seed.parse().unwrap());
        let seeds = one.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
        stream::iter(seeds)
            .for_each_concurrent(SEEDS_AT_ONCE, |seed| {
                let run = Run::new(seed, &pool);
                async move {
                    if let Err(panic) = AssertUnwindSafe(run.run()).catch_unwind().await {
                        eprintln!("POWER_SEED={seed}");
                        resume_unwind(panic);
                    }
                }
            })
            .await;
        assert_eq!(pool.stats().in_use, 0);
    });
}
