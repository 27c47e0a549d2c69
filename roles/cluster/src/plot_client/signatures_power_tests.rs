//! Reward signatures on a disk that loses its power at any write and any sync, and errs now and then.
//!
//! Never: two signatures that left for one hash, as long as it must be remembered. One seed is one run; `POWER_SEED=7` runs that alone.

use super::*;
use engine::power::{Faults, Loss, Power, Rng};
use engine::{Executors, ExecutorsConfig, Limits};
use std::time::Duration;

const SEEDS: u64 = 300;
const ROUNDS: usize = 6;

struct Run {
    rng: Rng,
    power: Power,
    disk: Disk,
    pool: Pool,
    dir: tempfile::TempDir,
    identity: Identity,
    hashes: u64,
    /// What left, by hash.
    left: HashMap<u64, [u8; 64]>,
}

fn hash(n: u64) -> [u8; 32] {
    blake3::hash(&n.to_le_bytes()).into()
}

impl Run {
    fn new(seed: u64, pool: &Pool) -> Self {
        let (rng, power) = (Rng::new(seed + 1000), Power::new(seed));
        let (disk, dir) = (power.disk(pool, Limits::default()), tempfile::tempdir().unwrap());
        let (identity, left) = (Identity::from_entropy([7; 32]), HashMap::new());
        let mut run = Self { rng, power, disk, pool: pool.clone(), dir, identity, hashes: 0, left };
        if run.rng.one_in(3) {
            run.fill();
        }
        run
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(SIGNATURES_FILE)
    }

    /// All places but a few are taken, so that the older half is dropped soon.
    fn fill(&mut self) {
        self.hashes = MAX_ENTRIES as u64 - self.rng.below(5);
        let key = self.identity.public_key();
        // Signatures of nobody, as quickly made as read.
        let signature = |n: u64| *blake3::hash(&n.to_be_bytes()).as_bytes();
        let entries: Vec<Entry> = (0..self.hashes)
            .map(|n| {
                let signature = [signature(n), signature(n)].concat().try_into().unwrap();
                self.left.insert(n, signature);
                entry(&key, &hash(n), &signature)
            })
            .collect();
        std::fs::write(self.path(), entries.as_flattened()).unwrap();
        self.power.read_in(&self.path());
    }

    async fn open(&self) -> SignatureStore {
        // Opening reads by the system.
        let scratch = self.pool.try_acquire().unwrap();
        self.power.write_out(&self.path());
        let store =
            SignatureStore::open(self.disk.clone(), scratch, self.dir.path(), self.identity.clone(), None)
                .await
                .unwrap();
        self.power.read_in(&self.path());
        store
    }

    /// The newest half of all is what must be remembered.
    fn oldest(&self) -> u64 {
        self.hashes.saturating_sub(MAX_ENTRIES as u64 / 2)
    }

    async fn sign(&mut self, store: &mut SignatureStore) {
        let is_new = self.hashes == 0 || self.rng.one_in(2);
        self.hashes += u64::from(is_new);
        // One of the last few: those are asked for again.
        let n = self.hashes - 1 - if is_new { 0 } else { self.rng.below(6).min(self.hashes - 1) };
        let may_be_new = !self.rng.one_in(4);
        let (signature, is_fresh) = match store.sign(&hash(n), may_be_new).await {
            Ok(Stored::Fresh(signature)) => (signature, true),
            Ok(Stored::Known(signature)) => (signature, false),
            Ok(Stored::Absent) => {
                return assert!(!may_be_new && !self.left.contains_key(&n), "{n} is forgotten");
            }
            Ok(Stored::Failed(error)) => panic!("{error}"),
            Err(_) => return,
        };
        assert!(!is_fresh || may_be_new);
        assert_eq!(*self.left.entry(n).or_insert(signature), signature, "{n} was signed twice");
    }

    /// Whatever left is what is there.
    async fn check(&mut self, store: &mut SignatureStore) {
        for n in self.oldest()..self.hashes {
            if let Some(left) = self.left.get(&n) {
                let stored = store.sign(&hash(n), false).await;
                assert!(matches!(stored, Ok(Stored::Known(known)) if known == *left), "{n} is forgotten");
            }
        }
    }

    async fn run(mut self) {
        for _ in 0..ROUNDS {
            let mut store = self.open().await;
            self.check(&mut store).await;
            if !self.rng.one_in(4) {
                // Dropping the older half takes a hundred and more.
                let most = if self.rng.one_in(2) { 40 } else { 250 };
                let steps = 1 + self.rng.below(most);
                self.power.lose_after(steps);
            }
            let mut some = |one_in| if self.rng.one_in(3) { one_in } else { 0 };
            let faults = Faults { read: some(80), write: some(20), sync: some(6), ..Faults::default() };
            self.power.set_faults(faults);
            for _ in 0..self.rng.below(12) {
                self.sign(&mut store).await;
                if self.rng.one_in(2) {
                    // In the background.
                    let _ = store.mend().await;
                }
            }
            self.power.set_faults(Faults::default());
            drop(store);
            let loss = [Loss::Kill, Loss::Blocks, Loss::Sectors, Loss::Unsynced][self.rng.below(4) as usize];
            self.power.come_back(loss);
        }
        let mut store = self.open().await;
        self.check(&mut store).await;
    }
}

#[test]
fn a_hash_is_never_signed_twice_whatever_the_disk_loses() {
    let pool = Pool::new(4, 8).unwrap();
    let config = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 8 };
    let executors = Executors::start(&config, &pool).unwrap();
    let ran = executors.spawner(0).spawn(|local| async move {
        let one = std::env::var("POWER_SEED").ok().map(|seed| seed.parse().unwrap());
        for seed in one.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
            eprintln!("POWER_SEED={seed}");
            Run::new(seed, local.pool()).run().await;
        }
    });
    ran.wait().expect("no hash has two signatures");
    executors.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(pool.stats().in_use, 0, "a slab was lost");
}
