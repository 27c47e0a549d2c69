//! Tasks and time on the executor of this thread. Never call these from a thread that is no executor: they panic there.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A task on this executor. Awaiting gives its result; dropping it ends the task, [`LocalTask::detach`] lets it run on.
pub struct LocalTask<T>(glommio::Task<T>);

impl<T> LocalTask<T> {
    /// Lets the task run to its end unobserved.
    pub fn detach(self)
    where
        T: 'static,
    {
        self.0.detach();
    }

    /// Ends the task at its next await and waits until its future is dropped; its result if it was done already.
    pub async fn cancel(self) -> Option<T> {
        self.0.cancel().await
    }
}

impl<T> Future for LocalTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Starts a task on this executor. It runs at once up to its first await, before this call returns.
#[must_use = "a task that is dropped ends; detach it to let it run"]
pub fn spawn_local<T: 'static>(future: impl Future<Output = T> + 'static) -> LocalTask<T> {
    LocalTask(glommio::spawn_local(future))
}

/// Waits.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Lets the other tasks of this executor run first.
pub async fn yield_now() {
    glommio::executor().yield_now().await;
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
