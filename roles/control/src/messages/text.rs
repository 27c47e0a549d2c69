//! Text in messages.

use super::{MAX_TEXT_BYTES, MessageError};

/// `text` as a message may carry it: no longer than [`MAX_TEXT_BYTES`], and on one line.
pub fn bounded_text(text: &str) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[..end].replace(char::is_control, " ")
}

/// Whether a message may carry `text`.
pub(super) fn check_text(text: &str) -> Result<(), MessageError> {
    let fits = text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(MessageError::Impossible("text too long or with control characters")) }
}
