//! Waking one task from another on the same executor.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Remembers one notice for one waiting task.
#[derive(Default)]
pub(super) struct Notify {
    noticed: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    pub(super) fn notify(&self) {
        self.noticed.set(true);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    /// Returns at once when a notice came since the last return.
    pub(super) async fn wait(&self) {
        poll_fn(|context| {
            if self.noticed.take() {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
