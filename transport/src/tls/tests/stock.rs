//! Our records against rustls' own at the other end: as client and as server, both ways, over changes of key.

use super::*;
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::{ClientConnection, Connection, ServerConnection, SupportedCipherSuite};
use std::io::{ErrorKind, Read, Write};

const ROUNDS: usize = 12;

/// The other end, with `suites` alone, in their order.
fn stock(is_server: bool, us: &Identity, them: &Identity, suites: &[SupportedCipherSuite]) -> Connection {
    let provider = CryptoProvider { cipher_suites: suites.to_vec(), ..ring::default_provider() };
    let provider = Arc::new(provider);
    let chain = vec![them.certificate.clone()];
    if is_server {
        let members = Arc::new(Members::default());
        members.set([(us.fingerprint(), Pin::of(Role::Tool))]);
        let verifier = Arc::new(PinnedClients { members, provider: provider.clone() });
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let builder = builder.with_client_cert_verifier(verifier);
        let mut config = builder.with_single_cert(chain, them.key()).unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        ServerConnection::new(Arc::new(config)).unwrap().into()
    } else {
        let verifier = Arc::new(PinnedServer { expected: us.fingerprint(), provider: provider.clone() });
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_client_auth_cert(chain, them.key()).unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        ClientConnection::new(Arc::new(config), ServerName::IpAddress(address().ip().into())).unwrap().into()
    }
}

struct Talk {
    ours: End,
    theirs: Connection,
    their_plain: Vec<u8>,
}

impl Talk {
    fn new(we_serve: bool, suites: &[SupportedCipherSuite], records_a_key: u64) -> Self {
        let (us, them) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let Pair { client, server } = pair(&us, &us, them.fingerprint(), &[them.fingerprint()]);
        let mut ours = if we_serve { server } else { client };
        ours.session = ours.session.with_records_a_key(records_a_key);
        let mut theirs = stock(!we_serve, &us, &them, suites);
        theirs.set_buffer_limit(None);
        Self { ours, theirs, their_plain: Vec::new() }
    }

    /// Carries what there is, both ways, in pieces of `segment` bytes; what is wrong at our side.
    fn carry(&mut self, segment: usize) -> Result<(), SessionError> {
        let mut to_us = Vec::new();
        while self.theirs.wants_write() {
            self.theirs.write_tls(&mut to_us).unwrap();
        }
        let taken = self.ours.take(&to_us, segment);
        let outgoing = self.ours.outgoing();
        let mut to_them = &outgoing[..];
        while !to_them.is_empty() {
            self.theirs.read_tls(&mut to_them).unwrap();
            // An alert of ours is an error there.
            let _ = self.theirs.process_new_packets();
            match self.theirs.reader().read_to_end(&mut self.their_plain) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => drop(read.unwrap()),
            }
        }
        taken
    }

    fn shake_hands(&mut self) -> Result<(), SessionError> {
        (0..4).try_for_each(|_| self.carry(77))?;
        assert!(self.ours.session.is_established() && !self.theirs.is_handshaking());
        Ok(())
    }
}

fn bytes(count: usize, salt: usize) -> Vec<u8> {
    (0..count).map(|at| (((at + salt) * 31) >> 3) as u8).collect()
}

/// Keys change after every five records of ours, and after every round of theirs, who ask us for one then.
#[test]
fn both_roles_and_ciphers_both_ways_over_changes_of_key() {
    for we_serve in [false, true] {
        for suite in [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384] {
            let mut talk = Talk::new(we_serve, &[suite], 5);
            talk.shake_hands().unwrap();
            assert_eq!(talk.theirs.negotiated_cipher_suite(), Some(suite));
            for round in 0..ROUNDS {
                let (to_them, to_us) = (bytes(150_000 + round, round), bytes(140_000 - round, round));
                let sealed = talk.ours.encrypt(&to_them);
                talk.theirs.read_all(&sealed, &mut talk.their_plain);
                talk.theirs.writer().write_all(&to_us).unwrap();
                talk.theirs.refresh_traffic_keys().unwrap();
                talk.carry([1000, usize::MAX][round % 2]).unwrap();
                assert!(std::mem::take(&mut talk.their_plain) == to_them, "round {round}");
                assert!(std::mem::take(&mut talk.ours.plain) == to_us, "round {round}");
            }
            talk.theirs.send_close_notify();
            talk.carry(3).unwrap();
            assert!(talk.ours.peer_closed);
        }
    }
}

