//! Spreading work over [`Workers`]: each job owns what it writes, so results do not depend on the threads.

use std::sync::Mutex;

use crate::Workers;

/// Calls `job(index, item)` once for every item.
pub(crate) fn for_each_mut<T: Send>(
    workers: &dyn Workers,
    items: &mut [T],
    job: impl Fn(usize, &mut T) + Sync,
) {
    // A lock for each item, taken once: this is how a shared closure gets exclusive access without unsafe code.
    let items: Vec<_> = items.iter_mut().map(Mutex::new).collect();
    workers.run(items.len(), &|index| {
        let mut item = items[index].lock().expect("workers run each job once");
        job(index, &mut item);
    });
}

/// The values of `job` for every index below `jobs`, in order.
pub(crate) fn map<T: Send>(workers: &dyn Workers, jobs: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut values: Vec<Option<T>> = Vec::new();
    values.resize_with(jobs, || None);
    for_each_mut(workers, &mut values, |index, value| *value = Some(job(index)));
    values.into_iter().map(|value| value.expect("workers run every job")).collect()
}
