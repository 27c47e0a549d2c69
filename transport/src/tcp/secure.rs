//! Bytes through TLS: a payload goes from the buffer of the socket into its slab and from its slab to the buffer of the
//! socket, decrypted or encrypted on the way. Two tasks share the session, which is borrowed only between their waits.

use super::link::{Link, PEER_ENDED};
use crate::connection::Space;
use crate::payload::PayloadBuf;
use crate::tls::{Fingerprint, Received, Session, SessionError, TlsError};
use engine::net::{TcpReader, TcpWriter};
use std::cell::RefCell;
use std::io;

/// Ciphertext taken from the socket at once, and room for the part of a record that is left each time: few calls of the
/// kernel, and it stays in the cache of a core.
const INCOMING_BYTES: usize = (256 << 10) + (32 << 10);

/// Ciphertext from the socket.
struct Incoming {
    buffer: Vec<u8>,
    /// What is there and not yet used.
    from: usize,
    to: usize,
}

impl Incoming {
    /// Waits for more; none when the peer ended.
    async fn read(&mut self, reader: &mut TcpReader) -> io::Result<bool> {
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let count = reader.read(&mut self.buffer[self.to..]).await?;
        self.to += count;
        Ok(count > 0)
    }
}

/// Receives until the connection is over.
pub(super) async fn receive(
    link: &Link,
    reader: &mut TcpReader,
    session: &RefCell<Box<Session>>,
    own: Fingerprint,
) -> Result<(), String> {
    let mut incoming = Incoming { buffer: vec![0; INCOMING_BYTES], from: 0, to: 0 };
    loop {
        let received = decrypt(link, session, &mut incoming);
        // Also after an error there may be something to send: the alert.
        link.changed();
        match received.map_err(|error| explain(link, error, own))? {
            Received::Closed => return Err(PEER_ENDED.into()),
            // The core wants memory, or is over.
            Received::Plaintext(_) => {}
            Received::More => {
                let is_more = incoming.read(reader).await.map_err(|error| error.to_string())?;
                if !is_more {
                    return Err(PEER_ENDED.into());
                }
            }
        }
        if !link.find_memory().await? {
            return Ok(());
        }
    }
}

fn explain(link: &Link, error: SessionError, own: Fingerprint) -> String {
    match error {
        SessionError::Tls(error) => TlsError::explain(error, link.peer, own).to_string(),
        other => format!("TLS with {}: {other}", link.peer),
    }
}

/// Decrypts what has come, to where it belongs, as long as the core has a place for it.
fn decrypt(
    link: &Link,
    session: &RefCell<Box<Session>>,
    incoming: &mut Incoming,
) -> Result<Received, SessionError> {
    let (mut core, mut session) = (link.core.borrow_mut(), session.borrow_mut());
    loop {
        let Space::Bytes(place) = core.space() else { return Ok(Received::Plaintext(0)) };
        let ciphertext = &mut incoming.buffer[incoming.from..incoming.to];
        let (used, received) = session.receive(ciphertext, place)?;
        incoming.from += used;
        let Received::Plaintext(count) = received else { return Ok(received) };
        core.filled(count, link.now_ms());
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
            send_all(&frame.head, writer, session, &mut ciphertext).await?;
            let Some(payload) = &frame.payload else { continue };
            let mut at = 0;
            while at < payload.len() {
                let chunk = payload.chunk(at);
                send_all(chunk, writer, session, &mut ciphertext).await?;
                at += chunk.len();
            }
            flush(writer, session, &mut ciphertext).await?;
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

/// Encrypts `plain`; whole batches leave, the rest waits for what follows.
async fn send_all(
    mut plain: &[u8],
    writer: &mut TcpWriter,
    session: &RefCell<Box<Session>>,
    ciphertext: &mut Vec<u8>,
) -> io::Result<()> {
    while !plain.is_empty() {
        let sealed = session.borrow_mut().encrypt(plain).map_err(io::Error::other)?;
        plain = &plain[sealed..];
        let has_batch = session.borrow().has_batch();
        if has_batch {
            flush(writer, session, ciphertext).await?;
        }
    }
    Ok(())
}

/// Hands all ciphertext to the socket; what the receiving side adds meanwhile is for the next call.
async fn flush(
    writer: &mut TcpWriter,
    session: &RefCell<Box<Session>>,
    ciphertext: &mut Vec<u8>,
) -> io::Result<()> {
    let bytes = session.borrow_mut().take_outgoing(ciphertext).map_err(io::Error::other)?;
    writer.write_all(&ciphertext[..bytes]).await
}
