//! Executors as a role uses them: started, used from other threads and runtimes, ended.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

use engine::executor::{RemoteError, ShutdownError};
use engine::pool::Pool;
use engine::threads::CoreSet;
use engine::{Access, Class, DirectFile, Executors, ExecutorsConfig, Limits, task};
use rustix::thread::{CpuSet, Pid, sched_getaffinity};
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(10);

fn start(cores: Vec<Option<CoreSet>>, pool: &Pool) -> Executors {
    let config = ExecutorsConfig { name: "test".into(), cores, ring_depth: 32 };
    Executors::start(&config, pool).unwrap()
}

fn allowed_cores(thread: Option<Pid>) -> Vec<usize> {
    let allowed = sched_getaffinity(thread).unwrap();
    (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
}

#[test]
fn tokio_asks_and_executors_answer() {
    let pool = Pool::new(4, 4).unwrap();
    let first = allowed_cores(None)[0];
    let executors = start(vec![None, Some(CoreSet::new(&[first]).unwrap())], &pool);
    let (free, pinned) = (executors.spawner(0), executors.spawner(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sum, core) = runtime.block_on(async move {
        let sum = free.spawn(|local| async move {
            // Not `Send`: it lives and dies on the executor.
            let sum = Rc::new(Cell::new(local.index()));
            let there = sum.clone();
            local.spawn_in(Class::AuditRead, async move { there.set(there.get() + 41) }).await;
            task::sleep(Duration::from_millis(1)).await;
            sum.get()
        });
        let core = pinned.spawn(|_| async { allowed_cores(None) });
        (sum.await, core.await)
    });
    assert_eq!(sum, Ok(41));
    assert_eq!(core.unwrap(), [first]);
    executors.shutdown(LIMIT).unwrap();
}

#[test]
fn a_slab_written_on_one_executor_is_read_on_another() {
    let pool = Pool::new(2, 4).unwrap();
    let executors = start(vec![None, None], &pool);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let file = DirectFile::create(&path, 1 << 16).unwrap();
    let mut slab = pool.try_acquire().unwrap().narrow(..1 << 16);
    slab.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = at.to_le_bytes()[1] ^ 0x5A);
    let slab = slab.freeze();
    let (data, out) = (slab.clone(), file.clone());
    let write = executors.spawner(0).spawn(|local| async move {
        let disk = local.disk(out.path(), Limits::default()).unwrap();
        disk.write(Class::SectorWrite, &out, 0, &data).await?;
        disk.sync(Class::SectorWrite, &out).await
    });
    write.wait().unwrap().unwrap();
    let read = executors.spawner(1).spawn(move |local| async move {
        let disk = local.disk(file.path(), Limits::default()).unwrap();
        let buf = local.pool().acquire().await.unwrap();
        disk.read_unaligned(Class::ProofRead, &file, 1000, 50_000, buf).await
    });
    let back = read.wait().unwrap().unwrap();
    assert!(*back == slab[1000..51_000]);
    drop(back);
    drop(slab);
    executors.shutdown(LIMIT).unwrap();
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn stopping_is_told_to_tasks_and_ends_those_that_do_not_listen() {
    let pool = Pool::new(1, 1).unwrap();
    let executors = start(vec![None], &pool);
    let polite = executors.spawner(0).spawn(|local| async move {
        local.stopping().await;
        "ended by itself"
    });
    let slab = pool.try_acquire().unwrap();
    let deaf = executors.spawner(0).spawn(move |_| async move {
        let _slab = slab;
        std::future::pending::<()>().await;
    });
    let spawner = executors.spawner(0);
    let began = Instant::now();
    executors.shutdown(Duration::from_millis(400)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(polite.wait(), Ok("ended by itself"));
    assert_eq!(deaf.wait(), Err(RemoteError::Gone));
    assert_eq!(pool.stats().in_use, 0, "what a task held is freed");
    assert_eq!(spawner.spawn(|_| async {}).wait(), Err(RemoteError::Gone));
}

#[test]
fn a_disk_that_never_answers_does_not_block_shutdown() {
    let pool = Pool::new(2, 2).unwrap();
    let executors = start(vec![None], &pool);
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let hung = DirectFile::open_anything(&pipe, Access::ReadWrite).unwrap();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let read = executors.spawner(0).spawn(move |local| async move {
        let disk = local.disk(hung.path(), Limits::default()).unwrap();
        let buf = local.pool().acquire().await.unwrap();
        let read = disk.read(Class::Scrub, &hung, 0, buf, 0..4096);
        begun.send(()).unwrap();
        read.await.map(drop)
    });
    has_begun.recv_timeout(LIMIT).unwrap();
    executors.shutdown(Duration::from_secs(2)).unwrap();
    assert!(matches!(read.wait(), Err(RemoteError::Gone)));
    assert_eq!(pool.stats().in_use, 1, "what the kernel may still write to is not used again");
}

#[test]
fn a_task_that_never_yields_does_not_block_shutdown() {
    let pool = Pool::new(1, 1).unwrap();
    let executors = start(vec![None], &pool);
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let hog = executors.spawner(0).spawn(move |_| async move { blocked.recv().is_ok() });
    let ended = executors.shutdown(Duration::from_millis(100));
    assert!(matches!(ended, Err(ShutdownError::Stuck { index: 0, .. })), "{ended:?}");
    release.send(()).unwrap();
    assert_eq!(hog.wait(), Ok(true));
}

#[test]
fn a_panic_is_reported_and_nobody_waits_for_ever() {
    let pool = Pool::new(1, 1).unwrap();
    let executors = start(vec![None], &pool);
    let other = executors.spawner(0).spawn(|_| std::future::pending::<()>());
    let bad = executors.spawner(0).spawn(|_| async { panic!("a bug") });
    assert_eq!(bad.wait(), Err::<(), _>(RemoteError::Gone));
    assert_eq!(other.wait(), Err(RemoteError::Gone));
    let ended = executors.shutdown(LIMIT).unwrap_err();
    assert!(matches!(&ended, ShutdownError::Panicked { index: 0, reason } if reason == "a bug"), "{ended}");
}

#[test]
fn a_panic_in_a_detached_task_ends_the_executor_too() {
    let pool = Pool::new(1, 1).unwrap();
    let executors = start(vec![None], &pool);
    let waits = executors.spawner(0).spawn(|_| async {
        task::spawn_local(async { panic!("unobserved") }).detach();
        std::future::pending::<()>().await;
    });
    assert_eq!(waits.wait(), Err(RemoteError::Gone));
    assert!(executors.shutdown(LIMIT).unwrap_err().to_string().contains("unobserved"));
}

/// The threads of this process with this name, and where they may run.
fn threads_named(name: &str) -> Vec<Vec<usize>> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_its =
        |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let id = |task: PathBuf| Pid::from_raw(task.file_name().unwrap().to_str().unwrap().parse().unwrap());
    tasks.filter(is_its).map(|task| allowed_cores(id(task))).collect()
}

#[test]
fn both_threads_of_an_executor_have_its_name_and_move_with_its_set() {
    let pool = Pool::new(1, 1).unwrap();
    let all = allowed_cores(None);
    let set = CoreSet::new(&all[..1]).unwrap();
    let config =
        ExecutorsConfig { name: "mover".into(), cores: vec![None, Some(set.clone())], ring_depth: 8 };
    let executors = Executors::start(&config, &pool).unwrap();
    let both = |name: &str| [name.to_owned(), format!("{name}-blk")].map(|name| threads_named(&name));
    assert_eq!(both("mover-0"), [[all.clone()], [all.clone()]], "it was given no set");
    assert_eq!(both("mover-1"), [[all[..1].to_vec()], [all[..1].to_vec()]]);
    let last = &all[all.len() - 1..];
    set.move_to(last).unwrap();
    assert_eq!(both("mover-1"), [[last.to_vec()], [last.to_vec()]]);
    executors.shutdown(LIMIT).unwrap();
    // The second thread ends a moment after the first.
    let asked = Instant::now();
    while set.threads() > 0 {
        assert!(asked.elapsed() < LIMIT, "a thread that has ended is still on the set");
        std::thread::yield_now();
    }
}

#[test]
fn a_timeout_drops_the_future() {
    let pool = Pool::new(1, 1).unwrap();
    let executors = start(vec![None], &pool);
    let slab = pool.try_acquire().unwrap();
    let late = executors.spawner(0).spawn(move |_| async move {
        let holds = async move {
            let _slab = slab;
            std::future::pending::<()>().await;
        };
        task::timeout(Duration::from_millis(20), holds).await
    });
    assert!(late.wait().unwrap().is_err());
    assert!(pool.try_acquire().is_some());
    executors.shutdown(LIMIT).unwrap();
}
