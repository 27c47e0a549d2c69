//! Who the cache is, and that nobody else is it.
//!
//! ```text
//!   DIR/id ─▶ locked: one process a directory ─▶ asked on the bus: one directory an id ─▶ this process is the cache
//! ```
//! Both are looked at before anything is told to anybody: a second process under the id would answer for the first one what it does not
//! have, and take its entry away when it ends.
//!
//! Owns: the file. Never: what the cache holds. Who does not answer (a process that stands still, a network that is cut) is not found.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::CacheError;
use crate::host::host_name;
use bus::members::{Liveness, entry_of};
use bus::{Fresh, SharedBus};
use control::ids::InstanceId;
use control::messages::{Control, HoldingsRequest, subjects};
use engine::{files, lock_exclusive};

/// The file that says who the cache is.
const ID_FILE: &str = "id";
/// How long another one may take to say that it is there. Where nobody is, that is known at once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// A directory that no other process uses as long as this lives.
pub struct Claim {
    /// Who the cache in it is.
    pub id: InstanceId,
    directory: PathBuf,
    /// Locked.
    _file: File,
}

impl Claim {
    /// Takes the directory, made if missing. One without an id gets a new one.
    pub fn take(directory: &Path) -> Result<Self, CacheError> {
        let refused = |path: &Path, source| CacheError::Directory { path: path.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(|source| refused(directory, source))?;
        let path = directory.join(ID_FILE);
        let opened = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::info!(
                    "{}: no cache has been here yet, this is a new one; if there should be one, check that its disk is mounted",
                    directory.display()
                );
                files::replace(&path, InstanceId::generate().to_string().as_bytes())
                    .and_then(|()| File::open(&path))
            }
            opened => opened,
        };
        let mut file = opened.map_err(|source| refused(&path, source))?;
        match lock_exclusive(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CacheError::InUse { path: directory.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(refused(&path, source)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|source| refused(&path, source))?;
        let id = text.trim().parse().map_err(|source| CacheError::Id { path, source })?;
        Ok(Self { id, directory: directory.to_owned(), _file: file })
    }

    /// Refuses where the bus has a cache of this id. It cannot be an earlier process of this directory, which is locked.
    pub async fn alone_on(&self, bus: &SharedBus, liveness: Liveness) -> Result<(), CacheError> {
        // What it says does not matter: it may be of another chain, or still read its store.
        let request =
            HoldingsRequest { genesis_hash: [0; 32], from_segment: 0, segments: 1, lets_go_by: None };
        let Ok(question) = request.to_bytes() else { return Ok(()) };
        if bus.request(&subjects::holdings(self.id), question, ANSWERED_WITHIN).await.is_err() {
            return Ok(());
        }
        let other = entry_of(bus, self.id, liveness).await.ok().flatten();
        let (other_host, addresses) =
            other.map_or(("that is not known".to_owned(), Vec::new()), |entry| (entry.host, entry.addresses));
        Err(CacheError::Copied {
            path: self.directory.clone(),
            host: host_name(),
            id: self.id,
            other_host,
            other_addresses: addresses.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::local::LocalBus;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_directory_is_one_cache_and_an_id_is_one_directory() {
        let (folder, bus) = (tempfile::tempdir().unwrap(), Arc::new(LocalBus::new()) as SharedBus);
        let (directory, copy) = (folder.path().join("new"), folder.path().join("copy"));
        let first = Claim::take(&directory).unwrap();
        first.alone_on(&bus, Liveness::default()).await.unwrap();
        let error = Claim::take(&directory).err().unwrap();
        assert!(matches!(error, CacheError::InUse { .. }), "{error}");

        // Whoever answers under the id is another one.
        std::fs::create_dir(&copy).unwrap();
        std::fs::copy(directory.join(ID_FILE), copy.join(ID_FILE)).unwrap();
        let mut questions = bus.subscribe(&subjects::holdings(first.id)).await.unwrap();
        let answering = bus.clone();
        tokio::spawn(async move {
            let reply_to = questions.next().await.unwrap().reply_to.unwrap();
            answering.publish(&reply_to, "whatever".into()).await.unwrap();
        });
        let second = Claim::take(&copy).unwrap();
        assert_eq!(second.id, first.id);
        let error = second.alone_on(&bus, Liveness::default()).await.unwrap_err().to_string();
        for named in [copy.to_str().unwrap(), &host_name(), &first.id.to_string(), "id"] {
            assert!(error.contains(named), "{error}");
        }

        // It stays who it is.
        let id = first.id;
        drop(first);
        assert_eq!(Claim::take(&directory).unwrap().id, id);
    }
}
