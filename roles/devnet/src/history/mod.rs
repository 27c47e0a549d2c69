//! What a development chain remembers: the bytes of files.
//!
//! ```text
//! files, sorted by path ─▶ for each:  │ path length u16 LE │ path │ content length u64 LE │ content │   = the imported bytes
//!
//! imported bytes:  │ block 0: the first 130 023 424 B, ChaCha8 behind their end │ blocks of 1 MiB at most …
//! ```
//!
//! A path is the file's own name, or relative to the folder it was found in, with `/` between its parts. Block 0 alone is
//! longer than what fits a segment beside it, so that segment 0 is full at once.
//!
//! Owns: which files count, the layout of the imported bytes, the manifest over them and the bytes of block 0.
//! Never: where they are kept ([`super::store`]) or cut into segments.

mod error;
mod files;

use std::fs;
use std::io::{self, Read, Write};

use consensus::archiver::extend_first_block;
use consensus::constants::SEGMENT_SIZE;
use parity_scale_codec::{Decode, Encode};

pub use error::{HistoryError, IMPORTED_SIZE_MAX};
pub use files::{HistoryFile, find};

/// Size of block 0 (bytes): that of a whole segment, so that it never fits one.
pub const BLOCK_0_SIZE: usize = SEGMENT_SIZE;

/// What a chain is made of where there are no files to import.
const BUILT_IN_TEXT: &[u8] = include_bytes!("built_in.txt");
const BUILT_IN_PATH: &[u8] = b"built_in.txt";

/// One file of the history.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ManifestEntry {
    /// Its path as imported.
    pub path: Vec<u8>,
    /// Length of its content in bytes.
    pub length: u64,
    /// BLAKE3 of its content.
    pub hash: [u8; 32],
}

/// All files of the history, in the order in which they were imported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Manifest {
    /// The files.
    pub entries: Vec<ManifestEntry>,
}

impl Manifest {
    /// BLAKE3 of the SCALE encoding: what seeds the end of block 0 and enters the genesis hash.
    pub fn hash(&self) -> [u8; 32] {
        blake3::hash(&self.encode()).into()
    }
}

/// Writes the imported bytes of `files` (of the built-in text when there are none) to `out`. Every file is read once, so that
/// manifest and bytes agree even if somebody writes to it meanwhile.
pub fn import(files: &[HistoryFile], out: &mut dyn Write) -> Result<Manifest, HistoryError> {
    let mut manifest = Manifest::default();
    if files.is_empty() {
        manifest.entries.push(import_one(BUILT_IN_PATH, BUILT_IN_TEXT, out)?);
    }
    let mut size = 0;
    for file in files {
        let read_error = |source| HistoryError::Read { path: file.path.clone(), source };
        let length = fs::metadata(&file.path).map_err(read_error)?.len();
        size = check_size(size, length)?;
        let content = fs::read(&file.path).map_err(read_error)?;
        size = check_size(size - length, content.len() as u64)?;
        manifest.entries.push(import_one(&file.name, &content, out)?);
    }
    Ok(manifest)
}

fn check_size(before: u64, length: u64) -> Result<u64, HistoryError> {
    let size = before.saturating_add(length);
    if size > IMPORTED_SIZE_MAX { Err(HistoryError::TooLong { size }) } else { Ok(size) }
}

fn import_one(name: &[u8], content: &[u8], out: &mut dyn Write) -> Result<ManifestEntry, HistoryError> {
    let name_length = u16::try_from(name.len()).expect("names were checked when they were found");
    let length = content.len() as u64;
    let parts = [&name_length.to_le_bytes()[..], name, &length.to_le_bytes(), content];
    parts.iter().try_for_each(|part| out.write_all(part)).map_err(HistoryError::Write)?;
    Ok(ManifestEntry { path: name.to_vec(), length, hash: blake3::hash(content).into() })
}

/// Block 0: the front of the imported bytes and, behind their end, a ChaCha8 stream seeded with the manifest's hash (nonce
/// and counter from zero).
pub fn block_0(imported: impl Read, manifest_hash: &[u8; 32]) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK_0_SIZE);
    imported.take(BLOCK_0_SIZE as u64).read_to_end(&mut block)?;
    let end = block.len();
    block.resize(BLOCK_0_SIZE, 0);
    extend_first_block(manifest_hash, &mut block[end..]);
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_of_imported_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "two").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let files = find(&[folder.path().to_owned()]).unwrap();
        let mut bytes = Vec::new();
        let manifest = import(&files, &mut bytes).unwrap();
        assert_eq!(bytes, b"\x01\0a\0\0\0\0\0\0\0\0\x01\0b\x03\0\0\0\0\0\0\0two");
        assert_eq!(manifest.entries[1].hash, *blake3::hash(b"two").as_bytes());
        assert_eq!(Manifest::decode(&mut &manifest.encode()[..]).unwrap(), manifest);
    }

    #[test]
    fn built_in_text_without_files() {
        let mut bytes = Vec::new();
        let manifest = import(&[], &mut bytes).unwrap();
        assert_eq!(manifest.entries.len(), 1);
        assert!(bytes.ends_with(BUILT_IN_TEXT));
    }

    #[test]
    fn block_0_is_front_and_stream() {
        let block = block_0(&b"front"[..], &[7; 32]).unwrap();
        assert_eq!(block.len(), BLOCK_0_SIZE);
        let mut stream = [0; 64];
        extend_first_block(&[7; 32], &mut stream);
        assert_eq!(block[..5], *b"front");
        assert_eq!(block[5..69], stream);
        let long = block_0(io::repeat(9), &[7; 32]).unwrap();
        assert!(long.len() == BLOCK_0_SIZE && long.iter().all(|byte| *byte == 9));
    }

    #[test]
    fn too_much_is_refused() {
        assert!(check_size(0, IMPORTED_SIZE_MAX).is_ok());
        assert!(matches!(check_size(1, IMPORTED_SIZE_MAX), Err(HistoryError::TooLong { .. })));
        assert!(check_size(1, u64::MAX).is_err());
    }
}
