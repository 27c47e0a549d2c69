//! Which files count: those named, and those that git tracks in folders named.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use super::error::HistoryError;

/// Folder of build outputs, left out where git does not say what counts.
const BUILD_FOLDER: &[u8] = b"target";

/// A file to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path as imported.
    pub name: Vec<u8>,
}

/// The files of `paths`, sorted by name. A folder stands for the files in it that git tracks; where git knows nothing of it,
/// for all but those with a hidden name or below `target`. Without paths: the checkout around the working directory, or no
/// file at all where there is none.
pub fn find(paths: &[PathBuf]) -> Result<Vec<HistoryFile>, HistoryError> {
    if paths.is_empty() {
        return checkout().map_or(Ok(Vec::new()), |folder| find(&[folder]));
    }
    let mut files = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
        if metadata.is_dir() {
            files.extend(folder_files(path)?);
        } else {
            let name = path.file_name().unwrap_or(path.as_os_str());
            files.push(HistoryFile { path: path.clone(), name: name.as_bytes().to_vec() });
        }
    }
    if let Some(file) = files.iter().find(|file| u16::try_from(file.name.len()).is_err()) {
        return Err(HistoryError::PathTooLong { path: file.path.clone() });
    }
    if files.is_empty() {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(HistoryError::Empty { paths: paths.join(", ") });
    }
    // Stable: equal names of several folders stay in the order in which the folders were given.
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn read_error(path: &Path, source: io::Error) -> HistoryError {
    HistoryError::Read { path: path.into(), source }
}

/// The root of the git checkout around the working directory.
fn checkout() -> Option<PathBuf> {
    let folder = git(&env::current_dir().ok()?, &["rev-parse", "--show-toplevel"])?;
    let folder = folder.strip_suffix(b"\n").unwrap_or(&folder);
    Some(PathBuf::from(OsStr::from_bytes(folder)))
}

/// What git prints, none when it fails or is not there.
fn git(folder: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    output.status.success().then_some(output.stdout)
}

fn folder_files(folder: &Path) -> Result<Vec<HistoryFile>, HistoryError> {
    let mut names = Vec::new();
    match git(folder, &["ls-files", "-z"]) {
        Some(tracked) => {
            // More than one line of a file in conflict.
            let tracked: BTreeSet<_> =
                tracked.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
            names.extend(tracked.into_iter().map(<[u8]>::to_vec));
        }
        None => walk(folder, &mut Vec::new(), &mut names)?,
    }
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(OsStr::from_bytes(&name));
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => files.push(HistoryFile { path, name }),
            // Links, submodules, and what git tracks but somebody has deleted.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(read_error(&path, source)),
        }
    }
    Ok(files)
}

/// Collects names below `folder`, each behind `prefix`.
fn walk(folder: &Path, prefix: &mut Vec<u8>, names: &mut Vec<Vec<u8>>) -> Result<(), HistoryError> {
    for entry in fs::read_dir(folder).map_err(|source| read_error(folder, source))? {
        let entry = entry.map_err(|source| read_error(folder, source))?;
        let name = entry.file_name();
        let name = name.as_bytes();
        if name.starts_with(b".") || name == BUILD_FOLDER {
            continue;
        }
        let length = prefix.len();
        prefix.extend_from_slice(name);
        // Links are not followed, so there are no loops.
        if entry.file_type().map_err(|source| read_error(&entry.path(), source))?.is_dir() {
            prefix.push(b'/');
            walk(&entry.path(), prefix, names)?;
        } else {
            names.push(prefix.clone());
        }
        prefix.truncate(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[HistoryFile]) -> Vec<&str> {
        files.iter().map(|file| std::str::from_utf8(&file.name).unwrap()).collect()
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/c.txt", "b/.hidden", ".git-not/x", "target/y", "a.txt"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        std::os::unix::fs::symlink("a.txt", folder.path().join("link")).unwrap();
        folder
    }

    #[test]
    fn folder_without_git() {
        let folder = tree();
        assert_eq!(names(&find(&[folder.path().into()]).unwrap()), ["a.txt", "b/c.txt"]);
    }

    #[test]
    fn folder_with_git() {
        let folder = tree();
        let run = |arguments: &[&str]| assert!(git(folder.path(), arguments).is_some(), "{arguments:?}");
        run(&["init", "-q"]);
        run(&["add", "b/.hidden", "target/y", "link", "a.txt"]);
        assert_eq!(names(&find(&[folder.path().into()]).unwrap()), ["a.txt", "b/.hidden", "target/y"]);
        fs::remove_file(folder.path().join("a.txt")).unwrap();
        assert_eq!(names(&find(&[folder.path().into()]).unwrap()), ["b/.hidden", "target/y"]);
        assert_eq!(names(&find(&[folder.path().join("b")]).unwrap()), [".hidden"]);
    }

    #[test]
    fn named_files_are_sorted_and_errors_name_the_path() {
        let folder = tree();
        let paths = [folder.path().join("b/c.txt"), folder.path().join("b/.hidden")];
        assert_eq!(names(&find(&paths).unwrap()), [".hidden", "c.txt"]);
        let missing = folder.path().join("missing");
        assert!(find(&[missing]).unwrap_err().to_string().contains("missing"));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(find(&[empty.path().into()]), Err(HistoryError::Empty { .. })));
    }
}
