//! What a server must be able to do, said in one line when it cannot.

use crate::BusError;
use async_nats::ServerInfo;
use async_nats::jetstream::context::AccountErrorKind;
use async_nats::jetstream::{self, Context, ErrorCode};
use control::messages::MAX_MESSAGE_BYTES;

/// Smallest `max_payload` that works: a control message, its headers, and room to grow.
pub const MIN_PAYLOAD_LIMIT_BYTES: usize = 2 * MAX_MESSAGE_BYTES;
/// Oldest server: the stream settings and account answers used here came with it.
const MIN_VERSION: (u64, u64) = (2, 10);

/// Checks what a server says of itself in its greeting: version and payload limit.
pub fn check_server(info: &ServerInfo) -> Result<(), BusError> {
    let server = name_of(info);
    // A version that cannot be read is taken for old: the operator sees it in the message.
    if version_of(&info.version).is_none_or(|version| version < MIN_VERSION) {
        return Err(BusError::ServerTooOld { server, found: info.version.clone() });
    }
    if info.max_payload < MIN_PAYLOAD_LIMIT_BYTES {
        let (found_bytes, needed_bytes) = (info.max_payload, MIN_PAYLOAD_LIMIT_BYTES);
        return Err(BusError::PayloadLimit { server, found_bytes, needed_bytes });
    }
    Ok(())
}

/// Asks for the account's JetStream. Only what no waiting mends is an error: a cluster that is still electing is not.
pub(super) async fn check_jetstream(context: &Context, info: &ServerInfo) -> Result<(), BusError> {
    let Err(error) = context.query_account().await else { return Ok(()) };
    let is_without = match error.kind() {
        AccountErrorKind::JetStream(refusal) => is_disabled(&refusal),
        AccountErrorKind::JetStreamUnavailable => !info.jetstream,
        _ => false,
    };
    if is_without { Err(no_jetstream(info, error.to_string())) } else { Ok(()) }
}

/// Whether a refusal says that there is no JetStream at all.
pub(super) fn is_disabled(refusal: &jetstream::Error) -> bool {
    matches!(
        refusal.error_code(),
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
    )
}

pub(super) fn no_jetstream(info: &ServerInfo, reason: String) -> BusError {
    BusError::NoJetStream { server: name_of(info), reason }
}

fn name_of(info: &ServerInfo) -> String {
    format!("{}:{} ({})", info.host, info.port, info.server_name)
}

/// Major and minor of `2.10.26` or `2.11.0-RC.1`.
fn version_of(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str, max_payload: usize) -> ServerInfo {
        ServerInfo { version: version.to_owned(), max_payload, ..ServerInfo::default() }
    }

    #[test]
    fn versions() {
        for good in ["2.10.0", "2.10.26", "2.11.0-RC.1", "v2.12.1", "3.0.0"] {
            check_server(&info(good, 1 << 20)).unwrap();
        }
        for old in ["2.9.10", "1.4.1", "2", "", "x.y.z", "2.-1.0"] {
            let error = check_server(&info(old, 1 << 20)).unwrap_err();
            assert!(matches!(&error, BusError::ServerTooOld { found, .. } if found == old), "{error}");
            assert!(error.to_string().contains("2.10"), "{error}");
        }
    }

    #[test]
    fn payload_limit() {
        check_server(&info("2.10.0", 128 * 1024)).unwrap();
        let error = check_server(&info("2.10.0", 128 * 1024 - 1)).unwrap_err();
        assert!(error.to_string().contains("max_payload"), "{error}");
    }
}
