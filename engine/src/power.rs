//! A disk for tests, in memory, that errs, hangs, is slow, gives wrong bytes, and loses its power. It keeps for each block what is durable, what was written since, and what is read now.
//!
//! ```text
//!   write begun ─▶ on its way ─▶ done: read from now on ─▶ sync that began later ─▶ durable
//!                     └──────────────┴── power lost: each sector is what is durable, or any of these
//! ```
//! A sync that fails leaves it open for ever which of what it covered is durable, until that is written anew. Sizes of files are real
//! ones: those are made and grown by calls that sync, except for [`Device::allocate`].
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::BLOCK_BYTES;
use crate::disk::{Device, Disk, Limits};
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::pool::{Pool, SlabMut};
use crate::ring::{Guard, Source};
use crate::task;
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Numbers that a seed makes.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    pub fn one_in(&mut self, end: u64) -> bool {
        self.below(end) == 0
    }
}

/// How the disk goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The process is killed: what was done is there.
    Kill,
    /// The power fails; blocks are written whole or not at all.
    Blocks,
    /// The power fails; sectors of 512 bytes are.
    Sectors,
    /// The power fails; of some files all that was not synced is lost, of others blocks.
    Unsynced,
}

/// One in so many operations fails; 0: none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub read: u64,
    pub write: u64,
    pub sync: u64,
    /// Reads that give wrong bytes and say nothing.
    pub wrong: u64,
    /// What each read, write or sync takes at least.
    pub slow: Duration,
    /// Reads fail for as often as a store asks.
    pub lasting: bool,
}

/// A block; none is zeros.
type Content = Option<Rc<[u8; BLOCK_BYTES]>>;

#[derive(Default)]
struct Block {
    now: Content,
    /// One, but for failed syncs. None is zeros.
    durable: Vec<Content>,
    /// Number of the write, what it wrote, whether it is done.
    unsynced: Vec<(u64, Content, bool)>,
}

#[derive(Default)]
struct Blocks {
    by_number: BTreeMap<u64, Block>,
    /// Size before it grew, if that is not durable.
    grown_from: Option<u64>,
}

struct State {
    rng: Rng,
    files: BTreeMap<PathBuf, Blocks>,
    writes: u64,
    /// Beginnings and ends of writes and syncs until the power is lost.
    steps_left: u64,
    faults: Faults,
    /// Reads that will fail.
    failing: HashMap<(PathBuf, u64), u32>,
    /// Who waits for the disk to answer again; none while it answers.
    hung: Option<Vec<oneshot::Sender<()>>>,
}

/// The disk; clones are handles to the same one.
#[derive(Clone)]
pub struct Power(Rc<RefCell<State>>);

impl Power {
    pub fn new(seed: u64) -> Self {
        let (files, failing) = Default::default();
        let (rng, faults) = (Rng::new(seed), Faults::default());
        let (writes, steps_left, hung) = (0, u64::MAX, None);
        Self(Rc::new(RefCell::new(State { rng, files, writes, steps_left, faults, failing, hung })))
    }

    /// The power is lost after so many beginnings and ends of writes and syncs; then nothing is done any more.
    pub fn lose_after(&self, steps: u64) {
        self.0.borrow_mut().steps_left = steps;
    }

    pub fn is_lost(&self) -> bool {
        self.0.borrow().steps_left == 0
    }

    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// From now on nothing is answered, until the disk is let go.
    pub fn hang(&self) {
        self.0.borrow_mut().hung.get_or_insert_default();
    }

    /// What hangs goes on.
    pub fn let_go(&self) {
        // Who waits wakes when its sender is dropped.
        drop(self.0.borrow_mut().hung.take());
    }

