//! Text in messages.

use super::{MAX_REASON_BYTES, MAX_TEXT_BYTES, MessageError};

/// `text` as a message may carry it: no longer than [`MAX_TEXT_BYTES`], and on one line.
pub fn bounded_text(text: &str) -> String {
    bounded(text, MAX_TEXT_BYTES)
}

/// `text` as a message may carry it as a reason: no longer than [`MAX_REASON_BYTES`], and on one line.
pub fn bounded_reason(text: &str) -> String {
    bounded(text, MAX_REASON_BYTES)
}

fn bounded(text: &str, max_bytes: usize) -> String {
    let end = (0..=max_bytes.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[..end].replace(char::is_control, " ")
}

/// Whether a message may carry `text`.
pub(super) fn check_text(text: &str) -> Result<(), MessageError> {
    check(text, MAX_TEXT_BYTES)
}

/// Whether a message may carry `text` as a reason.
pub(super) fn check_reason(text: &str) -> Result<(), MessageError> {
    check(text, MAX_REASON_BYTES)
}

fn check(text: &str, max_bytes: usize) -> Result<(), MessageError> {
    let fits = text.len() <= max_bytes && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(MessageError::Impossible("text too long or with control characters")) }
}
