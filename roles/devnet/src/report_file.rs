//! The report as a file, for whoever watches the node.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::shared::Shared;
use engine::files;

/// Where the report goes. Writes follow each other even when whoever asked for one waits no longer: an older one never replaces
/// a newer one.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    writing: Arc<Mutex<()>>,
}

impl ReportFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, writing: Arc::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the report as it is now. Readers find the old one or the new one, whole.
    pub async fn write(&self, shared: &Shared) -> io::Result<()> {
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let report = serde_json::to_vec_pretty(shared.chain().report()).expect("counts make JSON");
        let path = self.path.clone();
        let write = move || {
            let _until_written = writing;
            files::publish(&path, &report)
        };
        spawn_blocking(write).await.expect("writing does not panic")
    }
}
