//! What a member knows of the cluster's settings when the store has lost them: those who have a disk remember them there, and whoever
//! knows them tells a controller that finds none ([`control::settings`]).
//!
//! ```text
//!   FOLDER/settings    the message ClusterInfo │ BLAKE3 of it, 32
//! ```

use std::path::{Path, PathBuf};

use bus::{BusError, Message, SharedBus};
use control::messages::{ClusterInfo, Control, SettingsWanted, subjects};
use engine::files;
use tokio::sync::watch;

/// The file in a folder of the member's own.
const FILE: &str = "settings";
const HASH_BYTES: usize = 32;

/// Settings on a disk, as they were agreed on last.
#[derive(Debug, Clone)]
pub struct Memory {
    path: PathBuf,
}

impl Memory {
    /// In a member's folder, which exists.
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join(FILE) }
    }

    /// What it holds. A file that cannot be read is told, and as good as none: others may know, and it is written anew.
    pub fn read(&self) -> Option<ClusterInfo> {
        let refused = |error: &dyn std::fmt::Display| {
            tracing::warn!(
                "{}: what the cluster had agreed on is not remembered: {error}",
                self.path.display()
            );
        };
        match std::fs::read(&self.path) {
            Ok(bytes) => match bytes.split_last_chunk::<HASH_BYTES>() {
                Some((message, hash)) if blake3::hash(message) == *hash => {
                    ClusterInfo::from_bytes(message).map_err(|error| refused(&error)).ok()
                }
                _ => {
                    refused(&"the file is damaged");
                    None
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                refused(&error);
                None
            }
        }
    }

    /// Keeps what the cluster agrees on from now on, as long as somebody can tell. Whoever tells waits for no disk.
    pub async fn follow(&self, mut known: watch::Receiver<Option<ClusterInfo>>) {
        while known.changed().await.is_ok() {
            let info = known.borrow_and_update().clone();
            if let Some(info) = info {
                self.write(&info).await;
            }
        }
    }

    /// Keeps what the cluster has agreed on. A disk that refuses is told, and costs nothing as long as the store or others know.
    async fn write(&self, info: &ClusterInfo) {
        let bytes = match info.to_bytes() {
            Ok(bytes) => [&bytes[..], blake3::hash(&bytes).as_bytes()].concat(),
            Err(error) => return tracing::error!("{error}"),
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || files::replace(&path, &bytes)).await;
        // A task that is gone ends with its process.
        if let Ok(Err(error)) = written {
            let path = self.path.display();
            tracing::warn!("{path}: what the cluster has agreed on cannot be kept: {error}; check the disk");
        }
    }
}

/// Tells controllers that find no settings what this member knows, until the bus is closed.
pub async fn tell(bus: &SharedBus, known: impl Fn() -> Option<ClusterInfo>) -> Result<(), BusError> {
    let mut questions = bus.subscribe(subjects::SETTINGS_WANTED).await?;
    while let Some(Message { payload, .. }) = questions.next().await {
        let wanted = match SettingsWanted::from_bytes(&payload) {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!("a question that cannot be read: {error}");
                continue;
            }
        };
        let Some(Ok(bytes)) = known().map(|info| info.to_bytes()) else { continue };
        if let Err(error) = bus.publish(&subjects::settings_known(wanted.controller), bytes).await {
            tracing::debug!("what is known of the settings could not be told: {error}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_settings::settings;
    use bus::local::LocalBus;
    use control::ids::InstanceId;
    use std::sync::Arc;

    fn info(history_size: u64) -> ClusterInfo {
        settings([2; 32], history_size)
    }

    #[tokio::test]
    async fn settings_are_remembered_and_damage_is_as_good_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path());
        assert_eq!(memory.read(), None);
        for size in [5, 6] {
            memory.write(&info(size)).await;
            assert_eq!(Memory::new(folder.path()).read(), Some(info(size)));
        }
        let whole = std::fs::read(folder.path().join(FILE)).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            for damaged in [&damaged, &whole[..at]] {
                std::fs::write(folder.path().join(FILE), damaged).unwrap();
                assert_eq!(memory.read(), None, "byte {at}");
            }
        }
        memory.write(&info(7)).await;
        assert_eq!(memory.read(), Some(info(7)));
        Memory::new(&folder.path().join("missing")).write(&info(7)).await;
    }

    #[tokio::test]
    async fn who_asks_is_told_by_all_who_know() {
        let bus: SharedBus = Arc::new(LocalBus::new());
        let controller = InstanceId([7; 16]);
        let mut known = bus.subscribe(&subjects::settings_known(controller)).await.unwrap();
        for told in [Some(info(5)), None, Some(info(6))] {
            let bus = bus.clone();
            tokio::spawn(async move { tell(&bus, || told.clone()).await });
        }
        tokio::task::yield_now().await;
        bus.publish(subjects::SETTINGS_WANTED, "garbage".into()).await.unwrap();
        let wanted = SettingsWanted { controller }.to_bytes().unwrap();
        bus.publish(subjects::SETTINGS_WANTED, wanted).await.unwrap();
        let mut sizes = Vec::new();
        while sizes.len() < 2 {
            let message = known.next().await.unwrap();
            sizes.push(ClusterInfo::from_bytes(&message.payload).unwrap().protocol_info.history_size);
        }
        sizes.sort_unstable();
        assert_eq!(sizes, [5, 6]);
    }
}
