//! Whether the disk of an open farm is gone for good, or another one is mounted in its place.
//!
//! Open files stay on the file system that they were opened on, whatever is mounted over it since; and while they are open it cannot be unmounted.
//! So a farm on a disk that is gone must be let go of, to be found again on the one that comes.
//!
//! Owns: for how long a disk has been gone, and one look at a time at a farm's folder, in a thread since it may block. Never: a farm's files, or
//! a healthy disk.

use crate::placement::device_of;
use engine::disk::Health;
use futures::FutureExt;
use std::fs::metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// A disk that is gone for so long will not answer under its old name: a controller that was reset has long brought it back.
const GONE_FOR: Duration = Duration::from_secs(60);

/// Where an open farm lies.
pub struct Mount {
    dir: PathBuf,
    /// Number of the file system that it was opened on, once that is known.
    opened_on: Option<u64>,
    gone_since: Option<Instant>,
    look: Option<JoinHandle<Option<u64>>>,
}

impl Mount {
    /// Of a farm that was just opened.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), opened_on: None, gone_since: None, look: Some(look(dir)) }
    }

    /// Why the farm is to be let go of, if it is; to be asked again and again.
    pub fn trouble(&mut self, health: Health, now: Instant) -> Option<&'static str> {
        let found = self.found();
        self.opened_on = self.opened_on.or(found);
        if !health.refuses() {
            self.gone_since = None;
            return None;
        }
        self.look.get_or_insert_with(|| look(&self.dir));
        self.gone_since = (health == Health::Gone).then(|| self.gone_since.unwrap_or(now));
        if found.is_some() && found != self.opened_on {
            return Some("its disk is not what is mounted there any more");
        }
        self.gone_since.filter(|since| now - *since >= GONE_FOR).map(|_| "its disk is gone")
    }

    /// What the last look has found, if it has just ended.
    fn found(&mut self) -> Option<u64> {
        let found = self.look.as_mut()?.now_or_never()?;
        self.look = None;
        found.ok().flatten()
    }
}

/// Looks on which file system the folder is, or would be; none where that is not said.
fn look(dir: &Path) -> JoinHandle<Option<u64>> {
    let dir = dir.to_owned();
    spawn_blocking(move || match metadata(&dir) {
        Ok(metadata) => Some(metadata.dev()),
        Err(error) if error.kind() == ErrorKind::NotFound => device_of(&dir),
        Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked until the look that is under way has ended.
    async fn ask(mount: &mut Mount, health: Health, now: Instant) -> Option<&'static str> {
        while mount.look.as_ref().is_some_and(|look| !look.is_finished()) {
            tokio::task::yield_now().await;
        }
        mount.trouble(health, now)
    }

    #[tokio::test]
    async fn a_disk_that_is_gone_for_long_or_mounted_elsewhere_is_let_go_of_and_no_other() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let dir = folder.path().join("farm");
        std::fs::create_dir(&dir).unwrap();
        let mut mount = Mount::of(&dir);
        assert_eq!(ask(&mut mount, Health::Healthy, now).await, None);
        for health in [Health::Sick, Health::Gone, Health::Gone] {
            assert_eq!(ask(&mut mount, health, now).await, None);
        }
        // Its folder alone is gone: that says nothing of the disk.
        std::fs::remove_dir(&dir).unwrap();
        assert_eq!(ask(&mut mount, Health::Gone, now + GONE_FOR / 2).await, None);
        // Back for a moment, it has its time again.
        assert_eq!(ask(&mut mount, Health::Healthy, now + GONE_FOR / 2).await, None);
        assert_eq!(ask(&mut mount, Health::Gone, now + GONE_FOR).await, None);
        assert_eq!(ask(&mut mount, Health::Gone, now + 2 * GONE_FOR).await, Some("its disk is gone"));
        // Sick alone is never enough; that another file system is there is.
        assert_eq!(ask(&mut mount, Health::Sick, now + 3 * GONE_FOR).await, None);
        mount.dir = "/proc".into();
        for _ in 0..2 {
            let trouble = ask(&mut mount, Health::Slow, now + 3 * GONE_FOR).await;
            assert_eq!(trouble, None, "it answers");
        }
        ask(&mut mount, Health::Sick, now + 3 * GONE_FOR).await;
        let trouble = ask(&mut mount, Health::Sick, now + 3 * GONE_FOR).await;
        assert!(trouble.is_some_and(|trouble| trouble.contains("mounted")), "{trouble:?}");
    }
}