    /// The disk comes back with what it kept. Nobody may use it meanwhile.
    pub fn come_back(&self, loss: Loss) {
        let mut state = self.0.borrow_mut();
        let State { rng, files, failing, steps_left, .. } = &mut *state;
        failing.clear();
        *steps_left = u64::MAX;
        for (path, blocks) in files {
            if let Some(bytes) = blocks.grown_from.take()
                && loss != Loss::Kill
                && rng.one_in(2)
            {
                File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
                blocks.by_number.retain(|number, _| number * (BLOCK_BYTES as u64) < bytes);
            }
            let is_all_lost = loss == Loss::Unsynced && rng.one_in(2);
            for block in blocks.by_number.values_mut() {
                if is_all_lost {
                    block.unsynced.clear();
                }
                block.settle(loss, rng);
            }
        }
    }

    /// A block as it is read now.
    pub fn block(&self, path: &Path, number: u64) -> [u8; BLOCK_BYTES] {
        let state = self.0.borrow();
        let block = state.files.get(path).and_then(|blocks| blocks.by_number.get(&number));
        block.and_then(|block| block.now.as_deref()).copied().unwrap_or([0; BLOCK_BYTES])
    }

    /// One step of a write or a sync.
    fn step(&self, action: Action, file: &DirectFile) -> Result<(), IoError> {
        let left = &mut self.0.borrow_mut().steps_left;
        *left = left.saturating_sub(1);
        if *left == 0 {
            return Err(IoError::Closed { action, path: file.path().to_owned() });
        }
        Ok(())
    }

    /// For as long as the disk hangs or is slow; then some turns of others.
    async fn wait(&self) {
        loop {
            let hangs = self.0.borrow_mut().hung.as_mut().map(|waiting| {
                let (answers, answered) = oneshot::channel();
                waiting.push(answers);
                answered
            });
            let Some(answered) = hangs else { break };
            let _ = answered.await;
        }
        let slow = self.0.borrow().faults.slow;
        if !slow.is_zero() {
            task::sleep(slow).await;
        }
        let turns = self.0.borrow_mut().rng.below(4);
        for _ in 0..turns {
            task::yield_now().await;
        }
    }

    /// Whether an operation fails.
    fn fails(&self, fault: impl FnOnce(&Faults) -> u64) -> bool {
        let State { rng, faults, .. } = &mut *self.0.borrow_mut();
        let one_in = fault(faults);
        one_in > 0 && rng.one_in(one_in)
    }

    async fn read_now(&self, file: &Arc<DirectFile>, offset: u64, target: &mut [u8]) -> Result<(), IoError> {
        self.wait().await;
        let (wanted, path) = (target.len() as u64, file.path().to_owned());
        if self.is_lost() {
            return Err(IoError::Closed { action: Action::Read, path });
        }
        let got = file.size_bytes()?.saturating_sub(offset);
        if got < wanted {
            return Err(IoError::Short { action: Action::Read, path, offset, wanted, got });
        }
        let (begins, is_wrong) = (self.fails(|faults| faults.read), self.fails(|faults| faults.wrong));
        let State { rng, files, failing, faults, .. } = &mut *self.0.borrow_mut();
        let fails = failing.entry((path, offset)).or_default();
        if begins && *fails == 0 {
            *fails = if faults.lasting && rng.one_in(2) { 3 } else { 1 };
        }
        if *fails > 0 {
            *fails -= 1;
            return Err(refused(Action::Read, file, offset, wanted));
        }
        let blocks = files.entry(file.path().to_owned()).or_default();
        for (number, bytes) in (offset / BLOCK_BYTES as u64..).zip(target.chunks_mut(BLOCK_BYTES)) {
            match blocks.by_number.get(&number).and_then(|block| block.now.as_deref()) {
                Some(now) => bytes.copy_from_slice(now),
                None => bytes.fill(0),
            }
        }
        if is_wrong {
            target[rng.below(wanted) as usize] ^= 1;
        }
        Ok(())
    }

