//! The report as a file, for whoever watches the node.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::shared::Shared;
use engine::files;

/// Where the report goes. Writes follow each other even when whoever asked for one waits no longer: an older one never replaces
/// a newer one.
///
/// A report that cannot be written is told once and stops nothing.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    /// Whether the last one was written.
    writing: Arc<Mutex<bool>>,
}

impl ReportFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, writing: Arc::new(Mutex::new(true)) }
    }

    /// Writes the report as it is now. Readers find the old one or the new one, whole.
    pub async fn write(&self, shared: &Shared) {
        let mut was_written = Arc::clone(&self.writing).lock_owned().await;
        let report = serde_json::to_vec_pretty(shared.chain().report()).expect("counts make JSON");
        let path = self.path.clone();
        let write = move || {
            let written = files::publish(&path, &report);
            match &written {
                Ok(()) if !*was_written => tracing::info!("the report {} is written again", path.display()),
                Err(error) if *was_written => {
                    tracing::warn!("cannot write the report {}: {error}; the node goes on", path.display());
                }
                _ => {}
            }
            *was_written = written.is_ok();
        };
        spawn_blocking(write).await.expect("writing does not panic");
    }
}
