use super::open::LOOSE_FILE;
use super::space::Space;
use super::*;
use crate::on_disk::on_disk;
use consensus::constants::RECORD_SIZE;
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;

const SLOTS: u64 = 4;

fn config(tmp: bool) -> StoreConfig {
    StoreConfig { size_bytes: Some(SLOTS * SLOT_BYTES as u64 + 5), tmp, ..StoreConfig::default() }
}

pub(super) async fn open(
    disk: &Disk,
    pool: &Pool,
    dir: &Path,
    config: &StoreConfig,
) -> (PieceStore, StoreReport) {
    let scratch = pool.try_acquire().unwrap().narrow(..STORE_SCRATCH_BYTES);
    PieceStore::open(disk.clone(), scratch, dir, config).await.unwrap()
}

pub(super) fn id(index: u64) -> ItemId {
    ItemId { kind: if index.is_multiple_of(3) { ItemKind::Parity } else { ItemKind::Piece }, index }
}

/// An item in wire order, made of a seed.
pub(super) fn item(id: ItemId, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; id.kind.size_bytes()];
    blake3::Hasher::new().update(&id.index.to_le_bytes()).update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

pub(super) async fn put(store: &PieceStore, pool: &Pool, id: ItemId, seed: u8) -> Result<Item, StoreError> {
    let bytes = item(id, seed);
    let mut slab = pool.acquire().await.unwrap().narrow(..SLOT_BYTES);
    slab.fill(0xEE);
    slab[RECORD_AT..].copy_from_slice(&bytes[..RECORD_SIZE]);
    slab[POINTS_AT..RECORD_AT][..bytes.len() - RECORD_SIZE].copy_from_slice(&bytes[RECORD_SIZE..]);
    store.put(Class::SectorWrite, id, u64::from(seed), *blake3::hash(&bytes).as_bytes(), slab).await
}

/// The item as the store gives it, in wire order.
pub(super) async fn get(store: &PieceStore, id: ItemId) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
    let item = store.get(Class::Serving, id).await?;
    Ok(item.map(|item| {
        let mut bytes = item.slab[RECORD_AT..].to_vec();
        if id.kind == ItemKind::Piece {
            bytes.extend(&item.slab[POINTS_AT..RECORD_AT]);
        }
        assert_eq!(blake3::hash(&bytes).as_bytes(), &item.blake3);
        (bytes, item.epoch)
    }))
}

/// Whoever keeps an item in memory asks by its stamp whether it is still the store's.
#[test]
fn a_stamp_is_of_one_item_alone() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(&disk, &pool, dir.path(), &config(false)).await;
        assert_eq!(store.stamp(id(1)), None);
        let mut stamps = Vec::new();
        for seed in 0..3 {
            let put = put(&store, &pool, id(1), seed).await.unwrap();
            let got = store.get(Class::Serving, id(1)).await.unwrap().unwrap();
            assert_eq!((Some(put.stamp), put.blake3, put.epoch), (store.stamp(id(1)), got.blake3, got.epoch));
            assert!(got.stamp == put.stamp && got.slab[..] == put.slab[..]);
            stamps.push(put.stamp);
            if seed == 1 {
                store.remove(Class::Serving, id(1)).await.unwrap();
                assert_eq!(store.stamp(id(1)), None);
            }
        }
        stamps.sort_unstable();
        stamps.dedup();
        assert_eq!(stamps.len(), 3);
    });
}

