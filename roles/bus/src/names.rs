//! Subjects, keys and filters: what is allowed, what matches, and the size limit, the same for both backends.

use super::BusError;
use bytes::Bytes;
use control::messages::MAX_MESSAGE_BYTES;
use control::names::valid_token;

/// Longest subject or key.
const MAX_NAME_BYTES: usize = 200;

/// A subject or key without wildcards.
pub(super) fn check_name(name: &str) -> Result<(), BusError> {
    if name.len() <= MAX_NAME_BYTES && name.split('.').all(valid_token) {
        return Ok(());
    }
    Err(bad_name(name))
}

/// A subject or key with wildcards.
pub(super) fn check_filter(filter: &str) -> Result<(), BusError> {
    let body = filter.strip_suffix(".>").unwrap_or(filter);
    let tokens_fit = || body.split('.').all(|token| token == "*" || valid_token(token));
    if filter.len() <= MAX_NAME_BYTES && (filter == ">" || tokens_fit()) {
        return Ok(());
    }
    Err(bad_name(filter))
}

/// What a watch is asked for: one filter at least.
pub(super) fn check_filters(filters: &[String]) -> Result<(), BusError> {
    if filters.is_empty() { Err(bad_name("")) } else { filters.iter().try_for_each(|it| check_filter(it)) }
}

/// One token: the name of a queue, a group or a bucket.
pub(super) fn check_token(name: &str) -> Result<(), BusError> {
    if valid_token(name) { Ok(()) } else { Err(bad_name(name)) }
}

/// A subject of the queue `queue`: `<queue>.<group>.<something>`.
pub(super) fn check_queue_subject(queue: &str, subject: &str) -> Result<(), BusError> {
    check_name(subject)?;
    let mut tokens = subject.split('.');
    if tokens.next() == Some(queue) && tokens.count() >= 2 { Ok(()) } else { Err(bad_name(subject)) }
}

/// The size limit, checked before anything is sent.
pub(super) fn check_size(subject: &str, payload: &Bytes) -> Result<(), BusError> {
    if payload.len() < MAX_MESSAGE_BYTES {
        return Ok(());
    }
    Err(BusError::TooLarge { subject: subject.to_owned(), size_bytes: payload.len() })
}

fn bad_name(name: &str) -> BusError {
    BusError::BadName { name: name.chars().take(MAX_NAME_BYTES).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_holes_wildcards_or_spaces_are_refused() {
        for name in ["", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "a.>", "ü", "a\r\nPUB", &"a".repeat(65)]
        {
            assert!(matches!(check_name(name), Err(BusError::BadName { .. })), "{name:?}");
        }
        for filter in ["", "a.>.b", "a*", "a.", ">.a", "a b.>"] {
            assert!(check_filter(filter).is_err(), "{filter:?}");
        }
        for filter in [">", "*", "a.*", "a.>", "*.b.>", "a-B_9"] {
            assert!(check_filter(filter).is_ok(), "{filter:?}");
        }
        assert!(check_filters(&[]).is_err(), "a watch of nothing");
        assert!(check_filters(&["a.*".to_owned(), "b*".to_owned()]).is_err());
        assert!(check_filters(&["a.*".to_owned(), "b.*".to_owned()]).is_ok());
        assert!(check_name("plot.g1.01ARZ3NDEKTSV4RRFFQ69G5FAV.17.42").is_ok());
        assert!(check_queue_subject("plot", "plot.g.x").is_ok());
        assert!(check_queue_subject("plot", "plot.g").is_err());
        assert!(check_queue_subject("plot", "other.g.x").is_err());
    }
}
