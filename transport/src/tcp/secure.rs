//! Bytes through TLS. One copy of ours lies between the record that rustls decrypted and the slab.

use super::link::{Link, PEER_ENDED};
use crate::payload::PayloadBuf;
use crate::tls::{Fingerprint, Session, SessionError, TlsError};
use engine::net::{TcpReader, TcpWriter};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;

/// Plaintext encrypted before it is handed to the socket: a few records, small enough for a core's cache.
const ENCRYPT_BYTES: usize = 64 << 10;

/// Receives until the connection is over.
pub(super) async fn receive(
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
pub(super) async fn send(
    link: &Link,
    writer: &mut TcpWriter,
    session: &RefCell<Box<Session>>,
) -> io::Result<()> {
    let mut ciphertext = Vec::new();
    loop {
        let is_established = session.borrow().is_established();
        while let Some(frame) = is_established.then(|| link.next_frame()).flatten() {
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
