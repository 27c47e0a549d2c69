//! The farms file: farms beside those of the command line, one on a line as they are written there, each ended; `#` begins a comment.

use super::spec::{FarmSpec, SpecError};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file is no longer than this: thousands of farms.
const MAX_BYTES: u64 = 1 << 20;

/// Why a farms file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum FarmsFileError {
    /// It could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is too long to be one.
    #[error("{}: longer than {MAX_BYTES} bytes: it has one farm on a line", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("{}: not a text: it has one farm on a line", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("{}: it is empty: is it still being written? A file that names no farm has a line with a comment: # none", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its last line does not end.
    #[error("{}: its last line has no end: is it still being written? End it, and try again", path.display())]
    NoEnd {
        /// The file.
        path: PathBuf,
    },
    /// A line that names no farm.
    #[error("{} line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: SpecError,
    },
    /// A farm that was named before.
    #[error("{} line {line}: {} is named before, there or on the command line", path.display(), farm.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The farm's folder.
        farm: PathBuf,
    },
}

/// Reads the farms in a file, none of which may be among `named`. Blocks.
pub fn read(path: &Path, named: &[FarmSpec]) -> Result<Vec<FarmSpec>, FarmsFileError> {
    let (path, mut bytes) = (path.to_owned(), Vec::new());
    // A pipe would be waited for.
    let is_file = std::fs::metadata(&path).map(|metadata| metadata.is_file());
    let read = match is_file {
        Ok(false) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
        Ok(true) => File::open(&path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
        Err(error) => Err(error),
    };
    match read {
        Err(source) => Err(FarmsFileError::Unreadable { path, source }),
        Ok(_) if bytes.len() as u64 > MAX_BYTES => Err(FarmsFileError::TooLong { path }),
        Ok(_) => match String::from_utf8(bytes) {
            Ok(text) if text.is_empty() => Err(FarmsFileError::Empty { path }),
            Ok(text) if !text.ends_with('\n') => Err(FarmsFileError::NoEnd { path }),
            Ok(text) => parse(&path, &text, named),
            Err(_) => Err(FarmsFileError::NoText { path }),
        },
    }
}

fn parse(path: &Path, text: &str, named: &[FarmSpec]) -> Result<Vec<FarmSpec>, FarmsFileError> {
    let mut paths: BTreeSet<_> = named.iter().map(|farm| farm.path.clone()).collect();
    let mut farms = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = without_comment(text).trim();
        if text.is_empty() {
            continue;
        }
        let path = path.to_owned();
        let farm: FarmSpec =
            text.parse().map_err(|source| FarmsFileError::Line { path: path.clone(), line, source })?;
        if !paths.insert(farm.path.clone()) {
            return Err(FarmsFileError::Twice { path, line, farm: farm.path });
        }
        farms.push(farm);
    }
    Ok(farms)
}

/// What stands before a `#` that begins the line or follows a space: folders may have others in their names.
fn without_comment(line: &str) -> &str {
    let is_comment = |at: usize| line[..at].chars().next_back().is_none_or(char::is_whitespace);
    let comment = line.match_indices('#').map(|(at, _)| at).find(|at| is_comment(*at));
    &line[..comment.unwrap_or(line.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &[u8], named: &[FarmSpec]) -> Result<Vec<FarmSpec>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("farms");
        std::fs::write(&path, text).unwrap();
        read(&path, named).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_is_a_farm_or_a_comment_and_a_wrong_one_is_told_with_its_number() {
        let text = b"# storage-7\n\n  path=/a,sectors=8   # the new one\r\npath=/b#2,size=1TB\n";
        let farms = read_text(text, &[]).unwrap();
        assert_eq!(farms, ["path=/a,sectors=8", "path=/b#2,size=1TB"].map(|farm| farm.parse().unwrap()));
        assert_eq!(read_text(b"# none\n", &[]), Ok(Vec::new()));
        let named = ["path=/c/,sectors=1".parse().unwrap()];
        for (text, words) in [
            (&b"path=/a,sectors=8\n\npath=/b\n"[..], ["line 3", "neither size="]),
            (b"path=/a,sectors=8\npath=/a/,sectors=9\n", ["line 2", "named before"]),
            (b"path=/c,sectors=8\n", ["line 1", "named before"]),
            (b"path=/a,sectors=8\npath=/b,sectors=80", ["still being written", "last line"]),
            (b"# farms", ["still being written", "last line"]),
            (b"", ["still being written", "empty"]),
            (b"\xff\xfe", ["farms", "not a text"]),
            (&vec![b'#'; MAX_BYTES as usize + 1], ["farms", "longer than"]),
        ] {
            let error = read_text(text, &named).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        let folder = read(Path::new("/"), &[]).unwrap_err().to_string();
        assert!(folder.contains("it is not a file"), "{folder}");
        let missing = read(Path::new("/nowhere/farms"), &[]).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/farms") && missing.contains("cannot be read"), "{missing}");
    }
}
