//! The executors of a process: threads that run tasks, each with rings of its own over the one pool, one a disk.
//!
//! Owns: the threads, their start and their end. Any thread starts tasks on them through a [`Spawner`]; results come back
//! to any runtime. Never: which cores; the caller's placement says that. A panic in a task ends its executor: all tasks are
//! dropped, and every result still expected from it becomes [`RemoteError::Gone`]. The process is then to be restarted.

use crate::checks::{check_io_uring, check_memlock, locked_bytes};
use crate::disk::{CLASSES, Class, Disk, Limits, URGENT_DEPTH};
use crate::pool::Pool;
use crate::ring::{Ring, RingError};
use crate::task::{self, LocalTask};
use crate::threads::CoreSet;
use futures::channel::oneshot;
use futures::future::{AbortHandle, Either, FutureExt, Shared, abortable, select};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, TaskQueueHandle};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Tasks that may wait to be started on one executor.
pub const MAX_QUEUED_JOBS: usize = 4096;
/// glommio's own buffers, which nothing here uses: its smallest size.
const GLOMMIO_IO_BYTES: usize = 64 * 1024;
/// What the disks of an executor that ends have at least for what is in flight.
const CLOSE_LEAST: Duration = Duration::from_millis(200);
/// How often a stopping executor looks whether its tasks are done.
const STOP_POLL: Duration = Duration::from_millis(1);

type Job = Box<dyn FnOnce(&Local) + Send>;

enum Message {
    Start(Job),
    /// End: tasks have this long to end by themselves.
    Stop(Duration),
}

/// What executors to start.
#[derive(Debug, Clone)]
pub struct ExecutorsConfig {
    /// Name of the threads, to which each adds its number, for `top -H` and logs: `data-0`. 15 bytes are seen there.
    pub name: String,
    /// One executor each: on a set of cores, mostly of one, that may be moved; or wherever the system puts it.
    pub cores: Vec<Option<CoreSet>>,
    /// Operations that each executor's own ring hands to the kernel at once. Disks have theirs: [`Local::disk`].
    pub ring_depth: usize,
}

/// Why the executors did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host forbids io_uring or locking memory.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// One thread did not start.
    #[error("executor {index} did not start: {reason}")]
    Executor {
        /// Position in the configuration.
        index: usize,
        /// What glommio says.
        reason: String,
    },
}

/// Why the executors did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// A task hogs the thread. The thread is left behind.
    #[error("executor {index} did not end within {limit:?}: a task does not yield")]
    Stuck {
        /// Which executor.
        index: usize,
        /// The time it had.
        limit: Duration,
    },
    /// A task panicked.
    #[error("executor {index} ended by a panic: {reason}")]
    Panicked {
        /// Which executor.
        index: usize,
        /// The panic's text.
        reason: String,
    },
}

/// Why a task gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The executor ended, or ended the task, before the result.
    #[error("the executor is gone")]
    Gone,
    /// More than [`MAX_QUEUED_JOBS`] tasks wait to be started.
    #[error("the executor has too many tasks to start")]
    Full,
}

/// The running executors. Dropping them tells them to end without waiting for it.
pub struct Executors {
    threads: Vec<Thread>,
}

struct Thread {
    spawner: Spawner,
    handle: ExecutorJoinHandle<Result<(), String>>,
    /// Disconnected when the thread's work is over.
    ended: flume::Receiver<()>,
}

