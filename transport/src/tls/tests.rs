use super::*;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// One end, what it got, and ciphertext that it has not used yet.
struct End {
    session: Session,
    waiting: Vec<u8>,
    plain: Vec<u8>,
    peer_closed: bool,
}

impl End {
    fn new(session: Session) -> Self {
        Self { session, waiting: Vec::new(), plain: Vec::new(), peer_closed: false }
    }

    /// Takes `ciphertext` as it comes in pieces of `segment` bytes.
    fn take(&mut self, ciphertext: &[u8], segment: usize) -> Result<(), SessionError> {
        if ciphertext.is_empty() {
            return self.work();
        }
        ciphertext.chunks(segment).try_for_each(|part| {
            self.waiting.extend_from_slice(part);
            self.work()
        })
    }

    fn work(&mut self) -> Result<(), SessionError> {
        // Some records fit, some do not.
        let mut place = vec![0; 20_000];
        loop {
            let (used, received) = self.session.receive(&mut self.waiting, &mut place)?;
            self.waiting.drain(..used);
            match received {
                Received::More => return Ok(()),
                Received::Plaintext(count) => self.plain.extend_from_slice(&place[..count]),
                Received::Closed => {
                    self.peer_closed = true;
                    return Ok(());
                }
            }
        }
    }

    fn encrypt(&mut self, mut plain: &[u8]) -> Vec<u8> {
        let mut ciphertext = self.outgoing();
        while !plain.is_empty() {
            let sealed = self.session.encrypt(plain).unwrap();
            plain = &plain[sealed..];
            ciphertext.extend(self.outgoing());
        }
        ciphertext
    }

    fn outgoing(&mut self) -> Vec<u8> {
        let mut ciphertext = Vec::new();
        let length = self.session.take_outgoing(&mut ciphertext).unwrap();
        ciphertext.truncate(length);
        ciphertext
    }
}

struct Pair {
    client: End,
    server: End,
}

fn address() -> SocketAddr {
    "10.1.2.3:4567".parse().unwrap()
}

fn pair(client: &Identity, server: &Identity, expected: Fingerprint, members: &[Fingerprint]) -> Pair {
    let known = Arc::new(Members::default());
    known.set(members.iter().map(|member| (*member, Pin::of(Role::PlotClient))));
    Pair {
        client: End::new(Session::client(client_config(client, expected).unwrap(), address().ip()).unwrap()),
        server: End::new(Session::server(server_config(server, known).unwrap()).unwrap()),
    }
}

impl Pair {
    /// The error of the client and of the server, if any.
    fn shake_hands(&mut self) -> (Option<SessionError>, Option<SessionError>) {
        self.client.take(&[], 1).unwrap();
        for _ in 0..4 {
            let at_server = self.server.take(&self.client.outgoing(), 100).err();
            let at_client = self.client.take(&self.server.outgoing(), 100).err();
            if at_server.is_some() || at_client.is_some() {
                return (at_client, at_server);
            }
        }
        (None, None)
    }
}

fn explain(error: SessionError, own: &Identity) -> TlsError {
    match error {
        SessionError::Tls(error) => TlsError::explain(error, address(), own.fingerprint()),
        other => panic!("{other}"),
    }
}

mod stock;

#[test]
fn members_talk_both_ways() {
    let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut pair = pair(&a, &b, b.fingerprint(), &[a.fingerprint()]);
    assert!(matches!(pair.shake_hands(), (None, None)));
    assert!(pair.client.session.is_established() && pair.server.session.is_established());
    assert_eq!(pair.server.session.peer_certificate(), Some(&a.certificate));
    assert_eq!(pair.client.session.peer_certificate(), Some(&b.certificate));
    let bytes: Vec<u8> = (0..700_000u32).map(|at| (at % 251) as u8).collect();
    for segment in [1, 1000, usize::MAX] {
        let part = if segment == 1 { &bytes[..40_000] } else { &bytes[..] };
        let (to_server, to_client) = (pair.client.encrypt(part), pair.server.encrypt(part));
        pair.server.take(&to_server, segment).unwrap();
        pair.client.take(&to_client, segment).unwrap();
        assert!(std::mem::take(&mut pair.server.plain) == part);
        assert!(std::mem::take(&mut pair.client.plain) == part);
    }
    pair.client.session.close().unwrap();
    let farewell = pair.client.outgoing();
    pair.server.take(&farewell, 7).unwrap();
    assert!(pair.server.peer_closed && !pair.client.peer_closed);
    assert!(matches!(pair.client.session.encrypt(&bytes), Err(SessionError::CannotEncrypt)));
}

