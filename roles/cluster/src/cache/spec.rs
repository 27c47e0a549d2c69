//! `path=…,size=…`: where a cache lies, and how much room it has.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use engine::piece_store::{ITEMS_FILE, SLOT_BYTES};

use crate::sizes;

/// Share of the file system that a cache without a size may fill, in percent.
const DEFAULT_SHARE_PERCENT: u64 = 90;

/// A cache as the operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Its directory; made if missing.
    pub path: PathBuf,
    /// Its size; without it the cache grows until 90 % of the file system are in use.
    pub size_bytes: Option<u64>,
}

/// A text that names no cache, or a place without room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A part without `=`, or with a key that caches do not have.
    #[error("`{0}`: a cache is path=DIRECTORY or path=DIRECTORY,size=SIZE")]
    Unknown(String),
    /// A key comes twice.
    #[error("`{0}` comes twice: a cache has one path and one size")]
    Twice(String),
    /// No directory.
    #[error("a cache needs path=DIRECTORY")]
    NoPath,
    /// Not a size.
    #[error("size={0}: a number with a unit is expected, such as 500GB, 1.5TiB or 8TB")]
    Size(String),
    /// Not room for one piece.
    #[error("{}: no room for a single item: {available} bytes of {SLOT_BYTES}; give more size, or free the disk", path.display())]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// What the cache may use.
        available: u64,
    },
}

impl FromStr for CacheSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (mut path, mut size_bytes) = (None, None);
        for part in text.split(',') {
            let is_new = match part.split_once('=') {
                Some(("path", "")) => return Err(SpecError::NoPath),
                Some(("path", value)) => path.replace(PathBuf::from(value)).is_none(),
                Some(("size", value)) => size_bytes.replace(parse_size(value)?).is_none(),
                _ => return Err(SpecError::Unknown(part.into())),
            };
            if !is_new {
                return Err(SpecError::Twice(part.into()));
            }
        }
        Ok(Self { path: path.ok_or(SpecError::NoPath)?, size_bytes })
    }
}

fn parse_size(value: &str) -> Result<u64, SpecError> {
    sizes::parse_size(value).ok_or_else(|| SpecError::Size(value.into()))
}

impl CacheSpec {
    /// Slots for items, which are the cache's weight among others: those of `size`, or of its share of the file system of the
    /// directory (which exists). That is the same at every start, whatever else lies there now: a weight that changes moves
    /// pieces to other owners.
    pub fn slots(&self) -> Result<u64, SpecError> {
        let (share, available) = match self.size_bytes {
            Some(size) => (size, size),
            None => share_of_file_system(&self.path),
        };
        if available < SLOT_BYTES as u64 {
            return Err(SpecError::NoRoom { path: self.path.clone(), available });
        }
        Ok(share / SLOT_BYTES as u64)
    }
}

/// What a store may take where nothing else lies, and what it has now together with what it may take of the rest. Both are
/// what it has where the file system does not tell.
fn share_of_file_system(directory: &Path) -> (u64, u64) {
    let own = std::fs::metadata(directory.join(ITEMS_FILE)).map_or(0, |metadata| metadata.len());
    let Ok(system) = rustix::fs::statvfs(directory) else { return (own, own) };
    let used = (system.f_blocks - system.f_bfree).saturating_mul(system.f_frsize);
    let share = system.f_blocks.saturating_mul(system.f_frsize) / 100 * DEFAULT_SHARE_PERCENT;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    (share, own + share.saturating_sub(used).min(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CacheSpec, SpecError> {
        text.parse()
    }

    #[test]
    fn operators_lines_are_understood() {
        let spec = parse("path=/var/autonomys-sharded-cache").unwrap();
        assert_eq!(spec, CacheSpec { path: "/var/autonomys-sharded-cache".into(), size_bytes: None });
        for (text, bytes) in [
            ("size=8TB", 8_000_000_000_000),
            ("size=7.25TiB", 7 * (1 << 40) + (1 << 38)),
            ("size=100G", 100_000_000_000),
            ("size=100gib", 100 << 30),
            ("size=4096", 4096),
            ("size=1.5k", 1500),
        ] {
            let spec = parse(&format!("{text},path=/a=b")).unwrap();
            assert_eq!(spec, CacheSpec { path: "/a=b".into(), size_bytes: Some(bytes) }, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(parse("size=1TB"), Err(SpecError::NoPath));
        assert_eq!(parse("path="), Err(SpecError::NoPath));
        assert_eq!(parse("/a"), Err(SpecError::Unknown("/a".into())));
        assert_eq!(parse("path=/a,sectors=1"), Err(SpecError::Unknown("sectors=1".into())));
        assert_eq!(parse("path=/a,path=/b"), Err(SpecError::Twice("path=/b".into())));
        for size in ["", "GB", "0", "-1GB", "1XB", "1.2.3GB", "inf", "nan", "1e3", "99999999999PB"] {
            assert_eq!(parse(&format!("path=/a,size={size}")), Err(SpecError::Size(size.into())), "{size}");
        }
    }

    #[test]
    fn slots_follow_the_size_or_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let of = |size_bytes| CacheSpec { path: folder.path().into(), size_bytes }.slots();
        assert_eq!(of(Some(3 * SLOT_BYTES as u64 + 5)), Ok(3));
        assert!(matches!(of(Some(1000)), Err(SpecError::NoRoom { available: 1000, .. })));
        std::fs::File::create(folder.path().join(ITEMS_FILE))
            .unwrap()
            .set_len(9 * SLOT_BYTES as u64)
            .unwrap();
        let slots = of(None).unwrap();
        assert!(slots >= 9, "what is there stays");
        std::fs::write(folder.path().join("other"), vec![1; 3 * SLOT_BYTES]).unwrap();
        assert_eq!(of(None), Ok(slots), "whatever else lies there");
    }
}
