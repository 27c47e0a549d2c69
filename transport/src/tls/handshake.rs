//! The handshake, by rustls, and what it leaves for the records after it.
//!
//! rustls is shown one record at a time: given more, it would open payload that came along with the peer's last message, in
//! place, and the records after it would be out of step.

use super::outgoing::Outgoing;
use super::records::{Key, record_bytes};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, Error, ExtractedSecrets, ServerConfig};
use std::net::IpAddr;
use std::sync::Arc;

/// Ciphertext of one message, records and all: several times what a chain of certificates takes.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Why there is no handshake.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Something in it is wrong.
    #[error(transparent)]
    Tls(#[from] Error),
    /// A message that is not done in any reasonable length.
    #[error("TLS handshake message is too long")]
    TooLong,
    /// More came than belongs to it.
    #[error("TLS handshake does not end with its last record")]
    Excess,
    /// No cipher that both know.
    #[error("TLS handshake ends with a cipher other than AES-GCM")]
    Cipher,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// A handshake under way.
pub struct Handshake {
    side: Side,
    /// Bytes at the front of the ciphertext, of whole records, that rustls has seen and not used up.
    seen: usize,
}

/// What one state of rustls led to.
enum Step {
    Again,
    Blocked,
    Done,
}

impl Handshake {
    pub fn client(config: Arc<ClientConfig>, server: IpAddr) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(config, ServerName::IpAddress(server.into()))?;
        Ok(Self { side: Side::Client(Box::new(connection)), seen: 0 })
    }

    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self { side: Side::Server(Box::new(UnbufferedServerConnection::new(config)?)), seen: 0 })
    }

    /// Works off records at the front of `ciphertext`; says how many bytes are used up, and whether it is done. What is left
    /// must be at the front of the next call's.
    pub fn advance(
        &mut self,
        ciphertext: &mut [u8],
        outgoing: &mut Outgoing,
    ) -> (usize, Result<bool, HandshakeError>) {
        let mut used = 0;
        // What rustls is shown; more than `seen` only by a record that is not all there.
        let mut shown = self.seen;
        loop {
            let (discard, step) = self.step(&mut ciphertext[used..used + shown], outgoing);
            used += discard;
            (shown, self.seen) = (shown - discard, self.seen.saturating_sub(discard));
            match step {
                Err(error) => {
                    // The alert that tells the peer why: rustls has it ready after most errors. It must not be asked for
                    // more: reading on after an error it found itself, it panics.
                    let _ = self.step(&mut ciphertext[used..used + shown], outgoing);
                    return (used, Err(error.into()));
                }
                Ok(Step::Again) => {}
                Ok(Step::Done) if shown > 0 => return (used, Err(HandshakeError::Excess)),
                Ok(Step::Done) => return (used, Ok(true)),
                Ok(Step::Blocked) => {
                    let front = &ciphertext[used..];
                    let end = self.seen + record_bytes(&front[self.seen..]);
                    let next = end.min(front.len());
                    if next == shown {
                        let is_too_long = front.len() >= MAX_MESSAGE_BYTES;
                        return (used, if is_too_long { Err(HandshakeError::TooLong) } else { Ok(false) });
                    }
                    shown = next;
                    if end == next {
                        self.seen = end;
                    }
                }
            }
        }
    }

    fn step(&mut self, shown: &mut [u8], outgoing: &mut Outgoing) -> (usize, Result<Step, Error>) {
        match &mut self.side {
            Side::Client(connection) => step(connection.process_tls_records(shown), outgoing),
            Side::Server(connection) => step(connection.process_tls_records(shown), outgoing),
        }
    }

    /// The keys, and who is there.
    pub fn finish(self) -> Result<Finished, HandshakeError> {
        let (peer, secrets, successor) = match self.side {
            Side::Client(connection) => {
                let peer = first(connection.peer_certificates());
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                (peer, secrets, Successor::Client(kernel))
            }
            Side::Server(connection) => {
                let peer = first(connection.peer_certificates());
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                (peer, secrets, Successor::Server(kernel))
            }
        };
        let ExtractedSecrets { tx, rx } = secrets;
        let sending = Key::from_secrets(tx).ok_or(HandshakeError::Cipher)?;
        let receiving = Key::from_secrets(rx).ok_or(HandshakeError::Cipher)?;
        Ok(Finished { peer, sending, receiving, successor })
    }
}

fn first(chain: Option<&[CertificateDer<'static>]>) -> Option<CertificateDer<'static>> {
    chain.and_then(<[_]>::first).cloned()
}

/// What a handshake leaves.
pub struct Finished {
    /// The peer's certificate; it has proven to own it.
    pub peer: Option<CertificateDer<'static>>,
    pub sending: Key,
    pub receiving: Key,
    pub successor: Successor,
}

/// Makes the key that follows a key.
pub enum Successor {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Successor {
    pub fn sending(&mut self) -> Result<Key, HandshakeError> {
        let secrets = match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        };
        Key::from_secrets(secrets?).ok_or(HandshakeError::Cipher)
    }

    pub fn receiving(&mut self) -> Result<Key, HandshakeError> {
        let secrets = match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        };
        Key::from_secrets(secrets?).ok_or(HandshakeError::Cipher)
    }
}

/// Handles one state; also says how many bytes of ciphertext are used up.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Outgoing,
) -> (usize, Result<Step, Error>) {
    let step = status.state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(mut message) => outgoing
            .encode(|space| message.encode(space))
            .map(|()| Step::Again)
            .map_err(|error| Error::General(error.to_string())),
        // It lies in `outgoing`, in order with everything else that is sent.
        ConnectionState::TransmitTlsData(message) => {
            message.done();
            Ok(Step::Again)
        }
        ConnectionState::BlockedHandshake => Ok(Step::Blocked),
        ConnectionState::WriteTraffic(_) => Ok(Step::Done),
        // Payload before the end of the handshake is not enabled, and rustls may grow states that nobody asked for.
        _ => Err(Error::General("the peer ends TLS in its handshake".into())),
    });
    (status.discard, step)
}