#[test]
fn server_with_another_certificate_is_named() {
    let (a, b, c) =
        (Identity::generate().unwrap(), Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut pair = pair(&a, &b, c.fingerprint(), &[a.fingerprint()]);
    let error = explain(pair.shake_hands().0.unwrap(), &a);
    let text = error.to_string();
    assert!(matches!(error, TlsError::WrongServer { .. }), "{text}");
    assert!(text.contains("10.1.2.3:4567"), "{text}");
    assert!(
        text.contains(&b.fingerprint().to_string()) && text.contains(&c.fingerprint().to_string()),
        "{text}"
    );
}

#[test]
fn client_that_is_no_member_is_named_and_told() {
    let (a, b, c) =
        (Identity::generate().unwrap(), Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut pair = pair(&a, &b, b.fingerprint(), &[c.fingerprint()]);
    let (told, error) = pair.shake_hands();
    let error = explain(error.unwrap(), &b);
    let text = error.to_string();
    assert!(matches!(explain(told.unwrap(), &a), TlsError::Refused { .. }));
    assert!(matches!(error, TlsError::UnknownClient { .. }), "{text}");
    assert!(text.contains("10.1.2.3:4567"), "{text}");
    assert!(
        text.contains(&a.fingerprint().to_string()) && text.contains(&b.fingerprint().to_string()),
        "{text}"
    );
}

/// Somebody who copied a member's certificate but has not its key.
#[test]
fn a_stolen_certificate_is_not_enough() {
    let (a, b, thief) =
        (Identity::generate().unwrap(), Identity::generate().unwrap(), Identity::generate().unwrap());
    let key = rustls::crypto::ring::sign::any_supported_type(&thief.key()).unwrap();
    let bad_signature = rustls::Error::InvalidCertificate(CertificateError::BadSignature);
    let is_bad_signature = |error: Option<SessionError>| matches!(error, Some(SessionError::Tls(error)) if error == bad_signature);
    let stolen = |of: &Identity| {
        let pair = CertifiedKey::new(vec![of.certificate.clone()], key.clone());
        Arc::new(SingleCertAndKey::from(pair))
    };

    let mut as_client = pair(&a, &b, b.fingerprint(), &[a.fingerprint()]);
    let mut config = Arc::unwrap_or_clone(client_config(&thief, b.fingerprint()).unwrap());
    config.client_auth_cert_resolver = stolen(&a);
    as_client.client.session = Session::client(Arc::new(config), address().ip()).unwrap();
    assert!(is_bad_signature(as_client.shake_hands().1));

    let mut as_server = pair(&a, &b, b.fingerprint(), &[a.fingerprint()]);
    let mut config = Arc::unwrap_or_clone(server_config(&thief, Arc::default()).unwrap());
    config.cert_resolver = stolen(&b);
    as_server.server.session = Session::server(Arc::new(config)).unwrap();
    assert!(is_bad_signature(as_server.shake_hands().0));
}

#[test]
fn a_client_without_certificate_is_refused() {
    let b = Identity::generate().unwrap();
    let mut pair = pair(&b, &b, b.fingerprint(), &[b.fingerprint()]);
    let mut config = Arc::unwrap_or_clone(client_config(&b, b.fingerprint()).unwrap());
    config.client_auth_cert_resolver =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
            .client_auth_cert_resolver;
    pair.client.session = Session::client(Arc::new(config), address().ip()).unwrap();
    assert!(matches!(pair.shake_hands().1, Some(SessionError::Tls(rustls::Error::NoCertificatesPresented))));
}

#[test]
fn fingerprints_are_text_and_back() {
    let fingerprint = Identity::generate().unwrap().fingerprint();
    assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    assert_eq!("12".parse::<Fingerprint>(), Err(NotAFingerprint));
    assert_eq!("zz".repeat(32).parse::<Fingerprint>(), Err(NotAFingerprint));
}

/// Damaged and random ciphertext in every state: an error at the latest when the handshake should be done, never a panic.
#[test]
fn damaged_ciphertext_is_an_error() {
    let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut seed = 7u64;
    let mut random = move |bound: usize| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as usize % bound
    };
    let mut failures = 0;
    for case in 0..300 {
        let mut pair = pair(&a, &b, b.fingerprint(), &[a.fingerprint()]);
        pair.client.take(&[], 1).unwrap();
        let damaged_turn = random(6);
        let mut failed = false;
        for turn in 0..6 {
            let (from, to) = match turn % 2 {
                0 => (&mut pair.client, &mut pair.server),
                _ => (&mut pair.server, &mut pair.client),
            };
            let _ = from.session.encrypt(b"some plaintext");
            let mut ciphertext = from.outgoing();
            if turn == damaged_turn && !ciphertext.is_empty() {
                let length = ciphertext.len();
                match case % 3 {
                    0 => ciphertext[random(length)] ^= 1 << random(8),
                    1 => ciphertext = (0..1 + random(300)).map(|_| random(256) as u8).collect(),
                    _ => drop(ciphertext.drain(..1 + random(length))),
                }
            }
            failed |= to.take(&ciphertext, 1 + random(2000)).is_err();
            if turn > 3 {
                let _ = to.session.close();
            }
        }
        failures += usize::from(failed);
    }
    assert!(failures > 150, "{failures}");
}
