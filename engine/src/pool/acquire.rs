//! Getting a slab: at once, or in the order of asking.

use super::core::{Acquired, Ticket};
use super::{AcquireError, Pool, SlabMut};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

impl Pool {
    /// A slab if one is free.
    pub fn try_acquire(&self) -> Option<SlabMut> {
        let slab = self.0.core.try_acquire()?;
        Some(SlabMut::whole(self.clone(), slab))
    }

    /// Waits for a slab, in the order of asking, on any runtime. Dropping the future gives the place up.
    pub fn acquire(&self) -> Acquire {
        Acquire { pool: self.clone(), ticket: None }
    }
}

/// A task's wait for a slab.
pub struct Acquire {
    pool: Pool,
    ticket: Option<Ticket>,
}

impl Future for Acquire {
    type Output = Result<SlabMut, AcquireError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let core = &self.pool.0.core;
        let slab = match self.ticket {
            Some(ticket) => core.poll_ticket(ticket, context.waker()),
            None => match core.acquire_or_wait(context.waker())? {
                Acquired::Slab(slab) => Some(slab),
                Acquired::Wait(ticket) => {
                    self.ticket = Some(ticket);
                    None
                }
            },
        };
        let Some(slab) = slab else { return Poll::Pending };
        self.ticket = None;
        Poll::Ready(Ok(SlabMut::whole(self.pool.clone(), slab)))
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pool.0.core.cancel(ticket);
        }
    }
}