#[test]
fn items_are_kept_replaced_and_removed() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/cache");
        let (store, report) = open(&disk, &pool, &path, &config(false)).await;
        assert_eq!((report, store.capacity(), store.len()), (StoreReport::default(), SLOTS, 0));
        assert_eq!(fs::metadata(store.path()).unwrap().len(), SLOTS * SLOT_BYTES as u64);
        for index in 0..SLOTS {
            put(&store, &pool, id(index), 1).await.unwrap();
        }
        let error = put(&store, &pool, id(9), 1).await.unwrap_err();
        assert!(matches!(error, StoreError::Full { slots: SLOTS }), "{error}");
        assert!(store.remove(Class::Serving, id(2)).await.unwrap());
        assert!(!store.remove(Class::Serving, id(2)).await.unwrap());
        put(&store, &pool, id(1), 2).await.unwrap();
        assert_eq!((store.len(), store.contains(id(2)), store.contains(id(1))), (3, false, true));
        drop(store);
        let (store, report) = open(&disk, &pool, &path, &config(false)).await;
        assert_eq!((report, store.len()), (StoreReport::default(), 3));
        let mut items = store.items();
        items.sort_unstable();
        assert_eq!(items, [(id(1), 2), (id(0), 1), (id(3), 1)]);
        for (index, seed) in [(0, 1), (1, 2), (3, 1)] {
            assert!(get(&store, id(index)).await.unwrap() == Some((item(id(index), seed), u64::from(seed))));
        }
        assert!(get(&store, id(2)).await.unwrap().is_none());
        let scratch = pool.try_acquire().unwrap().narrow(..STORE_SCRATCH_BYTES);
        let error = PieceStore::open(disk.clone(), scratch, &path, &config(false)).await.err().unwrap();
        assert!(error.to_string().contains("already locked by a process"), "{error}");
    });
}

#[test]
fn the_pieces_of_each_segment_are_known() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let piece = |segment: u64, position: u8| ItemId {
            kind: ItemKind::Piece,
            index: segment * 256 + u64::from(position),
        };
        let (store, _) = open(&disk, &pool, dir.path(), &config(false)).await;
        assert_eq!((store.last_segment(), store.pieces(0)), (None, PieceSet::EMPTY));
        for id in [piece(2, 7), piece(2, 255), piece(1, 3)] {
            put(&store, &pool, id, 1).await.unwrap();
        }
        let parity = ItemId { kind: ItemKind::Parity, index: 9 * 256 };
        put(&store, &pool, parity, 1).await.unwrap();
        let two: PieceSet = [7, 255].into_iter().collect();
        assert_eq!((store.last_segment(), store.pieces(2)), (Some(2), two), "parity is no piece");
        store.remove(Class::Serving, piece(2, 7)).await.unwrap();
        put(&store, &pool, piece(2, 255), 2).await.unwrap();
        drop(store);
        let (store, _) = open(&disk, &pool, dir.path(), &config(false)).await;
        assert_eq!(store.pieces(2), [255].into_iter().collect(), "the same after a restart");
        store.remove(Class::Serving, piece(2, 255)).await.unwrap();
        assert_eq!((store.last_segment(), store.pieces(2)), (Some(1), PieceSet::EMPTY));
    });
}

#[test]
fn the_bytes_on_disk_are_as_documented() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(&disk, &pool, dir.path(), &config(false)).await;
        let id = ItemId { kind: ItemKind::Piece, index: 0x0102_0304_0506_0708 };
        put(&store, &pool, id, 7).await.unwrap();
        let (bytes, file) = (item(id, 7), fs::read(store.path()).unwrap());
        let at = file.chunks(SLOT_BYTES).position(|slot| slot.starts_with(b"ASFITEM1")).unwrap();
        let slot = &file[at * SLOT_BYTES..][..SLOT_BYTES];
        assert_eq!(
            slot[8..40],
            [
                1, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0x10, 0, 0,
                0, 0, 0,
            ]
        );
        assert_eq!(&slot[40..72], blake3::hash(&bytes).as_bytes());
        assert_eq!(&slot[72..104], blake3::hash(&slot[..72]).as_bytes());
        assert!(slot[104..4000].iter().all(|&byte| byte == 0));
        assert!(slot[4000..4096] == bytes[1 << 20..] && slot[4096..] == bytes[..1 << 20]);
    });
}

#[test]
fn damage_is_told_once_and_never_served() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(&disk, &pool, dir.path(), &config(true)).await;
        for index in 0..3 {
            put(&store, &pool, id(index), 1).await.unwrap();
        }
        let file = fs::File::options().write(true).open(store.path()).unwrap();
        let damage = |index| {
            let entry = store.0.slots.borrow().get(id(index)).unwrap();
            file.write_all_at(&[0x77; 3], offset(entry.slot) + 600_000).unwrap();
        };
        damage(1);
        let error = get(&store, id(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("piece 1 at offset"), "{error}");
        assert!(get(&store, id(1)).await.unwrap().is_none());
        put(&store, &pool, id(1), 2).await.unwrap();
        assert!(get(&store, id(1)).await.unwrap().is_some());
        damage(2);
        drop(store);
        // What was written without force is checked as a whole at opening.
        let (store, report) = open(&disk, &pool, dir.path(), &config(true)).await;
        assert_eq!((report, store.len()), (StoreReport { damaged: 1, ..StoreReport::default() }, 2));
        // A file cut short under an open store: the item is dropped with the disk's word for it.
        file.set_len(0).unwrap();
        assert!(matches!(get(&store, id(0)).await.unwrap_err(), StoreError::Io(IoError::Short { .. })));
        assert!(get(&store, id(0)).await.unwrap().is_none());
    });
}

