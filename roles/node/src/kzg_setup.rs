//! Where the KZG setup of this process comes from.
//!
//! | setup | for | file |
//! |---|---|---|
//! | the Ethereum ceremony's | the network | `--kzg-parameters FILE`, or `$XDG_DATA_HOME/autonomys-farmer/eth-public-parameters.bin` |
//! | `insecure-v1` | development chains | made once, `$XDG_CACHE_HOME/autonomys-farmer/kzg-insecure-v1.bin` |
//!
//! Owns: the files and their check against the setup's SHA-256.
//! Never: falls back from one setup to the other.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use consensus::kzg::{Kzg, KzgError, MAINNET_PARAMETERS_SHA256, PARAMETERS_SIZE, insecure};

use engine::files;

/// Folder of this program below the user's folders of data and caches.
const FOLDER: &str = "autonomys-farmer";
/// The ceremony's file, under the name the network gives it.
const CEREMONY_FILE: &str = "eth-public-parameters.bin";
const INSECURE_FILE: &str = "kzg-insecure-v1.bin";

/// Why there is no setup.
#[derive(Debug, thiserror::Error)]
pub enum KzgSetupError {
    /// The file cannot be read.
    #[error("cannot read KZG parameters {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path}: {source}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KzgError,
    },
    /// The file holds parameters of another setup.
    #[error(
        "{path} holds KZG parameters with SHA-256 {found}, those of the network have {expected}; fetch {CEREMONY_FILE} anew",
        path = path.display(), found = hex::encode(found), expected = hex::encode(MAINNET_PARAMETERS_SHA256)
    )]
    OtherSetup {
        /// The file.
        path: PathBuf,
        /// SHA-256 of what it holds.
        found: [u8; 32],
    },
    /// No file was named and none is in the usual place.
    #[error("no KZG parameters: name the file {CEREMONY_FILE} by --kzg-parameters, or put it at {path}", path = path.display())]
    NotFound {
        /// The usual place.
        path: PathBuf,
    },
    /// Neither `XDG_…_HOME` nor `HOME` says where the user's files are.
    #[error("neither {0} nor HOME is set: set one of them, or name the file by --kzg-parameters")]
    NoHome(&'static str),
}

/// The ceremony's setup, from the file given or from the usual place. Decoding takes about half a second.
pub fn ceremony(file: Option<&Path>) -> Result<Kzg, KzgSetupError> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => usual_ceremony_file()?,
    };
    let kzg = read(&path)?;
    if *kzg.id() == MAINNET_PARAMETERS_SHA256 {
        Ok(kzg)
    } else {
        Err(KzgSetupError::OtherSetup { path, found: *kzg.id() })
    }
}

/// The setup of development chains. The first call on a machine makes it, which takes about a second, and keeps it in the
/// user's cache; a damaged cache file is replaced.
pub fn insecure() -> Result<Kzg, KzgSetupError> {
    insecure_in(&user_folder("XDG_CACHE_HOME", ".cache")?)
}

fn insecure_in(folder: &Path) -> Result<Kzg, KzgSetupError> {
    let path = folder.join(INSECURE_FILE);
    if let Ok(kzg) = read(&path)
        && *kzg.id() == insecure::PARAMETERS_SHA256
    {
        return Ok(kzg);
    }
    tracing::info!(path = %path.display(), "making the insecure KZG setup of development chains");
    let parameters = insecure::parameters();
    let written = fs::create_dir_all(folder).and_then(|()| files::replace(&path, &parameters));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "the setup cannot be cached and will be made at every start");
    }
    Kzg::from_parameters(&parameters).map_err(|source| KzgSetupError::Damaged { path, source })
}

fn usual_ceremony_file() -> Result<PathBuf, KzgSetupError> {
    let path = user_folder("XDG_DATA_HOME", ".local/share")?.join(CEREMONY_FILE);
    if path.exists() { Ok(path) } else { Err(KzgSetupError::NotFound { path }) }
}

/// This program's folder below `$variable`, or below `fallback` in the home folder.
fn user_folder(variable: &'static str, fallback: &str) -> Result<PathBuf, KzgSetupError> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set(variable).or_else(|| Some(set("HOME")?.join(fallback)));
    Ok(base.ok_or(KzgSetupError::NoHome(variable))?.join(FOLDER))
}

fn read(path: &Path) -> Result<Kzg, KzgSetupError> {
    let read_error = |source| KzgSetupError::Read { path: path.into(), source };
    let size = fs::metadata(path).map_err(read_error)?.len();
    let found = usize::try_from(size).unwrap_or(usize::MAX);
    if found != PARAMETERS_SIZE {
        return Err(KzgSetupError::Damaged {
            path: path.into(),
            source: KzgError::ParametersLength { found },
        });
    }
    let bytes = fs::read(path).map_err(read_error)?;
    Kzg::from_parameters(&bytes).map_err(|source| KzgSetupError::Damaged { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_setup_is_made_once_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper").join(INSECURE_FILE);
        let made = insecure_in(path.parent().unwrap()).unwrap();
        assert_eq!(*made.id(), insecure::PARAMETERS_SHA256);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[1..]).unwrap();
        assert_eq!(insecure_in(path.parent().unwrap()).unwrap().id(), made.id());
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let error = ceremony(Some(&path)).unwrap_err();
        assert!(matches!(error, KzgSetupError::OtherSetup { .. }), "{error}");
    }

    #[test]
    fn missing_and_damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("powers.bin");
        assert!(matches!(ceremony(Some(&path)), Err(KzgSetupError::Read { .. })));
        fs::write(&path, [0; 100]).unwrap();
        assert!(matches!(ceremony(Some(&path)), Err(KzgSetupError::Damaged { .. })));
        fs::write(&path, vec![0; PARAMETERS_SIZE]).unwrap();
        let error = ceremony(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("powers.bin"), "{error}");
    }
}
