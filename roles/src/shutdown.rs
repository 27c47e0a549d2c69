//! The wish of the operator or the supervisor that the process should end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGINT (Ctrl-C) or SIGTERM. From the call on, neither kills the process any more.
///
/// Must be called inside a tokio runtime with its I/O driver.
pub fn requested() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("shutting down");
    })
}