impl Executors {
    /// Checks that the host allows it, and starts one executor for each entry of `config.cores`.
    pub fn start(config: &ExecutorsConfig, pool: &Pool) -> Result<Self, StartError> {
        check_io_uring()?;
        check_memlock(locked_bytes(config.cores.len(), pool.memory().1))?;
        let mut executors = Self { threads: Vec::new() };
        let rings = Arc::new(AtomicUsize::new(config.cores.len()));
        for index in 0..config.cores.len() {
            executors.threads.push(start_one(config, index, pool, rings.clone())?);
        }
        Ok(executors)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// The way to start tasks on one of them. Panics when there is none of that index.
    pub fn spawner(&self, index: usize) -> Spawner {
        self.threads[index].spawner.clone()
    }

    /// Ends all within `limit`: half of it for tasks to end by themselves (see [`Local::stopping`]), then they are dropped
    /// and operations in flight awaited. Blocks the thread.
    pub fn shutdown(mut self, limit: Duration) -> Result<(), ShutdownError> {
        let deadline = Instant::now() + limit;
        self.threads.iter().for_each(|thread| thread.spawner.stop(limit / 2));
        let ends: Vec<_> = std::mem::take(&mut self.threads)
            .into_iter()
            .enumerate()
            .map(|(index, thread)| {
                if thread.ended.recv_deadline(deadline) == Err(flume::RecvTimeoutError::Timeout) {
                    return Err(ShutdownError::Stuck { index, limit });
                }
                let joined = thread.handle.join().map_err(|error| error.to_string());
                joined.flatten().map_err(|reason| ShutdownError::Panicked { index, reason })
            })
            .collect();
        ends.into_iter().collect()
    }
}

impl Drop for Executors {
    fn drop(&mut self) {
        self.threads.iter().for_each(|thread| thread.spawner.stop(Duration::ZERO));
    }
}

fn start_one(
    config: &ExecutorsConfig,
    index: usize,
    pool: &Pool,
    rings: Arc<AtomicUsize>,
) -> Result<Thread, StartError> {
    let (sender, messages) = flume::bounded(MAX_QUEUED_JOBS);
    let (ready, is_ready) = flume::bounded::<Result<(), RingError>>(1);
    let (ends, ended) = flume::bounded::<()>(1);
    let (pool, depth) = (pool.clone(), config.ring_depth);
    let failed = |error: &dyn std::fmt::Display| StartError::Executor { index, reason: error.to_string() };
    let (name, cores) = (format!("{}-{index}", config.name), config.cores[index].clone());
    // glommio binds nothing: what it binds cannot be moved.
    let handle = LocalExecutorBuilder::new(Placement::Unbound)
        .name(&config.name)
        .io_memory(GLOMMIO_IO_BYTES)
        .spawn(move || async move {
            // Dropped when this is over, whether by return or by panic.
            let _ends = ends;
            settle(&name, cores).await;
            let panics = task::watch_panics();
            let made = Ring::new(&pool, depth).map(|ring| Local::new(index, ring, rings));
            let (local, answer) = match made {
                Ok(local) => (Some(local), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let _ = ready.send(answer);
            match local {
                Some(local) => serve(&local, &messages, panics).await,
                None => Ok(()),
            }
        })
        .map_err(|error| failed(&error))?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(Thread { spawner: Spawner { messages: sender }, handle, ended }),
        Ok(Err(error)) => Err(error.into()),
        Err(flume::RecvError::Disconnected) => {
            let error =
                handle.join().err().map_or_else(|| "it ended at once".into(), |error| error.to_string());
            Err(failed(&error))
        }
    }
}

/// Names the executor's threads, and binds them before they touch memory: the pool then comes from their node. glommio's second thread is
/// for calls that block, of which there are none; it would have inherited the CPUs of whoever started the executors.
async fn settle(name: &str, cores: Option<CoreSet>) {
    let take = |name: String, cores: Option<CoreSet>| {
        let name = CString::new(name).unwrap_or_default();
        // The system keeps what fits; a thread without a name runs as well.
        let _ = rustix::thread::set_name(&name);
        cores.iter().for_each(CoreSet::enter);
    };
    take(name.into(), cores.clone());
    let second = format!("{name}-blk");
    glommio::executor().spawn_blocking(move || take(second, cores)).await;
}

/// Starts tasks until told to stop, or until one panics; then ends what runs. Errs with the panic's text.
async fn serve(
    local: &Local,
    messages: &flume::Receiver<Message>,
    mut panics: oneshot::Receiver<String>,
) -> Result<(), String> {
    let (grace, result) = loop {
        match select(messages.recv_async(), &mut panics).await {
            Either::Left((Ok(Message::Start(job)), _)) => job(local),
            Either::Left((Ok(Message::Stop(grace)), _)) => break (grace, Ok(())),
            // Nobody is left who could start anything or ask to stop.
            Either::Left((Err(flume::RecvError::Disconnected), _)) => break (Duration::ZERO, Ok(())),
            Either::Right((text, _)) => break (Duration::ZERO, text.map_or(Ok(()), Err)),
        }
    };
    local.0.stop.take();
    if task::timeout(grace, local.all_done()).await.is_err() {
        local.0.running.borrow().values().for_each(AbortHandle::abort);
        local.all_done().await;
    }
    let limit = (grace / 2).max(CLOSE_LEAST);
    // What was begun is taken back there; a disk that does not answer keeps nobody.
    let _ = task::timeout(limit, task::nothing_is_apart()).await;
    local.close_rings(limit).await;
    result
}

/// Starts tasks on one executor from any thread; clones lead to the same one.
#[derive(Clone)]
pub struct Spawner {
    messages: flume::Sender<Message>,
}

impl Spawner {
    /// Calls `make` on the executor and runs the future it returns. The future may be of the executor's own kind (not
    /// `Send`). It runs to its end, or to the executor's, also when the [`Remote`] is dropped.
    pub fn spawn<F, T>(&self, make: impl FnOnce(Local) -> F + Send + 'static) -> Remote<T>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |local| {
            let future = make(local.clone());
            local.run_tracked(async move {
                // The asker may be gone; the task was for its effect then.
                let _ = done.send(future.await);
            });
        });
        match self.messages.try_send(Message::Start(job)) {
            Ok(()) => Remote { result, full: false },
            Err(refused) => Remote { result, full: matches!(refused, flume::TrySendError::Full(_)) },
        }
    }

    fn stop(&self, grace: Duration) {
        // Blocks while the queue is full, which the executor empties; errs when it has ended already.
        let _ = self.messages.send_timeout(Message::Stop(grace), Duration::from_secs(1));
    }
}

/// The result of a task on an executor, awaitable anywhere. Dropping it lets the task run on.
#[derive(Debug)]
pub struct Remote<T> {
    result: oneshot::Receiver<T>,
    full: bool,
}