#[test]
fn of_two_copies_the_later_stays() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(&disk, &pool, dir.path(), &config(false)).await;
        put(&store, &pool, id(1), 3).await.unwrap();
        let older = fs::read(store.path()).unwrap();
        put(&store, &pool, id(1), 5).await.unwrap();
        let slot = store.0.slots.borrow().get(id(1)).unwrap().slot;
        drop(store);
        // As if the crash had come before the old slot was cleared.
        let mut file = older;
        let newer = fs::read(dir.path().join(ITEMS_FILE)).unwrap();
        let range = offset(slot) as usize..offset(slot + 1) as usize;
        file[range.clone()].copy_from_slice(&newer[range]);
        fs::write(dir.path().join(ITEMS_FILE), file).unwrap();
        for duplicates in [1, 0] {
            let (store, report) = open(&disk, &pool, dir.path(), &config(false)).await;
            assert_eq!(report, StoreReport { duplicates, ..StoreReport::default() });
            assert!(get(&store, id(1)).await.unwrap() == Some((item(id(1), 5), 5)));
        }
    });
}

#[test]
fn a_dropped_put_is_done_and_a_read_beside_it_is_whole() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(&disk, &pool, dir.path(), &config(false)).await;
        put(&store, &pool, id(1), 1).await.unwrap();
        let mut dropped = Box::pin(put(&store, &pool, id(1), 2));
        assert!(futures::poll!(&mut dropped).is_pending());
        drop(dropped);
        // Items come and go in all slots while one is read.
        let mut reads = 0;
        let changes = async {
            for round in 3..9 {
                put(&store, &pool, id(1), round).await.unwrap();
                put(&store, &pool, id(2), round).await.unwrap();
                store.remove(Class::Serving, id(2)).await.unwrap();
            }
        };
        let mut changes = std::pin::pin!(changes);
        while futures::poll!(&mut changes).is_pending() {
            let (bytes, epoch) = get(&store, id(1)).await.unwrap().unwrap();
            assert!(bytes == item(id(1), epoch as u8));
            reads += 1;
        }
        assert!(reads > 3, "{reads}");
        assert_eq!(get(&store, id(1)).await.unwrap().unwrap().1, 8);
    });
}

