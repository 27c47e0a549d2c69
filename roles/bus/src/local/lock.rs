//! The lock around what the bus, its buckets and its queues hold.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every critical section of the local bus leaves the state whole, so a poisoned lock is taken as it is.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
