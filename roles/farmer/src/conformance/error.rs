//! Why vectors cannot be run.

use node::kzg_setup::KzgSetupError;
use std::path::PathBuf;

/// Why vectors could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// A file of vectors is too large to be one.
    #[error("{0} is larger than any file of vectors; is it one?")]
    TooLarge(PathBuf),
    /// A file is not JSON.
    #[error("{0} is not JSON: {1}")]
    Json(PathBuf, serde_json::Error),
    /// The directory holds no vectors.
    #[error("{0} holds none of the vector files asked for")]
    NoVectors(PathBuf),
    /// There is no usable setup.
    #[error(transparent)]
    Kzg(#[from] KzgSetupError),
    /// There is nothing to compute with.
    #[error("{0}")]
    Backend(String),
    /// Some case failed.
    #[error("{0} cases failed")]
    Failed(usize),
}