#[test]
fn without_a_size_the_file_grows_as_needed() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig::default();
        let scratch = || pool.try_acquire().unwrap().narrow(..STORE_SCRATCH_BYTES);
        // Nine tenths of this file system, less what others take, are not quite three slots.
        let total = 10 * SLOT_BYTES as u64;
        let space = Space { total, free: total - 6 * SLOT_BYTES as u64 - 5000 };
        let opened = PieceStore::open_on(disk.clone(), scratch(), dir.path(), &config, |_| Ok(space)).await;
        let store = opened.unwrap().0;
        assert_eq!((fs::metadata(store.path()).unwrap().len(), store.capacity()), (0, 2));
        for index in 0..2 {
            put(&store, &pool, id(index), 1).await.unwrap();
        }
        assert!(matches!(put(&store, &pool, id(2), 1).await, Err(StoreError::Full { slots: 2 })));
        drop(store);
        // What it takes itself is its own; what others have taken since it cannot have.
        let space = Space { total, free: 0 };
        let opened = PieceStore::open_on(disk.clone(), scratch(), dir.path(), &config, |_| Ok(space)).await;
        let store = opened.unwrap().0;
        assert_eq!((store.capacity(), store.len()), (2, 2));
        drop(store);
        let other = dir.path().join("other");
        let opened = PieceStore::open_on(disk.clone(), scratch(), &other, &config, |_| Ok(space)).await;
        assert!(matches!(opened.err().unwrap(), StoreError::TooSmall { bytes: 0, .. }));
        let one = StoreConfig { size_bytes: Some(SLOT_BYTES as u64), ..StoreConfig::default() };
        let (store, _) = open(&disk, &pool, dir.path(), &one).await;
        assert_eq!((store.capacity(), store.len()), (2, 2), "nothing is cut off");
        drop(store);
        let none = StoreConfig { size_bytes: Some(5000), ..StoreConfig::default() };
        let empty = dir.path().join("empty");
        let error = PieceStore::open(disk.clone(), scratch(), &empty, &none).await.err().unwrap();
        assert!(error.to_string().contains("size="), "{error}");
    });
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64, u8),
    Get(u64),
    Remove(u64),
    Reopen {
        tmp: bool,
    },
    /// Flips a bit of some slot, then opens again.
    Flip {
        slot: u64,
        at: usize,
        bit: u8,
    },
    /// Cuts the file, then opens again.
    Cut {
        slots: u64,
        bytes: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..6u64;
    prop_oneof![
        5 => (index.clone(), 1..20u8).prop_map(|(index, seed)| Step::Put(index, seed)),
        3 => index.clone().prop_map(Step::Get),
        2 => index.prop_map(Step::Remove),
        1 => any::<bool>().prop_map(|tmp| Step::Reopen { tmp }),
        1 => (0..SLOTS, prop_oneof![0..104usize, 4000..SLOT_BYTES], 0..8u8)
            .prop_map(|(slot, at, bit)| Step::Flip { slot, at, bit }),
        1 => (0..SLOTS, 0..SLOT_BYTES as u64).prop_map(|(slots, bytes)| Step::Cut { slots, bytes }),
    ]
}

/// What must be there, and what may be there: an item whose slot was damaged is either whole or gone.
#[derive(Default)]
struct Model {
    items: HashMap<u64, u8>,
    damaged: HashMap<u64, u8>,
}

impl Model {
    async fn check(&mut self, store: &PieceStore, index: u64) {
        let expected = self.items.get(&index).map(|&seed| (item(id(index), seed), u64::from(seed)));
        if let Some(seed) = self.damaged.remove(&index) {
            // Flips in unused bytes of the block change nothing.
            match get(store, id(index)).await {
                Ok(Some(found)) => {
                    assert!(found == (item(id(index), seed), u64::from(seed)));
                    self.items.insert(index, seed);
                }
                Ok(None) | Err(StoreError::Damaged { .. }) => {
                    assert!(get(store, id(index)).await.unwrap().is_none());
                }
                Err(error) => panic!("{error}"),
            }
        } else {
            assert!(get(store, id(index)).await.unwrap() == expected, "item {index}");
        }
    }

    fn damage(&mut self, slot: u64, slots: &HashMap<u64, u64>) {
        for (index, _) in slots.iter().filter(|(_, at)| **at == slot) {
            if let Some(seed) = self.items.remove(index) {
                self.damaged.insert(*index, seed);
            }
        }
    }
}

async fn run(disk: Disk, pool: Pool, steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let (mut store, _) = open(&disk, &pool, dir.path(), &config(false)).await;
    for step in steps {
        let slots_of: HashMap<u64, u64> =
            (0..6).filter_map(|index| Some((index, store.0.slots.borrow().get(id(index))?.slot))).collect();
        let file = || fs::File::options().read(true).write(true).open(dir.path().join(ITEMS_FILE)).unwrap();
        let mut tmp = false;
        match step {
            Step::Put(index, seed) => match put(&store, &pool, id(index), seed).await {
                Ok(_) => {
                    model.damaged.remove(&index);
                    model.items.insert(index, seed);
                }
                Err(error) => {
                    assert!(matches!(error, StoreError::Full { .. }) && store.len() == SLOTS, "{error}");
                }
            },
            Step::Get(index) => model.check(&store, index).await,
            Step::Remove(index) => {
                let there = store.remove(Class::Serving, id(index)).await.unwrap();
                let may = model.damaged.remove(&index).is_some();
                assert!(there == model.items.remove(&index).is_some() || may);
            }
            Step::Flip { slot, at, bit } => {
                let (mut byte, at) = ([0], offset(slot) + at as u64);
                file().read_exact_at(&mut byte, at).unwrap();
                file().write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
                model.damage(slot, &slots_of);
            }
            Step::Cut { slots, bytes } => {
                file().set_len(offset(slots) + bytes).unwrap();
                (slots..SLOTS).for_each(|slot| model.damage(slot, &slots_of));
            }
            Step::Reopen { tmp: is_tmp } => tmp = is_tmp,
        }
        if matches!(step, Step::Reopen { .. } | Step::Flip { .. } | Step::Cut { .. }) {
            drop(store);
            (store, _) = open(&disk, &pool, dir.path(), &config(tmp)).await;
        }
    }
    for index in 0..6 {
        model.check(&store, index).await;
    }
}

