//! Which device a disk is, for those who must go and look at it; and the words in which its health is told.

use super::health::{Change, Health, Why};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the system says of the place that a disk was made for.
#[derive(Debug, Default)]
pub(super) struct Place {
    path: PathBuf,
    /// `nvme0n1p2`, or its numbers; empty where that is not known.
    pub device: String,
    mount: PathBuf,
    /// The device's directory of the system, if it has one.
    sys: Option<PathBuf>,
}

impl Place {
    /// A place of which the system has not been asked yet.
    pub fn unseen(path: &Path) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// Looks at the file system that `path` lies or will lie on. May block, as opening a file there may.
    pub fn of(path: &Path) -> Self {
        let there = path.ancestors().find_map(|path| fs::canonicalize(path).ok()).unwrap_or_default();
        let number = fs::metadata(&there).map(|metadata| metadata.dev()).unwrap_or_default();
        let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        let sys = Some(PathBuf::from(format!("/sys/dev/block/{number}"))).filter(|sys| sys.exists());
        let linked = sys.as_deref().and_then(|sys| fs::canonicalize(sys).ok());
        let name = linked.and_then(|linked| Some(linked.file_name()?.to_string_lossy().into_owned()));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = mount_point(&mounts, &there).unwrap_or_default();
        Self { path: path.to_owned(), device: name.unwrap_or(number), mount, sys }
    }

    /// How to ask whether the system still has the device; the question may block.
    pub fn is_gone(&self) -> impl FnOnce() -> bool + Send + 'static {
        let sys = self.sys.clone();
        move || sys.is_some_and(|sys| is_gone(&sys))
    }

    /// One line a change: the disk, what was seen, what it means, what to do.
    pub fn tell(&self, change: &Change) {
        let disk = self.to_string();
        let why = words(&change.why);
        let advice = "look at dmesg, its cables and its SMART values, and replace it if this goes on";
        let pause = "what lies on it pauses, nothing is marked or given up, and it comes back by itself";
        match change.to {
            Health::Healthy => tracing::info!("{disk} is healthy again: {why}"),
            Health::Slow => tracing::warn!("{disk} is slow: {why}; what lies on it goes on. Please {advice}"),
            Health::Sick => tracing::error!("{disk} is sick: {why}; {pause}. Please {advice}"),
            Health::Gone => {
                tracing::error!("{disk} is gone: {why}; {pause} when the device does. Please {advice}");
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.device.is_empty() {
            return match self.path.as_os_str().is_empty() {
                true => f.write_str("a disk"),
                false => write!(f, "the disk of {}", self.path.display()),
            };
        }
        let (device, mount) = (&self.device, self.mount.display());
        write!(f, "disk {device} on {mount}, {}", self.path.display())
    }
}

fn words(why: &Why) -> String {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let error = |errno| std::io::Error::from_raw_os_error(errno);
    match *why {
        Why::Silent { silent_ms, in_flight } => {
            format!("nothing came back for {:.1} s while {in_flight} transfers waited", seconds(silent_ms))
        }
        Why::Fails { failed, of, errno } => {
            format!("{failed} of its last {of} operations failed, the last with: {}", error(errno))
        }
        Why::NowAndThen { failed, late, of } => {
            format!("of its last {of} operations {failed} failed and {late} came too late")
        }
        Why::Lost { errno: Some(errno) } => error(errno).to_string(),
        Why::Lost { errno: None } => "the system does not list it any more, or with no size".to_owned(),
        Why::Answers { after_ms } => format!("it answers as it should, after {:.0} s", seconds(after_ms)),
    }
}

/// A device that is not listed, or has no bytes.
fn is_gone(sys: &Path) -> bool {
    match fs::read_to_string(sys.join("size")) {
        Ok(sectors) => sectors.trim() == "0",
        Err(error) => error.kind() == std::io::ErrorKind::NotFound && !sys.exists(),
    }
}

/// The mount point that `path` lies under, of the lines of `/proc/self/mountinfo`: the longest, and of those the last.
fn mount_point(mounts: &str, path: &Path) -> Option<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    points.filter(|point| path.starts_with(point)).max_by_key(|point| point.as_os_str().len())
}

/// Blanks, tabs, line ends and backslashes stand there as `\040` and the like.
fn unescaped(field: &str) -> PathBuf {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(field.to_owned(), |field, (code, plain)| field.replace(code, plain)).into()
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
