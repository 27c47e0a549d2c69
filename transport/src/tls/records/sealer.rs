//! Plaintext into records.

use super::format::{ALERT, CLOSE_NOTIFY, DATA, HANDSHAKE, MAX_CONTENT_BYTES, RecordError};
use super::key::Key;
use crate::tls::outgoing::Outgoing;

/// Records after which the next key is due: 64 GiB. AES-GCM bears 2^24.5 full records a key (RFC 8446, 5.5).
pub const RECORDS_A_KEY: u64 = 1 << 22;

/// KeyUpdate, update_not_requested.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// The sending direction of one connection.
#[derive(Debug)]
pub struct Sealer {
    key: Key,
    records_a_key: u64,
    /// The peer asked for the next key. However often it does, one answers.
    asked: bool,
    over: bool,
}

impl Sealer {
    /// Seals with `key` until the next one is due after `records_a_key` records.
    pub fn new(key: Key, records_a_key: u64) -> Self {
        Self { key, records_a_key, asked: false, over: false }
    }

    /// Seals the front of `plaintext` as one record, its end as well if it fits; returns how many bytes that was. Call
    /// [`Sealer::update`] before when [`Sealer::is_update_due`].
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Outgoing) -> Result<usize, RecordError> {
        if self.over {
            return Err(RecordError::Over);
        }
        let content = &plaintext[..plaintext.len().min(MAX_CONTENT_BYTES)];
        self.record(content, &[DATA], out);
        Ok(content.len())
    }

    /// Whether the next key is due, by its age or because the peer asked.
    pub fn is_update_due(&self) -> bool {
        !self.over && (self.asked || self.key.sequence() >= self.records_a_key)
    }

    /// The peer asked for the next key.
    pub fn asked_to_update(&mut self) {
        self.asked = true;
    }

    /// Says that the next key follows, and seals with it from now on.
    pub fn update(&mut self, next: Key, out: &mut Outgoing) {
        self.record(&KEY_UPDATE, &[HANDSHAKE], out);
        self.key = next;
        self.asked = false;
    }

    /// Says that no more payload follows; nothing does.
    pub fn close(&mut self, out: &mut Outgoing) -> Result<(), RecordError> {
        self.farewell([WARNING, CLOSE_NOTIFY], out)
    }

    /// Tells the peer why it is over, by an alert's number.
    pub fn fail(&mut self, alert: u8, out: &mut Outgoing) -> Result<(), RecordError> {
        self.farewell([FATAL, alert], out)
    }

    fn farewell(&mut self, alert: [u8; 2], out: &mut Outgoing) -> Result<(), RecordError> {
        if std::mem::replace(&mut self.over, true) {
            return Err(RecordError::Over);
        }
        self.record(&alert, &[ALERT], out);
        Ok(())
    }

    /// One record of any form: `trailer` is the byte of its type and its padding.
    pub(crate) fn record(&mut self, content: &[u8], trailer: &[u8], out: &mut Outgoing) {
        self.key.seal(content, trailer, out.room(Key::sealed_bytes(content.len(), trailer.len())));
    }
}
