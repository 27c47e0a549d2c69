//! A disk of which one place hangs or errs, and writes that wait for one that was left to the disk.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::on_disk::on_disk;
use crate::power::Power;
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use std::cell::{Cell, RefCell};
use std::io;
use std::time::{Duration, Instant};

const BLOCKS: usize = 512;
const BAD: u64 = 100;

/// A disk one block of which hangs or errs when it is read.
#[derive(Clone)]
struct BadPlace {
    power: Power,
    errs: Rc<Cell<bool>>,
    /// Reads of the place that hang; none when it is well.
    hung: Rc<RefCell<Option<Vec<oneshot::Sender<()>>>>>,
}

impl BadPlace {
    fn new() -> Self {
        Self { power: Power::new(9), errs: Rc::default(), hung: Rc::default() }
    }
}

impl Device for BadPlace {
    fn read<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        range: (usize, usize),
        guard: crate::ring::Guard,
    ) -> Moved<'a, SlabMut> {
        if !touched_blocks(offset, range.1 - range.0).contains(&(BAD * BLOCK_BYTES as u64)) {
            return Device::read(&self.power, file, offset, buf, range, guard);
        }
        let hangs = self.hung.borrow_mut().as_mut().map(|waiting| {
            let (answers, answered) = oneshot::channel();
            waiting.push(answers);
            answered
        });
        let (done, result) = oneshot::channel();
        let errs = self.errs.clone();
        task::spawn_local(async move {
            if let Some(answered) = hangs {
                let _ = answered.await;
            }
            drop(guard);
            let _ = done.send((buf, errs.get()));
        })
        .detach();
        Box::pin(async move {
            let (buf, errs) = result.await.unwrap();
            let refused = || {
                let error = io::Error::from_raw_os_error(libc::EIO);
                IoError::refused(Action::Read, file.path(), offset, 1, error)
            };
            (buf, if errs { Err(refused()) } else { Ok(()) })
        })
    }

    fn write<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        data: Source,
        guard: crate::ring::Guard,
    ) -> Moved<'a, Source> {
        Device::write(&self.power, file, offset, data, guard)
    }

    fn sync<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        guard: crate::ring::Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        Device::sync(&self.power, file, guard)
    }

    fn allocate<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        bytes: u64,
        guard: crate::ring::Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        Device::allocate(&self.power, file, offset, bytes, guard)
    }
}

fn file(dir: &tempfile::TempDir) -> Arc<DirectFile> {
    DirectFile::create(&dir.path().join("plot"), (BLOCKS * BLOCK_BYTES) as u64).unwrap()
}

fn block(pool: &Pool, byte: u8) -> SlabMut {
    let mut buf = pool.try_acquire().unwrap().narrow(..BLOCK_BYTES);
    buf.fill(byte);
    buf
}

async fn read(
    disk: &Disk,
    class: Class,
    file: &Arc<DirectFile>,
    number: u64,
    pool: &Pool,
) -> Result<(), IoError> {
    let offset = number * BLOCK_BYTES as u64;
    disk.read(class, file, offset, block(pool, 0), 0..BLOCK_BYTES).await.map(drop)
}

/// Reads the first and the last block, so that places are known.
async fn know(disk: &Disk, file: &Arc<DirectFile>, pool: &Pool) {
    for number in [0, BLOCKS as u64 - 1] {
        read(disk, Class::AuditRead, file, number, pool).await.unwrap();
        task::sleep(Duration::from_millis(120)).await;
    }
}

/// About 10 s: a read that hangs makes a disk sick after five.
#[test]
fn a_place_that_hangs_costs_its_own_reads_alone() {
    on_disk(|_, pool| async move {
        let (dir, device) = (tempfile::tempdir().unwrap(), BadPlace::new());
        let (file, disk) = (
            file(&dir),
            Disk::over(Box::new(device.clone()), &pool, Limits { depth: 2, ..Limits::default() }),
        );
        know(&disk, &file, &pool).await;
        *device.hung.borrow_mut() = Some(Vec::new());
        let began = Instant::now();
        let late = read(&disk, Class::AuditRead, &file, BAD, &pool).await.unwrap_err();
        assert!(matches!(late, IoError::Late { class: "audit", .. }), "{late}");
        let again = read(&disk, Class::AuditRead, &file, BAD, &pool).await.unwrap_err();
        assert!(matches!(again, IoError::HeldBack { class: "audit", .. }) && again.is_passing(), "{again}");
        assert_eq!(device.hung.borrow().as_ref().unwrap().len(), 1, "one of them holds a place in the depth");
        // Nothing else is asked until it would long be called sick.
        task::sleep(Duration::from_secs(9).saturating_sub(began.elapsed())).await;
        let cell = disk.health_cell();
        assert_eq!((cell.get(), cell.late(Action::Read), cell.refused()), (Health::Healthy, 1, 0));
        // Background work yields to audits that are waited for, and not to this one.
        for class in [Class::AuditRead, Class::Scrub, Class::Serving] {
            let other = task::timeout(Duration::from_secs(5), read(&disk, class, &file, 7, &pool));
            other.await.expect("others go on").unwrap();
        }
        // Whoever lets it go takes those that wait with it.
        drop(device.hung.take());
        read(&disk, Class::AuditRead, &file, BAD, &pool).await.unwrap();
        assert!(CLASSES.iter().all(|&class| disk.load(class) == (0, 0)), "nothing is left behind");
    });
}