    async fn write_now(&self, file: &DirectFile, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.step(Action::Write, file)?;
        let fails = self.fails(|faults| faults.write);
        let id = {
            let mut state = self.0.borrow_mut();
            state.writes += 1;
            let id = state.writes;
            let blocks = state.files.entry(file.path().to_owned()).or_default();
            for (number, bytes) in (offset / BLOCK_BYTES as u64..).zip(bytes.chunks(BLOCK_BYTES)) {
                let block = blocks.by_number.entry(number).or_default();
                block.unsynced.push((id, content(bytes), false));
            }
            id
        };
        self.wait().await;
        self.step(Action::Write, file)?;
        let State { rng, files, .. } = &mut *self.0.borrow_mut();
        let blocks = files.get_mut(file.path()).unwrap();
        for number in offset / BLOCK_BYTES as u64..(offset + bytes.len() as u64) / BLOCK_BYTES as u64 {
            let block = blocks.by_number.get_mut(&number).unwrap();
            for (_, bytes, is_done) in block.unsynced.iter_mut().filter(|write| write.0 == id) {
                *is_done = true;
                if !fails || rng.one_in(2) {
                    block.now = bytes.clone();
                }
            }
        }
        if fails { Err(refused(Action::Write, file, offset, bytes.len() as u64)) } else { Ok(()) }
    }

    async fn sync_now(&self, file: &DirectFile) -> Result<(), IoError> {
        self.step(Action::Sync, file)?;
        let fails = self.fails(|faults| faults.sync);
        let (covered, had_grown) = {
            let mut state = self.0.borrow_mut();
            let blocks = state.files.entry(file.path().to_owned()).or_default();
            let last = |block: &Block| Some(block.unsynced.iter().rfind(|write| write.2)?.0);
            let covered: Vec<_> =
                blocks.by_number.iter().filter_map(|(number, block)| Some((*number, last(block)?))).collect();
            (covered, blocks.grown_from)
        };
        self.wait().await;
        self.step(Action::Sync, file)?;
        let mut state = self.0.borrow_mut();
        let blocks = state.files.get_mut(file.path()).unwrap();
        for (number, id) in covered {
            blocks.by_number.get_mut(&number).unwrap().synced(id, fails);
        }
        if fails {
            return Err(refused(Action::Sync, file, 0, 0));
        }
        if blocks.grown_from == had_grown {
            blocks.grown_from = None;
        }
        Ok(())
    }

    /// Runs what a device does to its end, also when nobody waits for it.
    async fn to_end<T: 'static>(&self, work: impl Future<Output = T> + 'static, guard: Guard) -> T {
        let (done, result) = oneshot::channel();
        task::spawn_local(async move {
            let result = work.await;
            drop(guard);
            drop(done.send(result));
        })
        .detach();
        result.await.unwrap()
    }
}

impl Block {
    /// The writes up to `last` are synced, or may be.
    fn synced(&mut self, last: u64, failed: bool) {
        let Some(at) = self.unsynced.iter().position(|write| write.0 == last) else { return };
        let mut covered = self.unsynced.drain(..=at).map(|write| write.1);
        if failed {
            if self.durable.is_empty() {
                self.durable.push(None);
            }
            self.durable.extend(covered);
        } else {
            self.durable = covered.next_back().into_iter().collect();
        }
    }

    /// What is left of it.
    fn settle(&mut self, loss: Loss, rng: &mut Rng) {
        let mut may: Vec<Content> = std::mem::take(&mut self.durable);
        if may.is_empty() {
            may.push(None);
        }
        let (unsynced, is_open) = (std::mem::take(&mut self.unsynced), may.len() > 1);
        if loss == Loss::Kill && !is_open {
            // What is on its way gets there or not; what was done is there, and as durable as before.
            if let Some((_, on_its_way, _)) = unsynced.iter().rfind(|write| !write.2)
                && rng.one_in(2)
            {
                self.now = on_its_way.clone();
            }
            self.durable = may;
            self.unsynced = unsynced.into_iter().map(|(id, bytes, _)| (id, bytes, true)).collect();
            self.unsynced.push((0, self.now.clone(), true));
            return;
        }
        may.extend(unsynced.into_iter().map(|write| write.1));
        if may.len() == 1 {
            self.now = may[0].clone();
        } else {
            let mut bytes = [0; BLOCK_BYTES];
            let sector_bytes = if loss == Loss::Sectors { 512 } else { BLOCK_BYTES };
            for (at, sector) in bytes.chunks_mut(sector_bytes).enumerate() {
                if let Some(from) = &may[rng.below(may.len() as u64) as usize] {
                    sector.copy_from_slice(&from[at * sector_bytes..][..sector_bytes]);
                }
            }
            self.now = content(&bytes);
        }
        self.durable = vec![self.now.clone()];
    }
}

