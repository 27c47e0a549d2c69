//! Disks that hang, err and come back, beside one that is well, on one executor.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::file::Access;
use crate::power::{Faults, Power};
use glommio::{LocalExecutorBuilder, Placement};
use std::fs;
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const READ: Duration = Duration::from_secs(30);
const BLOCKS: usize = 512;

fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce(Pool) -> F + Send + 'static) {
    let pool = Pool::new(8, 8).unwrap();
    let there = pool.clone();
    let running = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10);
    running.spawn(move || test(there)).unwrap().join().unwrap();
    assert_eq!(pool.stats().in_use, 0, "a slab was lost");
}

fn new_file(dir: &tempfile::TempDir, name: &str) -> Arc<DirectFile> {
    DirectFile::create(&dir.path().join(name), (BLOCKS * BLOCK_BYTES) as u64).unwrap()
}

async fn block(pool: &Pool) -> SlabMut {
    pool.acquire().await.unwrap().narrow(..BLOCK_BYTES)
}

async fn read(disk: &Disk, class: Class, file: &Arc<DirectFile>, pool: &Pool) -> Result<(), IoError> {
    disk.read(class, file, 0, block(pool).await, 0..BLOCK_BYTES).await.map(drop)
}

/// Writes a block of one byte.
async fn write(
    disk: &Disk,
    file: &Arc<DirectFile>,
    number: u64,
    byte: u8,
    pool: &Pool,
) -> Result<(), IoError> {
    let mut buf = block(pool).await;
    buf.fill(byte);
    let offset = number * BLOCK_BYTES as u64;
    disk.write(Class::SectorWrite, file, offset, &buf.freeze()).await
}

/// A slot on a disk that is well: a signature stored, audits, a sector written. It is done, whatever else hangs.
async fn goes_on(disk: &Disk, file: &Arc<DirectFile>, pool: &Pool) {
    let slot = async {
        let (_, written) = disk.write_own(Class::RewardSignature, file, 0, block(pool).await).await;
        written.unwrap();
        disk.sync(Class::RewardSignature, file).await.unwrap();
        for _ in 0..32 {
            read(disk, Class::AuditRead, file, pool).await.unwrap();
        }
        write(disk, file, 7, 7, pool).await.unwrap();
    };
    task::timeout(READ, slot).await.expect("a healthy disk goes on");
    assert_eq!(disk.health_cell().get(), Health::Healthy);
}

async fn until(disk: &Disk, health: Health) {
    let cell = disk.health_cell();
    let turns = async {
        while cell.get() != health {
            task::sleep(Duration::from_millis(20)).await;
        }
    };
    task::timeout(Duration::from_secs(60), turns).await.unwrap_or_else(|_| panic!("it is {:?}", cell.get()));
}

/// What must be so when `hung` on `sick` is not answered until `let_go`.
async fn one_hangs(
    (sick, hung): (&Disk, &Arc<DirectFile>),
    (well, fine): (&Disk, &Arc<DirectFile>),
    pool: &Pool,
    let_go: impl FnOnce(),
) {
    let cell = sick.health_cell();
    let parts = pool.acquire().await.unwrap().split_into(BLOCK_BYTES);
    let audits: Vec<_> = parts
        .into_iter()
        .take(Limits::default().depth)
        .map(|buf| {
            let (sick, hung) = (sick.clone(), hung.clone());
            task::spawn_local(async move { sick.read(Class::AuditRead, &hung, 0, buf, 0..BLOCK_BYTES).await })
        })
        .collect();
    // They fill the depth, and it has no limit of its own by then.
    let waits = {
        let (sick, hung, pool) = (sick.clone(), hung.clone(), pool.clone());
        task::spawn_local(async move { read(&sick, Class::Scrub, &hung, &pool).await })
    };
    goes_on(well, fine, pool).await;
    let late = read(sick, Class::RewardSignature, hung, pool).await.unwrap_err();
    assert!(matches!(late, IoError::Late { class: "reward signature", .. }), "{late}");
    for audit in audits {
        let late = audit.await.unwrap_err();
        assert!(matches!(late, IoError::Late { action: Action::Read, class: "audit", .. }), "{late}");
        let text = late.to_string();
        assert!(text.contains(hung.path().to_str().unwrap()) && text.contains("(audit)"), "{text}");
    }
    assert_eq!(sick.load(Class::AuditRead), (0, 128), "the kernel still has them");
    assert_eq!((cell.late(Action::Read), cell.failed(Action::Read)), (129, 0));
    until(sick, Health::Sick).await;
    let refused = waits.await.unwrap_err();
    assert!(matches!(refused, IoError::Sick { .. }) && refused.is_passing(), "{refused}");
    for class in [Class::AuditRead, Class::ProofRead, Class::Serving] {
        assert!(matches!(read(sick, class, hung, pool).await, Err(IoError::Sick { .. })));
    }
    assert_eq!(cell.refused(), 4);
    goes_on(well, fine, pool).await;
    let_go();
    until(sick, Health::Healthy).await;
    read(sick, Class::AuditRead, hung, pool).await.unwrap();
    assert!(CLASSES.iter().all(|&class| sick.load(class) == (0, 0)), "nothing is left behind");
}

