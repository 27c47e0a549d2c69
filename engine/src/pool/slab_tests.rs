use super::*;
use crate::pool::AcquireError;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn pool(slabs: usize) -> Pool {
    Pool::new(slabs, 2).unwrap()
}

#[test]
fn slabs_are_aligned_zeroed_and_apart() {
    let pool = pool(3);
    let mut slabs: Vec<_> = (0..3).map(|_| pool.try_acquire().unwrap()).collect();
    assert!(pool.try_acquire().is_none());
    for (n, slab) in (1u8..).zip(&mut slabs) {
        assert_eq!(slab.len(), SLAB_BYTES);
        assert_eq!(slab.as_ptr() as usize % SLAB_BYTES, 0);
        assert!(slab.iter().all(|&byte| byte == 0));
        slab.fill(n);
    }
    for (n, slab) in (1u8..).zip(&slabs) {
        assert!(slab.iter().all(|&byte| byte == n));
    }
    assert_eq!(pool.stats().in_use, 3);
    drop(slabs);
    let stats = pool.stats();
    assert_eq!((stats.total, stats.in_use, stats.high_water, stats.waiting), (3, 0, 3, 0));
}

#[test]
fn parts_keep_the_slab_and_do_not_overlap() {
    let pool = pool(1);
    let parts = pool.try_acquire().unwrap().split_into(SLAB_BYTES / 2 - 1);
    assert_eq!(parts.len(), 2, "two bytes are left over");
    let [mut low, mut high] = <[_; 2]>::try_from(parts).unwrap();
    low.fill(1);
    high.fill(2);
    assert!(low.iter().all(|&byte| byte == 1));
    assert_eq!(high.phase(), 4095);
    drop(low);
    assert!(pool.try_acquire().is_none(), "one part still holds the slab");
    let shared = high.freeze();
    let middle = shared.slice(10..20);
    assert_eq!(&*middle, &[2; 10]);
    let shared = shared.try_into_mut().expect_err("a slice is still out");
    drop(middle);
    shared.try_into_mut().unwrap().fill(3);
    assert!(pool.try_acquire().is_some());
}

#[test]
fn neighbours_join_and_strangers_do_not() {
    let pool = pool(2);
    let mut low = pool.try_acquire().unwrap();
    let high = low.split_off(4096);
    let other = pool.try_acquire().unwrap();
    let (low, other) = low.join(other).unwrap_err();
    let (high, low) = high.join(low).unwrap_err();
    assert_eq!(low.join(high).unwrap().len(), SLAB_BYTES);
    assert_eq!(other.narrow(100..=199).len(), 100);
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn waiting_is_first_come_first_served_and_bounded() {
    let pool = pool(1);
    let mut context = Context::from_waker(Waker::noop());
    let held = pool.try_acquire().unwrap();
    let (mut first, mut second) = (pin!(pool.acquire()), Box::pin(pool.acquire()));
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    let third = pin!(pool.acquire()).poll(&mut context);
    assert!(matches!(third, Poll::Ready(Err(AcquireError::TooManyWaiting { limit: 2 }))));
    drop(held);
    assert!(pool.try_acquire().is_none(), "nobody overtakes a waiter");
    assert!(second.as_mut().poll(&mut context).is_pending());
    let Poll::Ready(Ok(slab)) = first.as_mut().poll(&mut context) else {
        panic!("the first waiter was served")
    };
    drop(slab);
    drop(second); // its grant comes back unused
    assert_eq!(pool.stats().waiting, 0);
    assert!(pool.try_acquire().is_some());
}

#[test]
fn sizes_without_sense_are_refused() {
    assert!(Pool::new(0, 1).is_err());
    assert!(Pool::new(crate::pool::MAX_SLABS + 1, 1).is_err());
}

#[test]
fn many_threads_share_few_slabs() {
    let pool = Pool::new(3, 64).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8u8 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..200 {
                    let mut slab = futures::executor::block_on(pool.acquire()).unwrap();
                    slab[..64].fill(n);
                    assert_eq!(slab[..64], [n; 64]);
                }
            });
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.waiting), (0, 0));
    assert!(stats.high_water <= 3);
}

#[test]
fn registered_buffers_cover_the_region_in_order() {
    let pool = pool(513);
    let buffers = pool.registered_buffers();
    assert_eq!(
        buffers.iter().map(|buffer| buffer.1).collect::<Vec<_>>(),
        [REGISTERED_BUFFER_BYTES, SLAB_BYTES]
    );
    let slabs: Vec<_> = (0..513).map(|_| pool.try_acquire().unwrap()).collect();
    for slab in &slabs {
        let (address, buffer) = slab.target();
        let (start, bytes) = buffers[buffer as usize];
        let offset = address.as_ptr() as usize - start.as_ptr() as usize;
        assert!(offset + SLAB_BYTES <= bytes);
    }
}
