//! Bytes between a socket and a connection's core, plain or through TLS.

use super::link::{Link, Wire};
use super::{plain, secure};
use engine::net::{TcpReader, TcpWriter};

/// Receives until the connection is over; says why when the socket or TLS ended it.
pub(super) async fn receive(link: &Link, mut reader: TcpReader) {
    let ended = match &link.wire {
        Wire::Plain => plain::receive(link, &mut reader).await,
        Wire::Tls { session, own, .. } => secure::receive(link, &mut reader, session, *own).await,
    };
    if let Err(text) = ended {
        link.lost(&text);
    }
}

/// Sends until the connection is over and its last words are out.
pub(super) async fn send(link: &Link, mut writer: TcpWriter) {
    let sent = match &link.wire {
        Wire::Plain => plain::send(link, &mut writer).await,
        Wire::Tls { session, .. } => secure::send(link, &mut writer, session).await,
    };
    if let Err(error) = sent {
        link.lost(&error.to_string());
    }
    // The peer may be gone already.
    let _ = writer.finish().await;
}
