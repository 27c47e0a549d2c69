//! `path=…,sectors=N` and `path=…,size=…`: which farms a plot-client has; with `shrink=yes` plotted sectors may go for that.

use std::path::PathBuf;
use std::str::FromStr;

use engine::farm::{FarmSize, MAX_SECTORS};

use crate::sizes;

/// A farm as the operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarmSpec {
    /// Its directory.
    pub path: PathBuf,
    /// Its space.
    pub size: FarmSize,
    /// Whether plotted sectors that do not fit it may go.
    pub may_shrink: bool,
}

/// A text that names no farm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A part without `=`.
    #[error("`{0}` is not KEY=VALUE: a farm is path=DIRECTORY,sectors=NUMBER or path=DIRECTORY,size=SIZE")]
    NoValue(String),
    /// A key that farms do not have.
    #[error("a farm has no `{0}`: it is path=DIRECTORY,sectors=NUMBER or path=DIRECTORY,size=SIZE")]
    UnknownKey(String),
    /// A key twice, or both kinds of size.
    #[error("`{0}` comes twice, or beside another size: a farm has one path and one size")]
    Twice(String),
    /// No directory.
    #[error("a farm needs path=DIRECTORY")]
    NoPath,
    /// No size.
    #[error(
        "farm {path} has neither size= nor sectors=: say how much of the disk it may use",
        path = path.display()
    )]
    NoSize {
        /// The directory.
        path: PathBuf,
    },
    /// A folder that depends on where one stands.
    #[error(
        "path={}: a folder on that host is named from its root, as path=/mnt/disk/farm", path.display()
    )]
    Relative {
        /// The folder.
        path: PathBuf,
    },
    /// Not a word for plotted sectors.
    #[error(
        "shrink={0}: only shrink=yes is known: plotted sectors that do not fit the size may go; leave it away where they may not"
    )]
    Shrink(String),
    /// Not a number of sectors.
    #[error("sectors={0}: a number from 1 to {MAX_SECTORS} is expected")]
    Sectors(String),
    /// Not a size.
    #[error("size={0}: a number with a unit is expected, such as 7900GB, 7.2TiB or 8TB")]
    Size(String),
}

impl FarmSpec {
    /// A farm on another host than the one where it is written: its folder is named from the root.
    pub fn of_another_host(text: &str) -> Result<Self, SpecError> {
        let farm: Self = text.parse()?;
        if farm.path.is_absolute() { Ok(farm) } else { Err(SpecError::Relative { path: farm.path }) }
    }
}

impl FromStr for FarmSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (mut path, mut size, mut shrink) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| SpecError::NoValue(part.into()))?;
            let is_new = match key {
                "path" if value.is_empty() => return Err(SpecError::NoPath),
                "path" => path.replace(PathBuf::from(value)).is_none(),
                "sectors" => size.replace(parse_sectors(value)?).is_none(),
                "size" => size.replace(parse_size(value)?).is_none(),
                "shrink" if value == "yes" => shrink.replace(()).is_none(),
                "shrink" => return Err(SpecError::Shrink(value.into())),
                _ => return Err(SpecError::UnknownKey(key.into())),
            };
            if !is_new {
                return Err(SpecError::Twice(key.into()));
            }
        }
        let path = path.ok_or(SpecError::NoPath)?;
        match size {
            Some(size) => Ok(Self { path, size, may_shrink: shrink.is_some() }),
            None => Err(SpecError::NoSize { path }),
        }
    }
}

fn parse_sectors(value: &str) -> Result<FarmSize, SpecError> {
    match value.parse() {
        Ok(sectors @ 1..=MAX_SECTORS) => Ok(FarmSize::Sectors(sectors)),
        _ => Err(SpecError::Sectors(value.into())),
    }
}

fn parse_size(value: &str) -> Result<FarmSize, SpecError> {
    sizes::parse_size(value).map(FarmSize::Allocated).ok_or_else(|| SpecError::Size(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FarmSpec, SpecError> {
        text.parse()
    }

    #[test]
    fn operators_lines_are_understood() {
        let spec = parse("path=/mnt/nvme0n1/,sectors=8000").unwrap();
        let (path, size) = ("/mnt/nvme0n1/".into(), FarmSize::Sectors(8000));
        assert_eq!(spec, FarmSpec { path, size, may_shrink: false });
        let smaller = parse("path=/mnt/nvme0n1/,sectors=8000,shrink=yes").unwrap();
        assert_eq!(smaller, FarmSpec { may_shrink: true, ..spec });
        for (text, bytes) in [
            ("size=8TB", 8_000_000_000_000),
            ("size=7.25TiB", 7 * (1 << 40) + (1 << 38)),
            ("size=100G", 100_000_000_000),
            ("size=100gib", 100 << 30),
            ("size=4096", 4096),
            ("size=1.5k", 1500),
        ] {
            let spec = parse(&format!("{text},path=a=b")).unwrap();
            let expected =
                FarmSpec { path: "a=b".into(), size: FarmSize::Allocated(bytes), may_shrink: false };
            assert_eq!(spec, expected, "{text}");
        }
    }

    #[test]
    fn a_farm_on_another_host_is_named_from_the_root() {
        let absolute = "path=/mnt/farm,sectors=1";
        assert_eq!(FarmSpec::of_another_host(absolute), absolute.parse());
        for path in ["farm", "./farm", "~/farm"] {
            let refused = FarmSpec::of_another_host(&format!("path={path},sectors=1"));
            assert_eq!(refused, Err(SpecError::Relative { path: path.into() }));
        }
    }

    #[test]
    fn a_farm_without_its_size_or_with_nonsense_is_refused() {
        assert_eq!(parse("path=/a"), Err(SpecError::NoSize { path: "/a".into() }));
        assert_eq!(parse("sectors=1"), Err(SpecError::NoPath));
        assert_eq!(parse("path=,sectors=1"), Err(SpecError::NoPath));
        assert_eq!(parse("/a"), Err(SpecError::NoValue("/a".into())));
        assert_eq!(parse("path=/a,size=1TB,sectors=1"), Err(SpecError::Twice("sectors".into())));
        assert_eq!(parse("path=/a,path=/b,sectors=1"), Err(SpecError::Twice("path".into())));
        assert_eq!(parse("path=/a,colour=red"), Err(SpecError::UnknownKey("colour".into())));
        for shrink in ["no", "", "Yes", "1"] {
            let text = format!("path=/a,sectors=1,shrink={shrink}");
            assert_eq!(parse(&text), Err(SpecError::Shrink(shrink.into())));
        }
        let twice = parse("path=/a,sectors=1,shrink=yes,shrink=yes");
        assert_eq!(twice, Err(SpecError::Twice("shrink".into())));
        for sectors in ["0", "65535", "-1", "many", ""] {
            assert_eq!(parse(&format!("path=/a,sectors={sectors}")), Err(SpecError::Sectors(sectors.into())));
        }
        for size in ["", "0", "TB", "1XB", "1ib", "1.2.3TB", "99999999PB", "-1G"] {
            assert_eq!(parse(&format!("path=/a,size={size}")), Err(SpecError::Size(size.into())));
        }
    }
}
