//! How large a store may become.

use crate::error::IoError;
use rustix::fs::statvfs;
use std::path::Path;

/// Share of the file system that a store without a given size fills up to, everything else on it included.
const SHARE_PERCENT: u64 = 90;

/// A file system, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    /// Of the whole.
    pub total: u64,
    /// Of what is free. What ordinary users may not take counts as taken.
    pub free: u64,
}

impl Space {
    /// Of the file system that `dir` is on.
    pub fn of(dir: &Path) -> Result<Self, IoError> {
        let space = statvfs(dir).map_err(|error| IoError::open(dir, error))?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        Ok(Self { total: bytes(space.f_blocks), free: bytes(space.f_bavail) })
    }

    /// Bytes a store may take that takes `own` of them now.
    pub fn share(self, own: u64) -> u64 {
        let others = self.total.saturating_sub(self.free).saturating_sub(own);
        (self.total / 100 * SHARE_PERCENT).saturating_sub(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_of_the_file_system_less_what_others_take() {
        let share = |total, free, own| Space { total, free }.share(own);
        assert_eq!(share(1000, 1000, 0), 900);
        assert_eq!(share(1000, 600, 0), 500);
        assert_eq!(share(1000, 600, 300), 800);
        assert_eq!(share(1000, 50, 100), 50);
        assert_eq!(share(1000, 0, 0), 0);
    }
    #[test]
    fn the_file_system_of_a_directory_is_asked() {
        let space = Space::of(Path::new("/")).unwrap();
        assert!(space.total > 0 && space.free <= space.total, "{space:?}");
        assert!(Space::of(Path::new("/nowhere/at/all")).is_err());
    }
}
