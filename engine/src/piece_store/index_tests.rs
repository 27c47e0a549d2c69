//! An index on disk that is missing, damaged, of another file, or lies: it costs time, never an item.

use super::index::{Note, SLOTS_A_BLOCK, write_block};
use super::tests::{get, id, item, open, put};
use super::*;
use crate::on_disk::on_disk;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Opening compares every fourth with the index.
const SLOTS: u64 = 64;
const ITEMS: u64 = 20;

fn config() -> StoreConfig {
    StoreConfig { size_bytes: Some(SLOTS * SLOT_BYTES as u64), ..StoreConfig::default() }
}

async fn filled(disk: &Disk, pool: &Pool, dir: &Path) {
    let (store, _) = open(disk, pool, dir, &config()).await;
    for index in 0..ITEMS {
        put(&store, pool, id(index), 1).await.unwrap();
    }
}

async fn expect_all(store: &PieceStore, seed: u8) {
    assert_eq!(store.len(), ITEMS);
    for index in 0..ITEMS {
        let found = get(store, id(index)).await.unwrap();
        assert!(found == Some((item(id(index), seed), u64::from(seed))), "item {index}");
    }
}

#[test]
fn a_store_that_was_not_closed_opens_from_its_index() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { size_bytes: Some(300 * SLOT_BYTES as u64), ..StoreConfig::default() };
        for round in 0..2 {
            let (store, report) = open(&disk, &pool, dir.path(), &config).await;
            // All but those claimed for coming puts, and those compared.
            let unread = if round == 0 { 0 } else { 300 - CLAIMED_AT_ONCE as u64 - 17 };
            assert!(report.believed >= unread, "{report:?}");
            put(&store, &pool, id(round), 1).await.unwrap();
            put(&store, &pool, id(7), round as u8).await.unwrap();
            store.remove(Class::Serving, id(round)).await.unwrap();
        }
        let (store, _) = open(&disk, &pool, dir.path(), &config).await;
        assert_eq!(store.items(), [(id(7), 1)]);
    });
}

#[test]
fn an_index_that_is_damaged_or_of_another_file_costs_no_item() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        filled(&disk, &pool, dir.path()).await;
        let path = dir.path().join(INDEX_FILE);
        let good = fs::read(&path).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            bad
        };
        // Nothing, cut off, torn, a bit, another release, of another inode, of another place.
        let bads = [
            vec![],
            good[..2000].to_vec(),
            [&good[..512], &[0; 3584]].concat(),
            with(70, 0x55),
            with(7, b'2'),
            with(16, good[16] ^ 1),
            with(8, 1),
        ];
        for bad in bads {
            fs::write(&path, &bad).unwrap();
            let (store, report) = open(&disk, &pool, dir.path(), &config()).await;
            assert_eq!(report, StoreReport::default(), "all headers were read");
            expect_all(&store, 1).await;
            drop(store);
            let (store, report) = open(&disk, &pool, dir.path(), &config()).await;
            assert!(report.believed > 0, "it was written anew");
            expect_all(&store, 1).await;
        }
        fs::remove_file(&path).unwrap();
        expect_all(&open(&disk, &pool, dir.path(), &config()).await.0, 1).await;
        // Other items under an index that was right yesterday; opened without an index meanwhile.
        let old = fs::read(&path).unwrap();
        let tmp = StoreConfig { tmp: true, ..config() };
        let (store, _) = open(&disk, &pool, dir.path(), &tmp).await;
        assert!(!path.exists(), "what is not kept up must not be believed");
        for index in 0..ITEMS {
            put(&store, &pool, id(index), 2).await.unwrap();
        }
        drop(store);
        fs::write(&path, old).unwrap();
        expect_all(&open(&disk, &pool, dir.path(), &config()).await.0, 2).await;
    });
}

/// The slots of an open store as its index should say them.
fn notes(store: &PieceStore) -> Vec<Note> {
    let mut slots = store.0.slots.borrow_mut();
    let notes = (0..SLOTS.div_ceil(SLOTS_A_BLOCK)).flat_map(|block| slots.notes(block));
    let definite = notes.map(|note| if note == Note::Doubt { Note::Free } else { note });
    definite.collect()
}

fn write_notes(dir: &Path, notes: &[Note]) {
    let inode = fs::metadata(dir.join(ITEMS_FILE)).unwrap().ino();
    let file = fs::File::options().write(true).open(dir.join(INDEX_FILE)).unwrap();
    for (number, notes) in notes.chunks(SLOTS_A_BLOCK as usize).enumerate() {
        let mut block = vec![0; BLOCK_BYTES];
        write_block(&mut block, number as u64, inode, notes);
        file.write_all_at(&block, (number * BLOCK_BYTES) as u64).unwrap();
    }
}

#[test]
fn an_index_that_lies_costs_no_item_and_no_byte() {
    on_disk(|disk, pool| async move {
        for lie in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            filled(&disk, &pool, dir.path()).await;
            let (store, _) = open(&disk, &pool, dir.path(), &config()).await;
            let mut notes = notes(&store);
            drop(store);
            // None of these is compared when opening. Slots 1 to 3 have items, 41 to 43 have none.
            match lie {
                0 => notes.swap(1, 2),
                1 => (1..4).for_each(|slot| notes[slot] = Note::Free),
                2 => (1..4).for_each(|slot| notes.swap(slot, 40 + slot)),
                3 => notes[41] = notes[2],
                _ => (41..44).for_each(|slot| notes[slot] = Note::Item(id(900 + slot as u64), 1)),
            }
            write_notes(dir.path(), &notes);
            let (store, report) = open(&disk, &pool, dir.path(), &config()).await;
            assert!(report.believed > 0, "lie {lie} is not seen at once");
            let lost = Rc::new(Cell::new(0));
            if lie % 2 == 0 {
                let lost = lost.clone();
                store.check_behind(move || lost.set(lost.get() + 1));
            }
            // Puts need all that is called free.
            let mut put_now = 0;
            while put_now < SLOTS - ITEMS - 4 {
                put(&store, &pool, id(100 + put_now), 3).await.unwrap();
                put_now += 1;
            }
            while lie % 2 == 0 && store.0.slots.borrow().believed() > 0 {
                task::sleep(Duration::from_millis(1)).await;
            }
            for index in 0..ITEMS {
                // An item that is not where it should be is told; never is it another one.
                match get(&store, id(index)).await {
                    Ok(Some(found)) => assert!(found == (item(id(index), 1), 1)),
                    Ok(None) | Err(StoreError::Damaged { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(lost.get() > 0, matches!(lie, 0 | 4), "lie {lie}: {}", lost.get());
            drop(store);
            fs::remove_file(dir.path().join(INDEX_FILE)).unwrap();
            let (store, _) = open(&disk, &pool, dir.path(), &config()).await;
            for (index, seed) in (0..ITEMS).map(|index| (index, 1)).chain((0..put_now).map(|n| (100 + n, 3)))
            {
                let found = get(&store, id(index)).await.unwrap();
                assert!(found == Some((item(id(index), seed), u64::from(seed))), "lie {lie}: item {index}");
            }
        }
    });
}