/// About 6 s.
#[test]
fn a_place_that_errs_makes_no_disk_sick_that_is_asked_for_nothing_else() {
    on_disk(|_, pool| async move {
        let (dir, device) = (tempfile::tempdir().unwrap(), BadPlace::new());
        let (file, disk) = (file(&dir), Disk::over(Box::new(device.clone()), &pool, Limits::default()));
        know(&disk, &file, &pool).await;
        device.errs.set(true);
        let (began, mut failed) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(6) {
            let error = read(&disk, Class::AuditRead, &file, BAD, &pool).await.unwrap_err();
            assert!(matches!(error, IoError::Failed { .. }), "{error}");
            failed += 1;
            task::sleep(Duration::from_millis(50)).await;
        }
        assert!(failed > 12, "{failed} would be enough for it to be sick");
        assert_eq!(disk.health_cell().get(), Health::Slow, "and it is told that something errs");
        read(&disk, Class::AuditRead, &file, 3, &pool).await.unwrap();
    });
}

/// Its asker went and another writes there: the newer bytes come last, whatever the disk does.
#[test]
fn a_write_waits_for_an_earlier_one_that_was_left_to_the_disk() {
    on_disk(|_, pool| async move {
        let (dir, power) = (tempfile::tempdir().unwrap(), Power::new(10));
        let (file, disk) = (file(&dir), power.disk(&pool, Limits::default()));
        power.hang();
        let mut first = Box::pin(disk.write_own(Class::SectorWrite, &file, 4096, block(&pool, 1)));
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        let mut second = Box::pin(disk.write_own(Class::SectorWrite, &file, 4096, block(&pool, 2)));
        let mut beside = Box::pin(disk.write_own(Class::SectorWrite, &file, 8192, block(&pool, 3)));
        assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut beside).is_pending());
        assert_eq!(disk.load(Class::SectorWrite), (0, 2), "the one beside it is on its way");
        power.let_go();
        second.await.1.unwrap();
        beside.await.1.unwrap();
        assert_eq!([1, 2].map(|number| power.block(file.path(), number)[0]), [2, 3]);
        assert_eq!(disk.load(Class::SectorWrite), (0, 0));
    });
}

/// Who merges is told what was too late; who waits behind it, that it waited. About 1 s.
#[test]
fn a_merge_that_waits_for_another_is_not_called_late() {
    on_disk(|_, pool| async move {
        let (dir, power) = (tempfile::tempdir().unwrap(), Power::new(11));
        let (file, disk) = (file(&dir), power.disk(&pool, Limits::default()));
        let writer = FileWriter::new(disk.clone(), file.clone(), pool.try_acquire().unwrap());
        let bytes = |byte| block(&pool, byte).narrow(5..105).freeze();
        let (one, two) = (bytes(1), bytes(2));
        power.hang();
        let class = Class::RewardSignature;
        let (first, second) =
            futures::future::join(writer.write(class, 5, &one), writer.write(class, 4096 + 5, &two)).await;
        let (first, second) = (first.unwrap_err(), second.unwrap_err());
        assert!(matches!(first, IoError::Late { action: Action::Read, .. }), "{first}");
        assert!(matches!(second, IoError::HeldBack { action: Action::Write, .. }), "{second}");
        assert_eq!(disk.health_cell().late(Action::Write), 0);
        power.let_go();
        writer.write(class, 4096 + 5, &two).await.unwrap();
        assert_eq!(
            [0, 1].map(|number| power.block(file.path(), number)[50]),
            [1, 2],
            "both are there in the end"
        );
    });
}

/// A disk that is sick and has no memory for probes is found well by what is asked of it. About 8 s.
#[test]
fn a_sick_disk_without_memory_for_probes_comes_back() {
    on_disk(|_, pool| async move {
        let (dir, power) = (tempfile::tempdir().unwrap(), Power::new(12));
        let (file, disk) = (file(&dir), power.disk(&pool, Limits::default()));
        know(&disk, &file, &pool).await;
        let mut kept: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).collect();
        let mut buf = kept.pop().unwrap().narrow(..BLOCK_BYTES);
        power.hang();
        let hangs = kept.pop().unwrap().narrow(..BLOCK_BYTES);
        let late = disk.read(Class::AuditRead, &file, 0, hangs, 0..BLOCK_BYTES).await.unwrap_err();
        assert!(matches!(late, IoError::Late { .. }), "{late}");
        while disk.health_cell().get() < Health::Sick {
            task::sleep(Duration::from_millis(50)).await;
        }
        let began = Instant::now();
        power.let_go();
        while disk.health_cell().get() == Health::Sick {
            assert!(began.elapsed() < Duration::from_secs(30), "it stays sick");
            let (back, _) = disk.read_own(Class::AuditRead, &file, 0, buf, 0..BLOCK_BYTES).await;
            buf = back.unwrap();
            task::sleep(Duration::from_millis(50)).await;
        }
    });
}
