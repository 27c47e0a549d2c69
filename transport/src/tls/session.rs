//! One TLS connection without sockets: ciphertext in, plaintext out, and the reverse.
//!
//! rustls decrypts in place in the buffer that received the ciphertext and hands out one record at a time; the
//! caller copies it to where it belongs, and that is the only copy of ours on the way in.

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, ServerConfig};
use std::net::IpAddr;
use std::sync::Arc;

/// Ciphertext taken from the socket at once: several records, small enough to stay in the cache of a core. A record
/// is at most 16 KiB and a bit, so there is always room for a whole one; so is there for any handshake message.
const INCOMING_BYTES: usize = 128 << 10;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The handshake or a record is wrong.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// More plaintext than the session has keys for, before the handshake is done, or after an error.
    #[error("TLS cannot encrypt now")]
    CannotEncrypt,
    /// It failed or was closed before.
    #[error("TLS session is over")]
    Over,
    /// A handshake message that does not fit the buffer.
    #[error("TLS handshake message is too long")]
    HandshakeTooLong,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// One TLS connection. Call [`Session::advance`] after creation and after every arrival of bytes.
pub struct Session {
    side: Side,
    incoming: Vec<u8>,
    /// The ciphertext that is there and not yet used.
    from: usize,
    to: usize,
    outgoing: Outgoing,
    established: bool,
    peer_closed: bool,
    /// After an error, and after its farewell, rustls must be left alone.
    over: bool,
}

/// Ciphertext that waits for the socket, at the front of a buffer that only grows.
#[derive(Default)]
struct Outgoing {
    buffer: Vec<u8>,
    used: usize,
}

impl Outgoing {
    /// Lets `write` append, with more room on its demand.
    fn append<E>(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
        room: impl Fn(&E) -> Option<usize>,
    ) -> Result<(), E> {
        loop {
            match write(&mut self.buffer[self.used..]) {
                Ok(count) => {
                    self.used += count;
                    return Ok(());
                }
                Err(error) => match room(&error) {
                    Some(bytes) => self.buffer.resize(self.used + bytes, 0),
                    None => return Err(error),
                },
            }
        }
    }
}

fn encrypt_room(error: &EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
        EncryptError::EncryptExhausted => None,
    }
}

