//! `--mem-cache SIZE`: how many items that are, and whether the machine has as much memory.

use std::str::FromStr;

use engine::pool::{MAX_SLABS, SLAB_BYTES};

use crate::sizes;

/// Share of the memory that is free which buffers may take, in percent: they are locked, and others live here too.
const SHARE_PERCENT: u64 = 90;

/// Memory for items, as the operator names it: bytes, 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemSize(pub u64);

/// A size that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemSizeError {
    /// Not a size.
    #[error("memory is a size with a unit, as 8GiB; 0 for none")]
    Size,
    /// Not one item.
    #[error("an item takes {} MiB of memory: give at least as much, or 0 for none", mib(SLAB_BYTES as u64))]
    TooSmall,
    /// More than there is.
    #[error(
        "--mem-cache: {} MiB, and {} MiB to serve with, are more than this process may take of the {} MiB of memory that are free here: \
         name at most {}MiB, or end what takes the rest",
        mib(*wanted), mib(*serving), mib(*available), mib(*most)
    )]
    TooLarge {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes of the other buffers.
        serving: u64,
        /// Bytes that are free, or that the process's cgroup may take.
        available: u64,
        /// Bytes that would do.
        most: u64,
    },
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

impl FromStr for MemSize {
    type Err = MemSizeError;

    fn from_str(text: &str) -> Result<Self, MemSizeError> {
        match sizes::parse_size(text) {
            None if text == "0" => Ok(Self(0)),
            None => Err(MemSizeError::Size),
            Some(bytes) if bytes < SLAB_BYTES as u64 => Err(MemSizeError::TooSmall),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

impl MemSize {
    /// Slabs, one an item, beside the `serving` ones. `available`: bytes of memory, as far as that is known.
    pub fn slabs(self, serving: usize, available: Option<u64>) -> Result<usize, MemSizeError> {
        let slab = SLAB_BYTES as u64;
        let serving_bytes = serving as u64 * slab;
        let available = available.unwrap_or(u64::MAX);
        let may_take = (available / 100 * SHARE_PERCENT).min(MAX_SLABS as u64 * slab);
        let most = may_take.saturating_sub(serving_bytes) / slab;
        match usize::try_from(self.0 / slab) {
            Ok(slabs) if slabs as u64 <= most => Ok(slabs),
            _ => Err(MemSizeError::TooLarge {
                wanted: self.0,
                serving: serving_bytes,
                available: available.min(MAX_SLABS as u64 * slab),
                most: most * slab,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_everywhere_and_nothing() {
        let parse = |text: &str| text.parse::<MemSize>();
        assert_eq!(parse("8GiB"), Ok(MemSize(8 << 30)));
        assert_eq!(parse("0"), Ok(MemSize(0)));
        assert_eq!(parse("2MiB").unwrap().slabs(1, None), Ok(1));
        assert_eq!(parse("5MiB").unwrap().slabs(1, None), Ok(2), "whole ones");
        assert_eq!(parse("1MiB"), Err(MemSizeError::TooSmall));
        for nonsense in ["", "-1", "8XB", "all", "99999999999PB"] {
            assert_eq!(parse(nonsense), Err(MemSizeError::Size), "{nonsense}");
        }
    }

    #[test]
    fn more_than_the_machine_has_is_refused_with_what_there_is() {
        let (slab, of) = (SLAB_BYTES as u64, |slabs: u64| MemSize(slabs * SLAB_BYTES as u64));
        assert_eq!(of(80).slabs(10, Some(100 * slab)), Ok(80));
        let error = of(81).slabs(10, Some(100 * slab)).unwrap_err();
        let text = error.to_string();
        for words in ["162 MiB", "20 MiB to serve", "200 MiB of memory", "at most 160MiB"] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(of(0).slabs(10, Some(slab)), Ok(0), "none is always possible");
        // No pool is larger, whatever the machine has.
        assert_eq!(of(MAX_SLABS as u64 - 64).slabs(64, None), Ok(MAX_SLABS - 64));
        assert!(of(MAX_SLABS as u64).slabs(64, None).is_err());
        assert!(MemSize(u64::MAX).slabs(64, Some(u64::MAX)).is_err());
    }
}