fn content(bytes: &[u8]) -> Content {
    let bytes: &[u8; BLOCK_BYTES] = bytes.try_into().unwrap();
    (*bytes != [0; BLOCK_BYTES]).then(|| Rc::new(*bytes))
}

fn refused(action: Action, file: &DirectFile, offset: u64, wanted: u64) -> IoError {
    IoError::refused(action, file.path(), offset, wanted, io::Error::from_raw_os_error(libc::EIO))
}

impl Device for Power {
    fn read<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        mut buf: SlabMut,
        (from, to): (usize, usize),
        guard: Guard,
    ) -> LocalBoxFuture<'a, (SlabMut, Result<(), IoError>)> {
        let (power, file) = (self.clone(), file.clone());
        let work = async move {
            let read = power.read_now(&file, offset, &mut buf[from..to]).await;
            (buf, read)
        };
        Box::pin(self.to_end(work, guard))
    }

    fn write<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        data: Source,
        guard: Guard,
    ) -> LocalBoxFuture<'a, (Source, Result<(), IoError>)> {
        let (power, file) = (self.clone(), file.clone());
        let work = async move {
            let written = power.write_now(&file, offset, data.bytes()).await;
            (data, written)
        };
        Box::pin(self.to_end(work, guard))
    }

    fn sync<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        let (power, file) = (self.clone(), file.clone());
        Box::pin(self.to_end(async move { power.sync_now(&file).await }, guard))
    }

    fn allocate<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        bytes: u64,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        Box::pin(async move {
            self.step(Action::Allocate, file)?;
            let before = file.size_bytes()?;
            if offset + bytes > before {
                File::options().write(true).open(file.path()).unwrap().set_len(offset + bytes).unwrap();
                let mut state = self.0.borrow_mut();
                state.files.entry(file.path().to_owned()).or_default().grown_from.get_or_insert(before);
            }
            drop(guard);
            Ok(())
        })
    }
}

impl Power {
    /// Requests to it, in the order of a disk with these limits.
    pub fn disk(&self, pool: &Pool, limits: Limits) -> Disk {
        Disk::over(Box::new(self.clone()), pool, limits)
    }

    /// Bytes of a file as they are read now.
    pub fn bytes(&self, path: &Path, offset: u64, length: usize) -> Vec<u8> {
        let block_bytes = BLOCK_BYTES as u64;
        let (first, from) = (offset / block_bytes, (offset % block_bytes) as usize);
        let blocks = first..(offset + length as u64).div_ceil(block_bytes);
        let bytes: Vec<u8> = blocks.flat_map(|number| self.block(path, number)).collect();
        bytes[from..from + length].to_vec()
    }

    /// A file as it is read now, for calls that read it by the system.
    pub fn write_out(&self, path: &Path) {
        let Ok(metadata) = std::fs::metadata(path) else { return };
        std::fs::write(path, self.bytes(path, 0, metadata.len() as usize)).unwrap();
    }

    /// A file as the system has it, which was synced there.
    pub fn read_in(&self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let block = |bytes: &[u8]| {
            let now = content(bytes);
            Block { durable: vec![now.clone()], now, unsynced: Vec::new() }
        };
        let by_number = (0..).zip(bytes.chunks(BLOCK_BYTES).map(block)).collect();
        self.0.borrow_mut().files.insert(path.to_owned(), Blocks { by_number, grown_from: None });
    }

    /// Files were cut or removed by calls that sync: what lay beyond their ends is gone, and zeros when they grow again.
    pub fn see_cuts(&self) {
        for (path, blocks) in &mut self.0.borrow_mut().files {
            let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            blocks.by_number.retain(|number, _| number * (BLOCK_BYTES as u64) < bytes);
        }
    }
}