trait ReadAll {
    fn read_all(&mut self, ciphertext: &[u8], plain: &mut Vec<u8>);
}

impl ReadAll for Connection {
    fn read_all(&mut self, mut ciphertext: &[u8], plain: &mut Vec<u8>) {
        while !ciphertext.is_empty() {
            self.read_tls(&mut ciphertext).unwrap();
            self.process_new_packets().unwrap();
            match self.reader().read_to_end(plain) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => drop(read.unwrap()),
            }
        }
    }
}

/// One way only: the peer gets the key that it asked for though there is nothing to send.
#[test]
fn an_idle_side_answers_a_change_of_key_once() {
    let mut talk = Talk::new(true, &[TLS13_AES_128_GCM_SHA256], 1000);
    talk.shake_hands().unwrap();
    let mut to_us = Vec::new();
    for _ in 0..8 {
        talk.theirs.writer().write_all(b"payload").unwrap();
        talk.theirs.refresh_traffic_keys().unwrap();
        while talk.theirs.wants_write() {
            talk.theirs.write_tls(&mut to_us).unwrap();
        }
    }
    talk.ours.take(&to_us, 50).unwrap();
    assert_eq!(talk.ours.plain, b"payload".repeat(8));
    let answer = talk.ours.outgoing();
    assert_eq!(answer.len(), 5 + 5 + 1 + 16, "one record");
    talk.theirs.read_all(&answer, &mut talk.their_plain);
    assert!(talk.ours.outgoing().is_empty());
    let sealed = talk.ours.encrypt(b"with the next key");
    talk.theirs.read_all(&sealed, &mut talk.their_plain);
    assert_eq!(talk.their_plain, b"with the next key");
}

#[test]
fn our_close_and_our_alerts_are_understood() {
    let mut talk = Talk::new(false, &[TLS13_AES_128_GCM_SHA256], 1000);
    talk.shake_hands().unwrap();
    talk.ours.session.close().unwrap();
    let farewell = talk.ours.outgoing();
    let mut farewell = &farewell[..];
    talk.theirs.read_tls(&mut farewell).unwrap();
    assert!(talk.theirs.process_new_packets().unwrap().peer_has_closed());

    let mut talk = Talk::new(false, &[TLS13_AES_128_GCM_SHA256], 1000);
    talk.shake_hands().unwrap();
    talk.theirs.writer().write_all(b"payload").unwrap();
    let mut to_us = Vec::new();
    talk.theirs.write_tls(&mut to_us).unwrap();
    to_us[9] ^= 1;
    let error = talk.ours.take(&to_us, usize::MAX).unwrap_err();
    assert!(matches!(error, SessionError::Record(RecordError::NotAuthentic)), "{error}");
    assert!(talk.ours.plain.is_empty());
    let alert = talk.ours.outgoing();
    talk.theirs.read_tls(&mut &alert[..]).unwrap();
    let told = talk.theirs.process_new_packets().unwrap_err();
    assert_eq!(told, rustls::Error::AlertReceived(AlertDescription::BadRecordMac));
    let after = talk.ours.take(&[], 1).unwrap_err();
    assert!(matches!(after, SessionError::Record(RecordError::Over)), "{after}");
}

/// Of a member of the release before, which prefers AES-256, and of one that knows neither.
#[test]
fn ciphers_are_agreed_on_or_the_handshake_fails() {
    let older = [TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];
    for (we_serve, agreed) in [(true, older[0]), (false, older[1])] {
        let mut talk = Talk::new(we_serve, &older, 1000);
        talk.shake_hands().unwrap();
        assert_eq!(talk.theirs.negotiated_cipher_suite(), Some(agreed));
        let sealed = talk.ours.encrypt(b"payload");
        talk.theirs.read_all(&sealed, &mut talk.their_plain);
        assert_eq!(talk.their_plain, b"payload");
        let mut neither = Talk::new(we_serve, &older[2..], 1000);
        assert!(matches!(neither.shake_hands(), Err(SessionError::Tls(_))));
    }
}

/// Payload that comes in one piece with the last message of the handshake is not lost.
#[test]
fn payload_right_behind_the_handshake_arrives() {
    let mut talk = Talk::new(true, &[TLS13_AES_128_GCM_SHA256], 1000);
    talk.theirs.writer().write_all(b"at once").unwrap();
    for _ in 0..3 {
        talk.carry(usize::MAX).unwrap();
    }
    assert_eq!(talk.ours.plain, b"at once");
}
