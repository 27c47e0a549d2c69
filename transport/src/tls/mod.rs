//! TLS 1.3, both sides with a certificate, each pinned by its fingerprint.
//!
//! A member makes a self-signed certificate when it starts and publishes the fingerprint where only members can
//! write (the cluster's KV). Nobody signs for anybody: a peer is who holds the key of the certificate with the
//! published fingerprint. So verification is two checks, the fingerprint and the handshake's signature; names,
//! dates and chains mean nothing here.
//!
//! Owns: identities, the two verifiers, and [`Session`], TLS without sockets, down to its records. Never: where
//! fingerprints come from.

mod handshake;
pub(crate) mod outgoing;
pub(crate) mod records;
mod session;

pub use handshake::HandshakeError;
pub use records::RecordError;
pub use session::{Received, Session, SessionError};

use crate::role::Role;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Tells this protocol from others in the handshake.
const ALPN: &[u8] = b"autonomys-farmer/1";

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate fingerprint is 64 hexadecimal digits")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAFingerprint)?;
        Ok(Self(bytes))
    }
}

/// Why a peer is not let in, or lets nobody in.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The peer holds another certificate than expected.
    #[error(
        "{peer} presents certificate {presented} where {expected} is expected: \
         is it another member on that address, or was it restarted?"
    )]
    WrongServer {
        /// The peer's address.
        peer: SocketAddr,
        /// What it shows.
        presented: Fingerprint,
        /// What its member entry says.
        expected: Fingerprint,
    },
    /// A client that is no member.
    #[error(
        "{peer} presents certificate {presented}, which no member has published; this member's own is {own}: \
         is the peer of another cluster?"
    )]
    UnknownClient {
        /// The peer's address.
        peer: SocketAddr,
        /// What it shows.
        presented: Fingerprint,
        /// This member's own, to compare with the peer's log.
        own: Fingerprint,
    },
    /// The peer does not let this member in.
    #[error(
        "{peer} does not accept this member's certificate {own}: does the cluster's member list reach it, \
         and does it hold this member?"
    )]
    Refused {
        /// The peer's address.
        peer: SocketAddr,
        /// This member's certificate.
        own: Fingerprint,
    },
    /// Anything else TLS found.
    #[error("TLS with {peer} failed: {error}")]
    Protocol {
        /// The peer's address.
        peer: SocketAddr,
        /// What rustls says.
        error: rustls::Error,
    },
}

/// What a verifier knows when it refuses; carried through rustls to [`TlsError::explain`].
#[derive(Debug, thiserror::Error)]
#[error("certificate {presented} is not known")]
struct Unknown {
    presented: Fingerprint,
    expected: Option<Fingerprint>,
}

impl Unknown {
    fn into_error(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }
}

impl TlsError {
    /// Says which peer an error was about; `own` is this member's fingerprint.
    pub fn explain(error: rustls::Error, peer: SocketAddr, own: Fingerprint) -> Self {
        if let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = &error
            && let Some(unknown) = other.downcast_ref::<Unknown>()
        {
            let presented = unknown.presented;
            return match unknown.expected {
                Some(expected) => Self::WrongServer { peer, presented, expected },
                None => Self::UnknownClient { peer, presented, own },
            };
        }
        match error {
            rustls::Error::AlertReceived(
                AlertDescription::CertificateUnknown
                | AlertDescription::BadCertificate
                | AlertDescription::AccessDenied,
            ) => Self::Refused { peer, own },
            error => Self::Protocol { peer, error },
        }
    }
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// A new self-signed certificate (ECDSA P-256); it lives as long as the process.
    pub fn generate() -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(["autonomys-farmer".to_owned()])?;
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self { fingerprint: Fingerprint::of(&certificate), certificate, key })
    }

    /// To be published.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key().into()
    }
}

/// What a certificate's owner is known as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Its role, which counts whatever it says.
    pub role: Role,
    /// Its id in the cluster, where that is known.
    pub member: Option<[u8; 16]>,
}

impl Pin {
    /// Of a member whose id is not known.
    pub const fn of(role: Role) -> Self {
        Self { role, member: None }
    }
}

/// The certificates a server lets in, and what their owners are; changes while it runs.
#[derive(Debug, Default)]
pub struct Members {
    pins: RwLock<HashMap<Fingerprint, Pin>>,
    changes: AtomicU64,
}

impl Members {
    /// Replaces all. Servers end the connections of those who are no more among them, or are something else now, within a
    /// second.
    pub fn set(&self, members: impl IntoIterator<Item = (Fingerprint, Pin)>) {
        let members = members.into_iter().collect();
        let mut pins = self.pins.write().unwrap_or_else(PoisonError::into_inner);
        if *pins != members {
            *pins = members;
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// What the owner of a certificate is, if it is let in.
    pub fn pin_of(&self, fingerprint: &Fingerprint) -> Option<Pin> {
        self.pins.read().unwrap_or_else(PoisonError::into_inner).get(fingerprint).copied()
    }

    /// Grows with each change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

/// Ciphers that the records know, the cheapest first: a server takes the client's first choice.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384];
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

/// Settings of a client that talks to the one server with `expected`.
pub fn client_config(identity: &Identity, expected: Fingerprint) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(provider());
    let verifier = Arc::new(PinnedServer { expected, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every connection proves its key anew.
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    // The records need the keys.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// Settings of a server that lets `members` in.
pub fn server_config(identity: &Identity, members: Arc<Members>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(provider());
    let verifier = Arc::new(PinnedClients { members, provider: provider.clone() });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// TLS 1.2 is not offered, so its signatures never come.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(PeerIncompatible::Tls12NotOffered.into())
}

#[derive(Debug)]
struct PinnedServer {
    expected: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Fingerprint::of(certificate);
        if presented == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Unknown { presented, expected: Some(self.expected) }.into_error())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct PinnedClients {
    members: Arc<Members>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for PinnedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let presented = Fingerprint::of(certificate);
        if self.members.pin_of(&presented).is_some() {
            return Ok(ClientCertVerified::assertion());
        }
        Err(Unknown { presented, expected: None }.into_error())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