impl<T> Remote<T> {
    /// Blocks this thread until the result is there. Never call it on an executor.
    pub fn wait(self) -> Result<T, RemoteError> {
        futures::executor::block_on(self)
    }
}

impl<T> Future for Remote<T> {
    type Output = Result<T, RemoteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let lost = if self.full { RemoteError::Full } else { RemoteError::Gone };
        Pin::new(&mut self.result).poll(context).map_err(|_| lost)
    }
}

/// What a task finds on its executor; clones are handles to the same.
#[derive(Clone)]
pub struct Local(Rc<LocalInner>);

struct LocalInner {
    index: usize,
    ring: Ring,
    /// Those of its disks: kept here, so that none is dropped, which waits for the kernel, while it is in use.
    disks: RefCell<Vec<(PathBuf, Ring)>>,
    /// Rings of the whole process.
    rings: Arc<AtomicUsize>,
    queues: [TaskQueueHandle; CLASSES.len()],
    running: RefCell<HashMap<u64, AbortHandle>>,
    next_task: Cell<u64>,
    /// Dropped when the executor is to stop.
    stop: Cell<Option<oneshot::Sender<()>>>,
    stopping: Shared<oneshot::Receiver<()>>,
}

impl Local {
    fn new(index: usize, ring: Ring, rings: Arc<AtomicUsize>) -> Self {
        let (stop, stopping) = oneshot::channel();
        Self(Rc::new(LocalInner {
            index,
            ring,
            disks: RefCell::default(),
            rings,
            queues: CLASSES.map(task::queue_of),
            running: RefCell::new(HashMap::new()),
            next_task: Cell::new(0),
            stop: Cell::new(Some(stop)),
            stopping: stopping.shared(),
        }))
    }

    /// Position of this executor among the process's.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// The disk that `place` lies, or will lie, on, with a ring of its own, so that it keeps nobody but its own askers waiting. Once
    /// for all files of a device.
    pub fn disk(&self, place: &Path, limits: Limits) -> Result<Disk, RingError> {
        let (disks, rings) = (&mut *self.0.disks.borrow_mut(), &self.0.rings);
        let before = disks.len();
        disks.retain(|(_, ring)| !ring.is_unused());
        rings.fetch_sub(before - disks.len(), Ordering::Relaxed);
        let all = rings.fetch_add(1, Ordering::Relaxed) + 1;
        let depth = limits.depth.saturating_add(URGENT_DEPTH);
        let ring = match self.0.ring.beside(depth) {
            // Where the kernel cannot share locked memory, each ring needs its own.
            Err(RingError::Memlock { .. }) => check_memlock(locked_bytes(all, self.pool().memory().1))
                .and_then(|()| self.0.ring.beside(depth)),
            made => made,
        };
        let ring = ring.inspect_err(|_| _ = rings.fetch_sub(1, Ordering::Relaxed))?;
        disks.push((place.to_owned(), ring.clone()));
        Ok(Disk::at(place, ring, limits))
    }

    /// This executor's own ring: the memory that its disks share is registered with it.
    pub fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// The process's pool.
    pub fn pool(&self) -> &Pool {
        self.0.ring.pool()
    }

    /// Starts a task in the queue of its class: the more urgent the class, the larger its share of the CPU and the sooner
    /// it runs. Tasks started by [`task::spawn_local`] stay in the queue of the one that starts them.
    #[must_use = "a task that is dropped ends; detach it to let it run"]
    pub fn spawn_in<T: 'static>(
        &self,
        class: Class,
        future: impl Future<Output = T> + 'static,
    ) -> LocalTask<T> {
        task::spawn_into(self.0.queues[class as usize], future)
    }

    /// Ready when the executor is to stop: long-lived tasks should end then, or are dropped after the grace time.
    pub async fn stopping(&self) {
        // The sender is dropped, never used.
        let _ = self.0.stopping.clone().await;
    }

    /// Closes all rings; a disk that does not answer is left behind.
    async fn close_rings(&self, limit: Duration) {
        let disks = self.0.disks.take();
        let closing = disks.iter().map(|(place, ring)| async move {
            if !ring.close_within(limit).await {
                tracing::error!(
                    "{}: its disk does not end what it was asked for: it is left behind",
                    place.display()
                );
            }
        });
        futures::future::join(self.0.ring.close_within(limit), futures::future::join_all(closing)).await;
    }

    async fn all_done(&self) {
        while !self.0.running.borrow().is_empty() {
            task::sleep(STOP_POLL).await;
        }
    }

    /// Runs a task that [`Executors::shutdown`] waits for.
    fn run_tracked(&self, future: impl Future<Output = ()> + 'static) {
        let id = self.0.next_task.replace(self.0.next_task.get() + 1);
        let (future, abort) = abortable(future);
        self.0.running.borrow_mut().insert(id, abort);
        let ended = Running(self.clone(), id);
        task::spawn_local(async move {
            let _ended = ended;
            // Aborted or done: over in both cases.
            let _ = future.await;
        })
        .detach();
    }
}

/// The entry of a running task; dropped with it, also when it panics.
struct Running(Local, u64);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.borrow_mut().remove(&self.1);
    }
}
