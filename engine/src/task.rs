//! Tasks and time on the executor of this thread. Never call these from a thread that is no executor: they panic there.
//!
//! One task must not wait on more than 32 000 things at once by its own waker: glommio counts a task's wakers in 16 bits.
//! `FuturesUnordered` and `join_all` of many futures use wakers of their own and are safe.

use crate::disk::Class;
use futures::FutureExt;
use futures::channel::oneshot;
use glommio::{Latency, Shares, TaskQueueHandle};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a panicking task leaves.
type Panic = Box<dyn Any + Send>;

thread_local! {
    /// Who learns of panics on this executor: glommio would unwind its thread and leave all other tasks waiting for ever.
    static PANICS: Cell<Option<oneshot::Sender<String>>> = const { Cell::new(None) };
    /// Threads that do for this executor what blocks.
    static APART: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
    /// Whether this thread is one of those.
    static IS_APART: Cell<bool> = const { Cell::new(false) };
}

/// The text of the first panic of a task of this executor.
pub(crate) fn watch_panics() -> oneshot::Receiver<String> {
    let (sender, receiver) = oneshot::channel();
    PANICS.set(Some(sender));
    receiver
}

/// Runs a task; a panic is told to the executor, and goes on in whoever awaits the task.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panic> {
    let result = AssertUnwindSafe(future).catch_unwind().await;
    if let Err(panic) = &result
        && let Some(watcher) = PANICS.take()
    {
        let text =
            panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        // An executor that ends already needs no further reason.
        let _ = watcher.send(text.unwrap_or("without a text").to_owned());
    }
    result
}

/// A task on this executor. Awaiting gives its result; dropping it ends the task, [`LocalTask::detach`] lets it run on.
pub struct LocalTask<T>(glommio::Task<Result<T, Panic>>);

impl<T> LocalTask<T> {
    /// Lets the task run to its end unobserved. It should end by [`crate::Local::stopping`] where it could wait for ever:
    /// what it holds is not freed when the executor ends first.
    pub fn detach(self)
    where
        T: 'static,
    {
        self.0.detach();
    }

    /// Ends the task at its next await and waits until its future is dropped; its result if it was done already.
    pub async fn cancel(self) -> Option<T> {
        self.0.cancel().await.map(unless_panicked)
    }
}

fn unless_panicked<T>(result: Result<T, Panic>) -> T {
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

impl<T> Future for LocalTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context).map(unless_panicked)
    }
}

/// Starts a task on this executor. It runs at once up to its first await, before this call returns.
#[must_use = "a task that is dropped ends; detach it to let it run"]
pub fn spawn_local<T: 'static>(future: impl Future<Output = T> + 'static) -> LocalTask<T> {
    LocalTask(glommio::spawn_local(caught(future)))
}

/// Share of the CPU and wish for latency of each class's queue.
fn queue_weight(class: Class) -> (usize, Latency) {
    let within = |millis| Latency::Matters(Duration::from_millis(millis));
    match class {
        Class::RewardSignature => (1000, within(1)),
        Class::AuditRead => (800, within(5)),
        Class::ProofRead => (600, within(10)),
        Class::Serving => (400, within(50)),
        Class::SectorWrite => (300, Latency::NotImportant),
        Class::Scrub => (50, Latency::NotImportant),
    }
}

/// A new queue for tasks of a class.
pub(crate) fn queue_of(class: Class) -> TaskQueueHandle {
    let (shares, latency) = queue_weight(class);
    glommio::executor().create_task_queue(Shares::Static(shares), latency, &format!("{class:?}"))
}

/// The queue of the running task.
pub(crate) fn current_queue() -> TaskQueueHandle {
    glommio::executor().current_task_queue()
}

/// Starts a task in a queue of this executor.
pub(crate) fn spawn_into<T: 'static>(
    queue: TaskQueueHandle,
    future: impl Future<Output = T> + 'static,
) -> LocalTask<T> {
    LocalTask(
        glommio::spawn_local_into(caught(future), queue).expect("queues live as long as their executor"),
    )
}

/// Does what blocks, such as opening a file, in a thread of its own: a disk that never answers keeps that thread, and not the executor.
/// When the future is dropped the thread goes on, and what came of it is dropped. Errs when no thread is to be had, and `work` was dropped.
pub async fn off_executor<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    start_apart(name, move || {
        // Nobody may wait any more.
        let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
    })?;
    Ok(unless_panicked(result.await.expect("the thread sends before it ends")))
}

/// Does what blocks in a thread of its own, unless this is one already. Nobody waits for it but the executor at its end.
pub(crate) fn apart(name: &str, work: impl FnOnce() + Send + 'static) {
    if IS_APART.get() {
        work();
    } else if let Err(error) = start_apart(name, work) {
        // What it held was dropped here.
        tracing::warn!("{name}: no thread: {error}");
    }
}

fn start_apart(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        IS_APART.set(true);
        work();
    })?;
    // An executor whose thread ends already waits for nothing.
    let _ = APART.try_with(|threads| {
        let mut threads = threads.borrow_mut();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    });
    Ok(())
}

/// Waits until no thread blocks for this executor any more.
pub(crate) async fn nothing_is_apart() {
    while APART.with_borrow(|threads| threads.iter().any(|thread| !thread.is_finished())) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Waits.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Lets the other tasks of this executor run first.
pub async fn yield_now() {
    glommio::executor().yield_now().await;
}

/// Lets others run if this task has used up its turn; costs next to nothing otherwise. For loops that are always ready.
pub async fn yield_if_needed() {
    glommio::yield_if_needed().await;
}

/// The time was up before the future was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct Elapsed(pub Duration);

/// Runs `future` for at most `limit`; it is dropped when the time is up.
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let timer = std::pin::pin!(sleep(limit));
    match futures::future::select(std::pin::pin!(future), timer).await {
        futures::future::Either::Left((done, _)) => Ok(done),
        futures::future::Either::Right(_) => Err(Elapsed(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_disk::on_disk;
    use std::sync::mpsc;

    /// Says in which thread it was dropped.
    struct Dropped(mpsc::Sender<Option<String>>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.send(thread::current().name().map(str::to_owned)).unwrap();
        }
    }

    #[test]
    fn what_blocks_keeps_its_thread_alone_and_what_nobody_waits_for_ends_there() {
        on_disk(|_, _| async {
            // It ends only after something has run here meanwhile.
            let (go, waits) = mpsc::channel();
            let other = spawn_local(async move {
                yield_now().await;
                go.send(7).unwrap();
            });
            assert_eq!(off_executor("slow", move || waits.recv().unwrap()).await.unwrap(), 7);
            other.await;
            let ((go, waits), (dropped, said)) = (mpsc::channel::<()>(), mpsc::channel());
            let work = move || {
                waits.recv().unwrap();
                Dropped(dropped)
            };
            let left = timeout(Duration::from_millis(1), off_executor("left", work)).await;
            assert!(left.is_err(), "nobody waits any more");
            go.send(()).unwrap();
            nothing_is_apart().await;
            assert_eq!(said.recv().unwrap().as_deref(), Some("left"));
        });
    }
}
