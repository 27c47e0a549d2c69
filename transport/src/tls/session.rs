//! One TLS connection without sockets: ciphertext in, plaintext out, and the reverse.
//!
//! First rustls shakes hands, then the keys it agreed on go to the records of this crate, which read and write payload where
//! it lies.

use super::handshake::{Finished, Handshake, HandshakeError, Successor};
use super::outgoing::Outgoing;
use super::records::{Opened, Opener, RECORDS_A_KEY, RecordError, Sealer};
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use std::net::IpAddr;
use std::sync::Arc;

/// Plaintext is sealed until so much ciphertext waits for the socket: few calls of the kernel, and it stays in the cache of
/// a core.
const BATCH_BYTES: usize = 256 << 10;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The handshake is wrong, or the peer gives up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// A handshake that rustls finds nothing wrong with.
    #[error(transparent)]
    Handshake(HandshakeError),
    /// A record is wrong.
    #[error(transparent)]
    Record(RecordError),
    /// Plaintext before the handshake is done, or after the end.
    #[error("TLS cannot encrypt now")]
    CannotEncrypt,
}

impl From<HandshakeError> for SessionError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Tls(error) => Self::Tls(error),
            other => Self::Handshake(other),
        }
    }
}

impl From<RecordError> for SessionError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Alert(number) => {
                Self::Tls(rustls::Error::AlertReceived(AlertDescription::from(number)))
            }
            other => Self::Record(other),
        }
    }
}

/// What became of ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// More is needed.
    More,
    /// So many bytes of plaintext lie at the front of the place; at least one.
    Plaintext(usize),
    /// The peer said that no more plaintext will come.
    Closed,
}

enum Stage {
    Handshake(Box<Handshake>),
    Open(Box<Records>),
    Over,
}

struct Records {
    sealer: Sealer,
    opener: Opener,
    successor: Successor,
}

/// One TLS connection. Call [`Session::receive`] after creation and after every arrival of bytes.
pub struct Session {
    stage: Stage,
    outgoing: Outgoing,
    records_a_key: u64,
    peer: Option<CertificateDer<'static>>,
}

impl Session {
    /// A client's side; its first handshake message is made by [`Session::receive`].
    pub fn client(config: Arc<ClientConfig>, server: IpAddr) -> Result<Self, rustls::Error> {
        Ok(Self::new(Handshake::client(config, server)?))
    }

    /// A server's side.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(Handshake::server(config)?))
    }

    fn new(handshake: Handshake) -> Self {
        let stage = Stage::Handshake(Box::new(handshake));
        Self { stage, outgoing: Outgoing::default(), records_a_key: RECORDS_A_KEY, peer: None }
    }

    /// Sends so many records before it takes the next key, in place of [`RECORDS_A_KEY`]. Call it before the handshake is
    /// done.
    #[must_use]
    pub fn with_records_a_key(self, records: u64) -> Self {
        Self { records_a_key: records, ..self }
    }

    /// Uses up the front of `ciphertext`, as many bytes as the first number of the result says; what is left must be at the
    /// front of the next call's, with what comes behind it. Plaintext comes to the front of `place`, which is not empty;
    /// behind it `place` may be written too. After an error [`Session::take_outgoing`] may still hold the alert for the peer.
    pub fn receive(
        &mut self,
        ciphertext: &mut [u8],
        place: &mut [u8],
    ) -> Result<(usize, Received), SessionError> {
        let mut used = 0;
        loop {
            let once = self.receive_once(&mut ciphertext[used..], place);
            let (count, received) = once.inspect_err(|error| self.fail(error))?;
            used += count;
            if let Some(received) = received {
                return Ok((used, received));
            }
        }
    }

    fn receive_once(
        &mut self,
        ciphertext: &mut [u8],
        place: &mut [u8],
    ) -> Result<(usize, Option<Received>), SessionError> {
        let records = match &mut self.stage {
            Stage::Handshake(handshake) => {
                let (used, is_done) = handshake.advance(ciphertext, &mut self.outgoing);
                if !is_done? {
                    return Ok((used, Some(Received::More)));
                }
                self.begin_records()?;
                return Ok((used, None));
            }
            Stage::Open(records) => records,
            Stage::Over => return Err(RecordError::Over.into()),
        };
        let (used, opened) = records.opener.open(ciphertext, place)?;
        let received = match opened {
            Opened::More => Some(Received::More),
            Opened::Payload(bytes) => (bytes > 0).then_some(Received::Plaintext(bytes)),
            Opened::Closed => Some(Received::Closed),
            Opened::KeyUpdate { answer } => {
                records.opener.update(records.successor.receiving()?);
                if answer {
                    records.sealer.asked_to_update();
                }
                None
            }
        };
        Ok((used, received))
    }

    fn begin_records(&mut self) -> Result<(), SessionError> {
        let Stage::Handshake(handshake) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Ok(());
        };
        let Finished { peer, sending, receiving, successor } = handshake.finish()?;
        let (sealer, opener) = (Sealer::new(sending, self.records_a_key), Opener::new(receiving));
        self.peer = peer;
        self.stage = Stage::Open(Box::new(Records { sealer, opener, successor }));
        Ok(())
    }

    /// Ends the session, with an alert for the peer; of the handshake it is sent already.
    fn fail(&mut self, error: &SessionError) {
        if let Stage::Open(mut records) = std::mem::replace(&mut self.stage, Stage::Over)
            && let SessionError::Record(error) = error
            && let Some(alert) = error.alert()
        {
            // Nothing can be said after a close.
            let _ = records.sealer.fail(alert, &mut self.outgoing);
        }
    }

    /// Encrypts the front of `plaintext` into [`Session::take_outgoing`], as much as belongs into one batch; returns how many
    /// bytes that was. None when a batch waits to be taken.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Result<usize, SessionError> {
        let mut sealed = 0;
        while sealed < plaintext.len() && self.outgoing.bytes() < BATCH_BYTES {
            self.update_if_due()?;
            let Stage::Open(records) = &mut self.stage else { return Err(SessionError::CannotEncrypt) };
            sealed += records.sealer.seal(&plaintext[sealed..], &mut self.outgoing)?;
        }
        Ok(sealed)
    }

    /// Takes the next key for what is sent, when it is time.
    fn update_if_due(&mut self) -> Result<(), SessionError> {
        if let Stage::Open(records) = &mut self.stage
            && records.sealer.is_update_due()
        {
            records.sealer.update(records.successor.sending()?, &mut self.outgoing);
        }
        Ok(())
    }

    /// Tells the peer that no more plaintext will come, and ends the session here too.
    pub fn close(&mut self) -> Result<(), SessionError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Open(mut records) => Ok(records.sealer.close(&mut self.outgoing)?),
            Stage::Handshake(_) | Stage::Over => Err(SessionError::CannotEncrypt),
        }
    }

    /// Exchanges `buffer`, whose content is spent, for the ciphertext for the socket; returns its length.
    pub fn take_outgoing(&mut self, buffer: &mut Vec<u8>) -> Result<usize, SessionError> {
        // The peer may have asked for a key while there is nothing to send.
        self.update_if_due()?;
        Ok(self.outgoing.take(buffer))
    }

    /// Whether a batch waits for [`Session::take_outgoing`].
    pub fn has_batch(&self) -> bool {
        self.outgoing.bytes() >= BATCH_BYTES
    }

    /// Whether plaintext can be sent. A client learns only later whether the server accepts its certificate.
    pub fn is_established(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// The peer's certificate, once it has proven to own it.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.peer.as_ref()
    }
}
