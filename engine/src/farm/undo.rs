//! What opening a farm takes, given back unless the farm was opened: a disk that is full, or an operator who does not want to wait, finds the
//! farm that was there before, or nothing.

use crate::error::IoError;
use crate::file::{DirectFile, sync_directory};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Steps back, the last one first, taken when this is dropped, also together with the future that holds it.
#[derive(Default)]
pub(super) struct Undo(Vec<Step>);

enum Step {
    RemoveDirectory(PathBuf),
    RemoveFile(PathBuf),
    CutBack(Arc<DirectFile>, u64),
}

impl Undo {
    /// A directory has been made. It stays where something has come into it.
    pub fn made_directory(&mut self, path: &Path) {
        self.0.push(Step::RemoveDirectory(path.to_owned()));
    }

    /// A file has been made.
    pub fn made(&mut self, path: &Path) {
        self.0.push(Step::RemoveFile(path.to_owned()));
    }

    /// A file is about to grow.
    pub fn will_grow(&mut self, file: &Arc<DirectFile>) -> Result<(), IoError> {
        self.0.push(Step::CutBack(file.clone(), file.size_bytes()?));
        Ok(())
    }

    /// All is well: nothing is taken back.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

impl Step {
    fn take(self) -> Result<(), IoError> {
        match self {
            Self::RemoveDirectory(path) => {
                // Refused where others put something into it meanwhile.
                let _ = fs::remove_dir(path);
                Ok(())
            }
            Self::RemoveFile(path) => {
                match fs::remove_file(&path) {
                    // It was not made in the end.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(error) => Err(IoError::open(&path, error)),
                    Ok(()) => sync_directory(&path),
                }
            }
            Self::CutBack(file, size_bytes) if file.size_bytes()? > size_bytes => file.cut_back(size_bytes),
            Self::CutBack(..) => Ok(()),
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for step in self.0.drain(..).rev() {
            if let Err(error) = step.take() {
                tracing::warn!("what was begun could not be taken back: {error}");
            }
        }
    }
}
