//! The key of one direction, and the numbers that never repeat under it.

use super::format::{self, HEADER_BYTES, RecordError, TAG_BYTES};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use std::fmt;

/// A key of AES-GCM, its initialization vector, and how many records it has seen.
pub struct Key {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Key {
    /// A key of 16 or 32 bytes for AES-128 or AES-256; none of another length.
    pub fn new(key: &[u8], iv: [u8; 12], sequence: u64) -> Option<Self> {
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self { key, iv, sequence })
    }

    /// What rustls' handshake agreed on, `sequence` records later; none when that is no AES-GCM.
    pub fn from_secrets((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Option<Self> {
        match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
                Self::new(key.as_ref(), iv.as_ref().try_into().ok()?, sequence)
            }
            _ => None,
        }
    }

    /// Records sealed or opened with it.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        let sequence = self.sequence.to_be_bytes();
        nonce[4..].iter_mut().zip(sequence).for_each(|(byte, of_sequence)| *byte ^= of_sequence);
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals `content` and what follows it inside, the byte of its type and any zeros, into `record`, which has exactly
    /// the bytes of [`Key::sealed_bytes`].
    pub(super) fn seal(&mut self, content: &[u8], trailer: &[u8], record: &mut [u8]) {
        let nonce = self.nonce();
        let (header, body) = record.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&format::header(body.len()));
        let (ciphertext, rest) = body.split_at_mut(content.len());
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(&*header), content, ciphertext, trailer, rest)
            .expect("lengths agree and are far below the limit of AES-GCM");
    }

    /// Bytes of the record with so much inside.
    pub(super) fn sealed_bytes(content: usize, trailer: usize) -> usize {
        HEADER_BYTES + content + trailer + TAG_BYTES
    }

    /// Opens a record's `body` into `inner`, which has exactly the bytes of it without the tag.
    pub(super) fn open(&mut self, header: &[u8], body: &[u8], inner: &mut [u8]) -> Result<(), RecordError> {
        let nonce = self.nonce();
        let (ciphertext, tag) = body.split_at(inner.len());
        self.key
            .open_separate_gather(nonce, Aad::from(header), ciphertext, tag, inner)
            .map_err(|_| RecordError::NotAuthentic)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