fn encode_room(error: &EncodeError) -> Option<usize> {
    match error {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

/// What one state of rustls led to.
enum Step {
    Again,
    /// Nothing more to do with the ciphertext at hand.
    Blocked,
    /// The same, and plaintext can be sent.
    Open,
    PeerClosed,
}

impl Session {
    /// A client's side; its first handshake message is made by [`Session::advance`].
    pub fn client(config: Arc<ClientConfig>, server: IpAddr) -> Result<Self, rustls::Error> {
        let connection = UnbufferedClientConnection::new(config, ServerName::IpAddress(server.into()))?;
        Ok(Self::new(Side::Client(Box::new(connection))))
    }

    /// A server's side.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(Side::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    fn new(side: Side) -> Self {
        let (incoming, outgoing) = (vec![0; INCOMING_BYTES], Outgoing::default());
        Self { side, incoming, from: 0, to: 0, outgoing, established: false, peer_closed: false, over: false }
    }

    /// Where ciphertext from the socket goes; never empty while [`Session::advance`] is called after each arrival.
    pub fn space(&mut self) -> &mut [u8] {
        self.incoming.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        &mut self.incoming[self.to..]
    }

    /// Uses the `count` bytes that were put into [`Session::space`]; gives plaintext to `sink`, record by record. After
    /// an error [`Session::take_outgoing`] may still hold the alert for the peer.
    pub fn advance(&mut self, count: usize, mut sink: impl FnMut(&[u8])) -> Result<(), SessionError> {
        if self.over {
            return Err(SessionError::Over);
        }
        self.to += count;
        if let Err(error) = self.run(&mut sink, |_, _| Ok(())) {
            self.over = true;
            self.take_alert();
            return Err(error);
        }
        let is_full = self.to - self.from == self.incoming.len();
        if is_full { Err(SessionError::HandshakeTooLong) } else { Ok(()) }
    }

    /// Takes the alert that tells the peer why, which rustls has ready after most errors. It must not be asked for more:
    /// reading on after an error it found itself, it panics.
    fn take_alert(&mut self) {
        let ciphertext = &mut self.incoming[self.from..self.to];
        let mut nothing = Some(|_: &mut dyn Writer, _: &mut Outgoing| Ok(()));
        let outgoing = &mut self.outgoing;
        let (_, _done) = match &mut self.side {
            Side::Client(connection) => {
                step(connection.process_tls_records(ciphertext), outgoing, &mut |_| {}, &mut nothing)
            }
            Side::Server(connection) => {
                step(connection.process_tls_records(ciphertext), outgoing, &mut |_| {}, &mut nothing)
            }
        };
    }

    /// Encrypts `plaintext` into [`Session::take_outgoing`].
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Result<(), SessionError> {
        self.write(|writer, outgoing| outgoing.append(|space| writer.encrypt(plaintext, space), encrypt_room))
    }

    /// Tells the peer that no more plaintext will come, and ends the session here too.
    pub fn close(&mut self) -> Result<(), SessionError> {
        let closed =
            self.write(|writer, outgoing| outgoing.append(|space| writer.close(space), encrypt_room));
        self.over = true;
        closed
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut dyn Writer, &mut Outgoing) -> Result<(), EncryptError>,
    ) -> Result<(), SessionError> {
        if !self.established || self.over {
            return Err(SessionError::CannotEncrypt);
        }
        // Every whole record was handed out when it arrived, so there is nothing for the sink.
        let mut sink = |_: &[u8]| debug_assert!(false, "plaintext was left behind");
        self.run(&mut sink, write).inspect_err(|_| self.over = true)
    }

    /// Exchanges `buffer`, whose content is spent, for the ciphertext for the socket; returns its length.
    pub fn take_outgoing(&mut self, buffer: &mut Vec<u8>) -> usize {
        std::mem::swap(&mut self.outgoing.buffer, buffer);
        std::mem::take(&mut self.outgoing.used)
    }

    /// Whether plaintext can be sent. A client learns only later whether the server accepts its certificate.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// The peer's certificate, once it has proven to own it.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        let certificates = match &self.side {
            Side::Client(connection) => connection.peer_certificates(),
            Side::Server(connection) => connection.peer_certificates(),
        };
        certificates.filter(|_| self.established)?.first()
    }

    /// Whether the peer said that no more plaintext will come.
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Works off the ciphertext at hand, then lets `write` encrypt.
    fn run(
        &mut self,
        sink: &mut dyn FnMut(&[u8]),
        write: impl FnOnce(&mut dyn Writer, &mut Outgoing) -> Result<(), EncryptError>,
    ) -> Result<(), SessionError> {
        let mut write = Some(write);
        loop {
            let ciphertext = &mut self.incoming[self.from..self.to];
            let outgoing = &mut self.outgoing;
            let (used, step) = match &mut self.side {
                Side::Client(connection) => {
                    step(connection.process_tls_records(ciphertext), outgoing, sink, &mut write)
                }
                Side::Server(connection) => {
                    step(connection.process_tls_records(ciphertext), outgoing, sink, &mut write)
                }
            };
            self.from += used;
            match step? {
                Step::Again => {}
                Step::Blocked => return Ok(()),
                Step::PeerClosed => self.peer_closed = true,
                Step::Open => {
                    self.established = true;
                    return Ok(());
                }
            }
        }
    }
}

/// The two things that can be written, whichever side writes.
trait Writer {
    fn encrypt(&mut self, plaintext: &[u8], space: &mut [u8]) -> Result<usize, EncryptError>;
    fn close(&mut self, space: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Writer for WriteTraffic<'_, Data> {
    fn encrypt(&mut self, plaintext: &[u8], space: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::encrypt(self, plaintext, space)
    }

    fn close(&mut self, space: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(space)
    }
}

/// Handles one state; also says how many bytes of ciphertext are used up.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Outgoing,
    sink: &mut dyn FnMut(&[u8]),
    write: &mut Option<impl FnOnce(&mut dyn Writer, &mut Outgoing) -> Result<(), EncryptError>>,
) -> (usize, Result<Step, SessionError>) {
    let mut used = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (used, Err(error.into())),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                None => break Ok(Step::Again),
                Some(Err(error)) => break Err(error.into()),
                Some(Ok(record)) => {
                    used += record.discard;
                    sink(record.payload);
                }
            }
        },
        ConnectionState::EncodeTlsData(mut message) => outgoing
            .append(|space| message.encode(space), encode_room)
            .map(|()| Step::Again)
            .map_err(|_| SessionError::CannotEncrypt),
        // It lies in `outgoing`, in order with everything else that is sent.
        ConnectionState::TransmitTlsData(message) => {
            message.done();
            Ok(Step::Again)
        }
        ConnectionState::WriteTraffic(mut writer) => write
            .take()
            .map_or(Ok(()), |write| write(&mut writer, outgoing))
            .map(|()| Step::Open)
            .map_err(|_| SessionError::CannotEncrypt),
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::Closed | ConnectionState::BlockedHandshake => Ok(Step::Blocked),
        // Early data is not enabled, and rustls may grow states that nobody asked for.
        _ => Err(SessionError::CannotEncrypt),
    };
    (used, step)
}