#[test]
fn damage_that_opening_found_is_not_found_again() {
    // The header stays whole, and only opening with `tmp` reads what is behind it.
    let cut = Step::Cut { slots: 0, bytes: 104 };
    let (with_tmp, without) = (Step::Reopen { tmp: true }, Step::Reopen { tmp: false });
    let steps = vec![Step::Put(1, 1), cut, with_tmp, Step::Get(1), without, Step::Get(1)];
    on_disk(move |disk, pool| run(disk, pool, steps));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_is_a_map_that_forgets_only_what_was_damaged(steps in prop::collection::vec(step(), 1..30)) {
        on_disk(move |disk, pool| run(disk, pool, steps));
    }
}

/// Power was lost while an item was replaced, in whatever order the disk wrote: some of the new slot is there, all of the old.
#[test]
fn a_replacement_that_was_cut_off_leaves_what_was_there() {
    on_disk(|disk, pool| async move {
        for first_bytes in [512, 4096, 65_536, SLOT_BYTES - 4096] {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = open(&disk, &pool, dir.path(), &config(false)).await;
            put(&store, &pool, id(1), 3).await.unwrap();
            let older = fs::read(store.path()).unwrap();
            put(&store, &pool, id(1), 5).await.unwrap();
            let slot = store.0.slots.borrow().get(id(1)).unwrap().slot;
            drop(store);
            let (mut file, path) = (older, dir.path().join(ITEMS_FILE));
            let (newer, begin) = (fs::read(&path).unwrap(), offset(slot) as usize);
            file[begin..begin + first_bytes].copy_from_slice(&newer[begin..begin + first_bytes]);
            fs::write(&path, file).unwrap();
            let (store, report) = open(&disk, &pool, dir.path(), &config(false)).await;
            assert_eq!(report.damaged, 1, "{first_bytes}");
            assert!(get(&store, id(1)).await.unwrap() == Some((item(id(1), 3), 3)), "{first_bytes}");
            // And the slot is of use again.
            put(&store, &pool, id(1), 6).await.unwrap();
            assert!(get(&store, id(1)).await.unwrap() == Some((item(id(1), 6), 6)));
        }
    });
}

#[test]
fn a_store_that_grows_takes_what_it_has() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { size_bytes: Some(600 * SLOT_BYTES as u64), grows: true, tmp: true };
        let (store, _) = open(&disk, &pool, dir.path(), &config).await;
        assert_eq!((fs::metadata(store.path()).unwrap().len(), store.capacity()), (0, 600));
        put(&store, &pool, id(1), 1).await.unwrap();
        assert_eq!(fs::metadata(store.path()).unwrap().len(), GROW_SLOTS * SLOT_BYTES as u64);
        drop(store);
        let (store, _) = open(&disk, &pool, dir.path(), &config).await;
        assert_eq!((store.len(), store.capacity()), (1, 600));
    });
}

/// What was written without syncs may be there in part: whoever opens the store in earnest reads all of it once.
#[test]
fn a_store_that_was_opened_tmp_is_known_by_it_until_all_was_read() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let is_loose = || dir.path().join(LOOSE_FILE).exists();
        for tmp in [true, true, false, false] {
            let (store, _) = open(&disk, &pool, dir.path(), &config(tmp)).await;
            assert_eq!(is_loose(), tmp);
            put(&store, &pool, id(1), 1).await.unwrap();
        }
    });
}
