//! Every interleaving of a few threads on the pool's core.

use super::{Acquired, Core};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::{future::block_on, thread};
use std::future::poll_fn;
use std::task::Poll;

/// Waits for a slab as the pool's future does.
fn acquire(core: &Core) -> u32 {
    let mut ticket = None;
    block_on(poll_fn(|context| match ticket {
        Some(ticket) => core.poll_ticket(ticket, context.waker()).map_or(Poll::Pending, Poll::Ready),
        None => match core.acquire_or_wait(context.waker()).unwrap() {
            Acquired::Slab(slab) => Poll::Ready(slab),
            Acquired::Wait(new) => {
                ticket = Some(new);
                Poll::Pending
            }
        },
    }))
}

/// Marks a slab as ours while we hold it, and sees that nobody else has it.
fn use_alone(busy: &AtomicBool) {
    assert!(!busy.swap(true, Ordering::Relaxed), "a slab was given out twice");
    busy.store(false, Ordering::Relaxed);
}

#[test]
fn waiters_get_the_slab_one_after_another() {
    loom::model(|| {
        let core = Arc::new(Core::new(1, 2));
        let busy = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (core, busy) = (core.clone(), busy.clone());
                thread::spawn(move || {
                    let slab = acquire(&core);
                    use_alone(&busy);
                    core.drop_handle(slab);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(core.counts().in_use, 0);
        assert!(core.try_acquire().is_some(), "the slab was lost");
    });
}

#[test]
fn the_last_of_two_handles_frees_the_slab_once() {
    loom::model(|| {
        let core = Arc::new(Core::new(1, 1));
        let memory = Arc::new(loom::cell::UnsafeCell::new(0u32));
        let slab = core.try_acquire().unwrap();
        core.add_handle(slab);
        let reader = {
            let (core, memory) = (core.clone(), memory.clone());
            thread::spawn(move || {
                memory.with(|_| ());
                core.drop_handle(slab);
            })
        };
        memory.with(|_| ());
        core.drop_handle(slab);
        let next = acquire(&core);
        // loom fails the model when this write can race with either read.
        memory.with_mut(|_| ());
        assert!(core.try_acquire().is_none(), "a slab was given out twice");
        core.drop_handle(next);
        reader.join().unwrap();
    });
}

#[test]
fn the_only_handle_sees_what_the_other_did() {
    loom::model(|| {
        let core = Arc::new(Core::new(1, 1));
        let memory = Arc::new(loom::cell::UnsafeCell::new(0u32));
        let slab = core.try_acquire().unwrap();
        core.add_handle(slab);
        let reader = {
            let (core, memory) = (core.clone(), memory.clone());
            thread::spawn(move || {
                memory.with(|_| ());
                core.drop_handle(slab);
            })
        };
        if core.is_only_handle(slab) {
            memory.with_mut(|_| ());
        }
        reader.join().unwrap();
        core.drop_handle(slab);
        assert_eq!(core.counts().in_use, 0);
    });
}

#[test]
fn a_cancelled_waiter_passes_its_grant_on() {
    loom::model(|| {
        let core = Arc::new(Core::new(1, 2));
        let slab = core.try_acquire().unwrap();
        let quitter = {
            let core = core.clone();
            thread::spawn(move || {
                block_on(poll_fn(|context| {
                    match core.acquire_or_wait(context.waker()).unwrap() {
                        Acquired::Slab(slab) => core.drop_handle(slab),
                        Acquired::Wait(ticket) => core.cancel(ticket),
                    }
                    Poll::Ready(())
                }));
            })
        };
        let waiter = {
            let core = core.clone();
            thread::spawn(move || {
                let slab = acquire(&core);
                core.drop_handle(slab);
            })
        };
        core.drop_handle(slab);
        quitter.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(core.counts().in_use, 0);
    });
}
