//! How large a store may become.

use super::SLOT_BYTES;
use crate::error::IoError;
use rustix::fs::statvfs;
use std::path::Path;

/// Share of the file system that a store without a given size fills up to, everything else on it included.
const SHARE_PERCENT: u64 = 90;

/// Slots for a store in `dir` whose file takes `own_bytes` now.
pub(super) fn capacity(dir: &Path, size_bytes: Option<u64>, own_bytes: u64) -> Result<u64, IoError> {
    let bytes = match size_bytes {
        Some(bytes) => bytes,
        None => {
            let space = statvfs(dir).map_err(|error| IoError::open(dir, error))?;
            let total = space.f_blocks.saturating_mul(space.f_frsize);
            // What ordinary users may not take counts as taken.
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            share(total, free, own_bytes)
        }
    };
    Ok(bytes / SLOT_BYTES as u64)
}

fn share(total: u64, free: u64, own_bytes: u64) -> u64 {
    let others = total.saturating_sub(free).saturating_sub(own_bytes);
    (total / 100 * SHARE_PERCENT).saturating_sub(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_of_the_file_system_less_what_others_take() {
        assert_eq!(share(1000, 1000, 0), 900);
        assert_eq!(share(1000, 600, 0), 500);
        assert_eq!(share(1000, 600, 300), 800);
        assert_eq!(share(1000, 50, 100), 50);
        assert_eq!(share(1000, 0, 0), 0);
    }
}
