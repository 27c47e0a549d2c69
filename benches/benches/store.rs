//! The piece store: puts a second, one at a time and 32 at once, beside what the disk does in fdatasyncs; and opening, by the index and by reading
//! headers. Run with `cargo bench -p benches --bench store [-- DIR]`, on the disk of `DIR`; it writes some 9 GB there and removes them.
//! Every figure stands beside one of the raw disk in the same minute.

use engine::piece_store::{
    INDEX_FILE, ITEMS_FILE, ItemId, ItemKind, POINTS_AT, PieceStore, RECORD_AT, SLOT_BYTES, StoreConfig,
    StoreReport,
};
use engine::pool::Pool;
use engine::{Class, Executors, ExecutorsConfig, Limits, Local};
use futures::{StreamExt, stream};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 3;
/// How long puts and syncs are measured in a round.
const MEASURED: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 32;
/// Slots of the stores that are opened.
const SLOTS: [u64; 4] = [1000, 10_000, 100_000, 950_000];

fn main() {
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let parent = named.map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("store-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory can be made there");
    let pool = Pool::new(2 * AT_ONCE, 256).expect("128 MiB can be mapped");
    let config = ExecutorsConfig { name: "bench".into(), cores: vec![None], ring_depth: 128 };
    let executors = Executors::start(&config, &pool).expect("io_uring is allowed");
    let measured = executors.spawner(0).spawn({
        let dir = dir.clone();
        move |local| async move {
            puts(&local, &dir.join("puts")).await;
            for slots in SLOTS {
                opening(&local, &dir.join(format!("{slots}")), slots).await;
            }
        }
    });
    measured.wait().expect("the executor runs");
    drop(executors);
    fs::remove_dir_all(&dir).expect("what was made can be removed");
}

async fn open(local: &Local, dir: &Path, slots: u64) -> (PieceStore, StoreReport) {
    let disk = local.disk(dir, Limits::default()).expect("memory can be locked");
    let scratch = local.pool().acquire().await.expect("slabs are free");
    let size_bytes = Some(slots * SLOT_BYTES as u64);
    let config = StoreConfig { size_bytes, ..StoreConfig::default() };
    PieceStore::open(disk, scratch, dir, &config).await.expect("there is room")
}

async fn puts(local: &Local, dir: &Path) {
    let (store, _) = open(local, dir, 4096).await;
    for round in 1..=ROUNDS {
        let syncs = syncs_a_second(dir);
        let one = puts_a_second(local, &store, 1).await;
        let many = puts_a_second(local, &store, AT_ONCE).await;
        println!(
            "round {round}: {syncs:.0} fdatasyncs/s; puts/s: {one:.0} one at a time ({:.2} a sync), {many:.0} at {AT_ONCE} at once \
             ({:.2} a sync): {:.1} times",
            one / syncs,
            many / syncs,
            many / one
        );
    }
}

/// Of a block that is written before each.
fn syncs_a_second(dir: &Path) -> f64 {
    let file = File::create(dir.join("raw")).expect("a file can be made");
    let (begun, mut syncs) = (Instant::now(), 0_u32);
    while begun.elapsed() < MEASURED {
        file.write_all_at(&[1; 4096], u64::from(syncs % 64) * 4096).expect("there is room");
        file.sync_data().expect("the disk works");
        syncs += 1;
    }
    f64::from(syncs) / begun.elapsed().as_secs_f64()
}

/// Of items that replace nothing; they are removed afterwards.
async fn puts_a_second(local: &Local, store: &PieceStore, at_once: usize) -> f64 {
    let begun = Instant::now();
    let indices = (0_u64..4000).take_while(|_| begun.elapsed() < MEASURED);
    let put = |index: u64| async move {
        let mut slab = local.pool().acquire().await.expect("not many wait").narrow(..SLOT_BYTES);
        slab[RECORD_AT..RECORD_AT + 8].copy_from_slice(&index.to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&slab[RECORD_AT..]).update(&slab[POINTS_AT..RECORD_AT]);
        let id = ItemId { kind: ItemKind::Piece, index };
        let put = store.put(Class::SectorWrite, id, 1, hasher.finalize().into(), slab).await;
        put.expect("the disk works");
    };
    let count = stream::iter(indices).map(put).buffer_unordered(at_once).count().await;
    let a_second = count as f64 / begun.elapsed().as_secs_f64();
    for (id, _) in store.items() {
        store.remove(Class::SectorWrite, id).await.expect("the disk works");
    }
    a_second
}

/// A store whose slots all hold items, or at least their headers.
async fn opening(local: &Local, dir: &Path, slots: u64) {
    fs::create_dir_all(dir).expect("a directory can be made");
    let file = File::create(dir.join(ITEMS_FILE)).expect("a file can be made");
    file.set_len(slots * SLOT_BYTES as u64).expect("sparse files are allowed");
    for slot in 0..slots {
        file.write_all_at(&header(slot), slot * SLOT_BYTES as u64).expect("there is room");
    }
    file.sync_all().expect("the disk works");
    drop(file);
    let mut seconds = [Duration::ZERO; 2];
    let mut believed = 0;
    for took in &mut seconds {
        let begun = Instant::now();
        let (store, report) = open(local, dir, slots).await;
        (*took, believed) = (begun.elapsed(), report.believed);
        assert_eq!(store.len(), slots);
    }
    let begun = Instant::now();
    let index_bytes = fs::read(dir.join(INDEX_FILE)).expect("it was written").len();
    println!(
        "{slots} slots: {:.2?} by headers, {:.3?} by the index ({believed} believed; {index_bytes} bytes, which a plain read takes {:.3?} for): \
         {:.0} times",
        seconds[0],
        seconds[1],
        begun.elapsed(),
        seconds[0].as_secs_f64() / seconds[1].as_secs_f64()
    );
    fs::remove_dir_all(dir).expect("what was made can be removed");
}

/// The header of a piece, as documented in the store.
fn header(index: u64) -> [u8; 4096] {
    let mut block = [0; 4096];
    block[..8].copy_from_slice(b"ASFITEM1");
    block[8] = 1;
    block[16..24].copy_from_slice(&index.to_le_bytes());
    block[32..36].copy_from_slice(&(SLOT_BYTES as u32 - POINTS_AT as u32).to_le_bytes());
    let hash = blake3::hash(&block[..72]);
    block[72..104].copy_from_slice(hash.as_bytes());
    block
}
