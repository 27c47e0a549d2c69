//! What the suites share.

use super::backend::KernelDevice;
use super::json::{Check, read_vectors};
use consensus::CpuLevel;
use consensus::archiver::NewArchivedSegment;
use consensus::kzg::Kzg;
use engine::threads::ThreadWorkers;
use serde_json::Value;
use std::cell::OnceCell;
use std::path::PathBuf;

/// What the suites share.
pub(super) struct Context {
    pub(super) directory: PathBuf,
    pub(super) kzg: Option<Kzg>,
    pub(super) level: CpuLevel,
    /// What runs kernels, if that is the backend.
    pub(super) device: Option<KernelDevice>,
    pub(super) workers: ThreadWorkers,
    /// History of archiving.json: three segments, 800 MB, archived once, by [`super::archiving::history`].
    pub(super) history: OnceCell<Check<Vec<NewArchivedSegment>>>,
}

impl Context {
    pub(super) fn kzg(&self) -> Check<&Kzg> {
        self.kzg.as_ref().ok_or_else(|| "no KZG parameters".into())
    }

    pub(super) fn vectors(&self, name: &str) -> Check<Value> {
        read_vectors(&self.directory.join(name)).map_err(|error| error.to_string())
    }
}
