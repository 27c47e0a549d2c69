//! Bytes between a socket and a connection's core, plain or through TLS.
//!
//! Plain, a payload goes from the kernel into its slab and from its slab to the kernel. With TLS one copy of ours lies
//! between the record that rustls decrypted and the slab.

use super::link::{Link, Wire};
use super::payload::SlabPayload;
use crate::connection::{Space, Transmit};
use crate::payload::PayloadBuf;
use crate::tls::{Fingerprint, Session, SessionError, TlsError};
use engine::net::{TcpReader, TcpWriter};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;

/// Plaintext encrypted before it is handed to the socket: a few records, small enough for a core's cache.
const ENCRYPT_BYTES: usize = 64 << 10;

/// Receives until the connection is over; says why when the socket or TLS ended it.
pub(super) async fn receive(link: &Link, mut reader: TcpReader) {
    let ended = match &link.wire {
        Wire::Plain => receive_plain(link, &mut reader).await,
        Wire::Tls { session, own } => receive_tls(link, &mut reader, session, *own).await,
    };
    if let Err(text) = ended {
        link.lost(&text);
    }
}

const PEER_ENDED: &str = "the peer closed the socket";

async fn receive_plain(link: &Link, reader: &mut TcpReader) -> Result<(), String> {
    loop {
        if !link.find_memory().await? {
            return Ok(());
        }
        // The core is borrowed only while the kernel copies into its buffer.
        let got = poll_fn(|context| {
            let mut core = link.core.borrow_mut();
            let Space::Bytes(space) = core.space() else { return Ok(None).into() };
            pin!(reader.read(space)).poll(context).map_ok(Some)
        })
        .await;
        match got.map_err(|error| error.to_string())? {
            None => {}
            Some(0) => return Err(PEER_ENDED.into()),
            Some(count) => {
                link.core.borrow_mut().filled(count, link.now_ms());
                link.changed();
            }
        }
    }
}

async fn receive_tls(
    link: &Link,
    reader: &mut TcpReader,
    session: &RefCell<Box<Session>>,
    own: Fingerprint,
) -> Result<(), String> {
    let explain = |error| match error {
        SessionError::Tls(error) => TlsError::explain(error, link.peer, own).to_string(),
        other => format!("TLS with {}: {other}", link.peer),
    };
    // Plaintext for which there was no memory yet.
    let mut waiting = Vec::new();
    let mut count = 0;
    loop {
        let advanced = session.borrow_mut().advance(count, |plain| link.take(plain, &mut waiting));
        // Also after an error there may be something to send: the alert.
        link.changed();
        advanced.map_err(explain)?;
        while !waiting.is_empty() {
            if !link.find_memory().await? {
                return Ok(());
            }
            let plain = std::mem::take(&mut waiting);
            link.take(&plain, &mut waiting);
            link.changed();
        }
        if link.core.borrow().is_closed() {
            return Ok(());
        }
        if session.borrow().is_peer_closed() {
            return Err(PEER_ENDED.into());
        }
        // Reading keeps no state of its own between polls, so the session is free while the socket is awaited.
        let got = poll_fn(|context| pin!(reader.read(session.borrow_mut().space())).poll(context)).await;
        count = got.map_err(|error| error.to_string())?;
        if count == 0 {
            return Err(PEER_ENDED.into());
        }
    }
}

/// Sends until the connection is over and its last words are out.
pub(super) async fn send(link: &Link, mut writer: TcpWriter) {
    let sent = match &link.wire {
        Wire::Plain => send_plain(link, &mut writer).await,
        Wire::Tls { session, .. } => send_tls(link, &mut writer, session).await,
    };
    if let Err(error) = sent {
        link.lost(&error.to_string());
    }
    // The peer may be gone already.
    let _ = writer.finish().await;
}

fn next_frame(link: &Link) -> Option<Transmit<SlabPayload>> {
    link.core.borrow_mut().transmit(link.now_ms())
}

async fn send_plain(link: &Link, writer: &mut TcpWriter) -> io::Result<()> {
    loop {
        while let Some(frame) = next_frame(link) {
            let mut parts = vec![IoSlice::new(&frame.head)];
            if let Some(payload) = &frame.payload {
                let mut at = 0;
                while at < payload.len() {
                    let chunk = payload.chunk(at);
                    parts.push(IoSlice::new(chunk));
                    at += chunk.len();
                }
            }
            writer.write_all_vectored(&mut parts).await?;
            frame.payload.iter().for_each(SlabPayload::went_through);
        }
        if link.core.borrow().is_closed() {
            return Ok(());
        }
        link.to_send.wait().await;
    }
}

async fn send_tls(link: &Link, writer: &mut TcpWriter, session: &RefCell<Box<Session>>) -> io::Result<()> {
    let mut ciphertext = Vec::new();
    loop {
        let is_established = session.borrow().is_established();
        while let Some(frame) = is_established.then(|| next_frame(link)).flatten() {
            encrypt(session, &frame.head)?;
            let Some(payload) = &frame.payload else { continue };
            let mut at = 0;
            while at < payload.len() {
                let chunk = payload.chunk(at);
                let chunk = &chunk[..chunk.len().min(ENCRYPT_BYTES)];
                encrypt(session, chunk)?;
                flush(writer, session, &mut ciphertext).await?;
                at += chunk.len();
            }
            payload.went_through();
        }
        let is_closed = link.core.borrow().is_closed();
        if is_closed && is_established {
            // It fails when TLS did; its alert goes out instead.
            let _ = session.borrow_mut().close();
        }
        flush(writer, session, &mut ciphertext).await?;
        if is_closed {
            return Ok(());
        }
        link.to_send.wait().await;
    }
}

fn encrypt(session: &RefCell<Box<Session>>, plain: &[u8]) -> io::Result<()> {
    session.borrow_mut().encrypt(plain).map_err(io::Error::other)
}

/// Hands all ciphertext to the socket; what the receiving side adds meanwhile is for the next call.
async fn flush(
    writer: &mut TcpWriter,
    session: &RefCell<Box<Session>>,
    ciphertext: &mut Vec<u8>,
) -> io::Result<()> {
    let bytes = session.borrow_mut().take_outgoing(ciphertext);
    writer.write_all(&ciphertext[..bytes]).await
}
