//! What a thread has taken of a core, whoever else wants it.

use std::fs;
use std::time::Duration;

/// Of this thread since it began, to some milliseconds; none where the kernel does not count it.
pub fn cpu_time() -> Option<Duration> {
    let counts = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(counts.split_whitespace().next()?.parse().ok()?))
}

/// Since an earlier moment of the same thread.
pub fn cpu_since(before: Option<Duration>) -> Option<Duration> {
    cpu_time()?.checked_sub(before?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_work() {
        let Some(before) = cpu_time() else {
            println!("skipped: the kernel does not count it");
            return;
        };
        let mut hash = blake3::hash(b"");
        // As long as it takes: a clock that stands still would never end this.
        while cpu_time().unwrap() <= before {
            hash = blake3::hash(hash.as_bytes());
        }
    }
}