/// About 6 s: five of silence are needed.
#[test]
fn a_disk_that_hangs_costs_nobody_else_anything() {
    on_executor(|pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let power = Power::new(1);
        let over = |power: Power| Disk::over(Box::new(power), &pool, Limits::default());
        let (sick, well) = (over(power.clone()), over(Power::new(2)));
        let (hung, fine) = (new_file(&dir, "hung"), new_file(&dir, "fine"));
        read(&sick, Class::AuditRead, &hung, &pool).await.unwrap();
        power.hang();
        one_hangs((&sick, &hung), (&well, &fine), &pool, || power.let_go()).await;
    });
}

/// The same with the kernel: a pipe that nobody writes to is a disk that never answers. About 6 s.
#[test]
fn a_pipe_that_nobody_writes_to_hangs_its_own_ring() {
    on_executor(|pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (hung, fine) =
            (DirectFile::open_anything(&pipe, Access::ReadWrite).unwrap(), new_file(&dir, "fine"));
        let first = Ring::new(&pool, 8).unwrap();
        let at = |ring: &Ring| Disk::at(dir.path(), ring.clone(), Limits::default());
        let rings = [first.beside(144).unwrap(), first.beside(144).unwrap()];
        let (sick, well) = (at(&rings[0]), at(&rings[1]));
        let is_over = Arc::new(AtomicBool::new(false));
        let feed = {
            let is_over = is_over.clone();
            move || {
                std::thread::spawn(move || {
                    let mut options = fs::OpenOptions::new();
                    let mut pipe = options.write(true).custom_flags(libc::O_NONBLOCK).open(pipe).unwrap();
                    while !is_over.load(Ordering::Relaxed) {
                        if pipe.write(&[0; BLOCK_BYTES]).is_err() {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
        };
        one_hangs((&sick, &hung), (&well, &fine), &pool, feed).await;
        is_over.store(true, Ordering::Relaxed);
        for ring in rings.iter().chain([&first]) {
            assert!(ring.close_within(READ).await);
        }
    });
}

/// About 4 s: no read may have been good for three.
#[test]
fn a_disk_whose_reads_all_fail_is_sick_and_comes_back() {
    on_executor(|pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (power, file) = (Power::new(3), new_file(&dir, "plot"));
        let disk = Disk::over(Box::new(power.clone()), &pool, Limits::default());
        read(&disk, Class::AuditRead, &file, &pool).await.unwrap();
        power.set_faults(Faults { read: 1, ..Faults::default() });
        while disk.health_cell().get() < Health::Sick {
            let failed = read(&disk, Class::AuditRead, &file, &pool).await.unwrap_err();
            assert!(matches!(failed, IoError::Failed { .. } | IoError::Sick { .. }), "{failed}");
            task::sleep(Duration::from_millis(20)).await;
        }
        let mut scratch = pool.acquire().await.unwrap();
        let writer = FileWriter::new(disk.clone(), file.clone(), scratch.split_off(BLOCK_BYTES));
        let mut data = scratch.narrow(5..105);
        data.fill(9);
        let data = data.freeze();
        let refused = writer.write(Class::SectorWrite, 5, &data).await.unwrap_err();
        assert!(matches!(refused, IoError::Sick { .. }), "{refused}");
        power.set_faults(Faults::default());
        until(&disk, Health::Healthy).await;
        writer.write(Class::SectorWrite, 5, &data).await.unwrap();
        assert!(power.block(file.path(), 0)[5..105].iter().all(|byte| *byte == 9));
        assert!(disk.health_cell().failed(Action::Read) >= 12);
    });
}

#[test]
fn a_disk_that_errs_now_and_then_is_slow_and_goes_on() {
    on_executor(|pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (power, file) = (Power::new(4), new_file(&dir, "plot"));
        let disk = Disk::over(Box::new(power.clone()), &pool, Limits::default());
        power.set_faults(Faults { read: 10, ..Faults::default() });
        let (mut good, mut bad) = (0, 0);
        for _ in 0..400 {
            match read(&disk, Class::AuditRead, &file, &pool).await {
                Ok(()) => good += 1,
                Err(error) => {
                    assert!(matches!(error, IoError::Failed { .. }), "{error}");
                    bad += 1;
                }
            }
        }
        assert!(good > 300 && bad > 10, "{good} good, {bad} bad");
        assert_eq!(disk.health_cell().get(), Health::Slow);
    });
}

#[test]
fn wrong_bytes_and_slowness_within_the_limit_are_no_illness() {
    on_executor(|pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (power, file) = (Power::new(5), new_file(&dir, "plot"));
        let disk = Disk::over(Box::new(power.clone()), &pool, Limits::default());
        write(&disk, &file, 0, 1, &pool).await.unwrap();
        power.set_faults(Faults { wrong: 1, slow: Duration::from_millis(5), ..Faults::default() });
        for _ in 0..40 {
            let buf = block(&pool).await;
            let got = disk.read(Class::AuditRead, &file, 0, buf, 0..BLOCK_BYTES).await.unwrap();
            assert_eq!(got.iter().filter(|byte| **byte != 1).count(), 1, "one byte is wrong");
        }
        assert_eq!(disk.health_cell().get(), Health::Healthy);
    });
}

/// A write that came too late may still reach the disk: nothing that overlaps it is written before. About 1 s.
#[test]
fn nothing_is_written_over_a_late_write_before_it_has_ended() {
    on_executor(|pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (power, file) = (Power::new(6), new_file(&dir, "signatures"));
        let disk = Disk::over(Box::new(power.clone()), &pool, Limits::default());
        let of = |byte| {
            let pool = pool.clone();
            async move {
                let mut buf = pool.acquire().await.unwrap().narrow(..2 * BLOCK_BYTES);
                buf.fill(byte);
                buf
            }
        };
        power.hang();
        let (memory, late) = disk.write_own(Class::RewardSignature, &file, 0, of(1).await).await;
        assert!(memory.is_none() && matches!(late, Err(IoError::Late { .. })), "the kernel has the memory");
        let (memory, refused) = disk.write_own(Class::RewardSignature, &file, 4096, of(2).await).await;
        assert!(memory.is_some() && matches!(refused, Err(IoError::HeldBack { .. })), "{refused:?}");
        assert_eq!(disk.health_cell().late(Action::Write), 1, "the disk is late once");
        let beside = disk.write_own(Class::RewardSignature, &file, 8192, of(3).await);
        let beside = futures::future::join(beside, async { power.let_go() }).await.0;
        beside.1.unwrap();
        while disk.load(Class::RewardSignature) != (0, 0) {
            task::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(power.block(file.path(), 1)[0], 1);
        disk.write_own(Class::RewardSignature, &file, 4096, of(2).await).await.1.unwrap();
        assert_eq!(power.block(file.path(), 1)[0], 2);
    });
}

/// The kernel answered; that its task came late is not the disk's fault. About 3 s.
#[test]
fn an_answer_that_nobody_takes_yet_is_not_late() {
    on_executor(|pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let (ring, file) = (Ring::new(&pool, 8).unwrap(), new_file(&dir, "plot"));
        let disk = Disk::new(ring.clone(), Limits { depth: 1, ..Limits::default() });
        let of = |class| Box::pin(read(&disk, class, &file, &pool));
        let (mut signature, mut first, mut second) =
            (of(Class::RewardSignature), of(Class::AuditRead), of(Class::AuditRead));
        for read in [&mut signature, &mut first, &mut second] {
            assert!(futures::poll!(read).is_pending());
        }
        assert_eq!(disk.load(Class::AuditRead), (1, 1));
        task::sleep(Duration::from_millis(300)).await;
        first.await.unwrap();
        // It has its turn from now on, and does not take it.
        assert_eq!(disk.load(Class::AuditRead), (0, 1));
        task::sleep(Duration::from_millis(2500)).await;
        signature.await.unwrap();
        second.await.unwrap();
        assert_eq!(disk.health_cell().late(Action::Read), 0);
        ring.close().await;
    });
}

#[test]
fn closing_leaves_a_disk_that_does_not_answer_behind() {
    let pool = Pool::new(2, 8).unwrap();
    let there = pool.clone();
    let running = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10);
    let body = move || async move {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let hung = DirectFile::open_anything(&pipe, Access::ReadWrite).unwrap();
        let first = Ring::new(&there, 8).unwrap();
        let ring = first.beside(8).unwrap();
        let disk = Disk::new(ring.clone(), Limits::default());
        let mut reading = Box::pin(read(&disk, Class::Scrub, &hung, &there));
        assert!(futures::poll!(&mut reading).is_pending());
        task::sleep(Duration::from_millis(20)).await;
        drop(reading);
        assert!(first.close_within(READ).await);
        assert!(!ring.close_within(Duration::from_millis(50)).await);
    };
    running.spawn(body).unwrap().join().unwrap();
    assert_eq!(pool.stats().in_use, 1, "what the kernel may still write to is not used again");
}
