//! Who is who: the role of the certificate counts, and those who are members no more are cut off.

use crate::house::{Library, PATIENCE, bind_strictly, on_executor};
use engine::Local;
use engine::task::{LocalTask, sleep, spawn_local};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use transport::connection::Config;
use transport::message::{ItemKind, RefusalCode, Request, Role};
use transport::payload::PayloadBuf;
use transport::tcp::{Client, ClientConfig, ClientError, ServerLock, ServerPin, SlabPayload};
use transport::tls::{Identity, Members, Pin};

const RANGE: Request = Request::GetSectorRange { staging: [1; 16], phase: 0, offset: 0, length: 100 };

/// A server with the rights of a cluster, and the members it knows.
struct Strict {
    server: Arc<Identity>,
    members: Arc<Members>,
    address: SocketAddr,
    library: Rc<Library>,
    _serving: LocalTask<()>,
}

impl Strict {
    fn new(local: &Local) -> Self {
        let (server, members) = (Arc::new(Identity::generate().unwrap()), Arc::new(Members::default()));
        let lock = ServerLock::Certificates(server.clone(), members.clone());
        let (socket, address) = bind_strictly(lock, local.pool(), Config::new(Role::ShardedCache, "strict"));
        let library = Rc::new(Library::new(local.pool().clone(), Arc::default()));
        let serving = spawn_local(socket.serve(library.clone(), std::future::pending()));
        Self { server, members, address, library, _serving: serving }
    }

    /// A client with this certificate that says it is `said`.
    fn client(&self, identity: &Arc<Identity>, said: Role, local: &Local) -> Client {
        let pin = ServerPin::Certificate(identity.clone(), self.server.fingerprint());
        Client::new(ClientConfig::new([self.address], pin, Config::new(said, "client")), local.pool().clone())
    }
}

fn identity() -> Arc<Identity> {
    Arc::new(Identity::generate().unwrap())
}

/// A member of the wrong role: refused by code, no handler hears of it, and what it may ask goes on.
#[test]
fn the_certificates_role_has_the_rights() {
    on_executor(8, |local| async move {
        let strict = Strict::new(&local);
        let member = identity();
        strict.members.set([(member.fingerprint(), Pin::of(Role::PlotClient))]);
        let client = strict.client(&member, Role::PlotClient, &local);
        client.request(RANGE, None, PATIENCE).await.unwrap();
        let piece = local.pool().acquire().await.unwrap().freeze();
        let payload = SlabPayload::piece(&piece);
        let put = Request::PutItem { index: 1, kind: ItemKind::Piece, blake3: payload.blake3() };
        let error = client.request(put, Some(payload), PATIENCE).await.unwrap_err();
        let ClientError::Refused { refusal, .. } = error else { panic!("{error}") };
        assert_eq!(refusal.code, RefusalCode::Invalid);
        assert!(refusal.text.starts_with("a plot-client may not ask this"), "{refusal}");
        client.request(RANGE, None, PATIENCE).await.unwrap();
        assert_eq!(strict.library.started.get(), 2);
    });
}

/// Who says that it is something else is not let in.
#[test]
fn a_hello_that_contradicts_the_certificate_is_refused() {
    on_executor(8, |local| async move {
        let strict = Strict::new(&local);
        let member = identity();
        strict.members.set([(member.fingerprint(), Pin::of(Role::PlotClient))]);
        let client = strict.client(&member, Role::Controller, &local);
        let error = client.request(RANGE, None, PATIENCE).await.unwrap_err();
        let told = "says that it is a controller, its certificate is that of a plot-client";
        assert!(told_in_the_end(&client, error, told).await);
        assert_eq!(strict.library.started.get(), 0);
    });
}

/// The connection may be open for a moment on the client's side, for the server's hello was under way.
async fn told_in_the_end(client: &Client, mut error: ClientError, told: &str) -> bool {
    for _ in 0..100 {
        if error.to_string().contains(told) {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
        match client.request(RANGE, None, PATIENCE).await {
            Ok(_) => return false,
            Err(next) => error = next,
        }
    }
    panic!("{error}");
}

/// Withdrawn in the middle of a request, given another role, or replaced by a new certificate: over, and the others stay.
#[test]
fn whoever_is_withdrawn_is_cut_off() {
    let pin = |identity: &Identity, role| (identity.fingerprint(), Pin::of(role));
    on_executor(8, move |local| async move {
        let strict = Strict::new(&local);
        let (stays, leaves, changes) = (identity(), identity(), identity());
        let client = |identity| strict.client(identity, Role::PlotClient, &local);
        let [staying, leaving, changing] = [&stays, &leaves, &changes].map(client);
        let all = [&stays, &leaves, &changes].map(|identity| pin(identity, Role::PlotClient));
        strict.members.set(all);
        let for_ever = Request::GetSectorMetadata { staging: [1; 16] };
        let asking: Vec<_> = [&staying, &leaving, &changing]
            .map(|client| {
                let (client, request) = (client.clone(), for_ever.clone());
                spawn_local(async move { client.request(request, None, PATIENCE).await.unwrap_err() })
            })
            .into();
        strict.library.wait_for(3).await;
        // The same members again, and one more, end nothing.
        strict.members.set(all);
        strict.members.set(all.into_iter().chain([pin(&identity(), Role::Tool)]));
        sleep(Duration::from_millis(500)).await;
        assert_eq!(strict.library.dropped.get(), 0);
        strict.members.set([pin(&stays, Role::PlotClient), pin(&changes, Role::ProofServer)]);
        let mut asking = asking.into_iter();
        let of_stays = asking.next().unwrap();
        for asked in asking {
            let error = asked.await;
            assert!(!matches!(error, ClientError::TimedOut { .. }), "{error}");
            assert!(error.to_string().contains("the member list no longer has this certificate"), "{error}");
        }
        assert_eq!(strict.library.dropped.get(), 2);
        staying.request(RANGE, None, PATIENCE).await.unwrap();
        let error = leaving.request(RANGE, None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        of_stays.cancel().await;
    });
}
