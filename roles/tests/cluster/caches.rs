//! `sharded-cache` and `full-piece-sharded-cache`.

use std::rc::Rc;
use std::time::Duration;

use consensus::constants::PIECE_SIZE;
use engine::pool::{Slab, SlabMut};
use futures::future::LocalBoxFuture;
use roles::bus::ids::InstanceId;
use roles::bus::messages::Role;
use roles::host::{Host, HostConfig, HostError};
use transport::message::{ItemKind, Layout, Refusal, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{Answer, Handler, PIECE_POINTS_AT, PeerInfo, Received, SlabPayload};

use crate::nats_server::NatsServer;
use crate::process::{PATIENCE, Process, development_cluster, joined};

/// Serves nothing: a member that only asks.
struct Asker;

impl Handler for Asker {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        _: Request,
        _: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        Box::pin(async { Err(Refusal::new(RefusalCode::Invalid, "nothing is served here")) })
    }
}

fn piece(host: &Host, index: u64) -> Slab {
    let mut slab = host.pool().try_acquire().unwrap();
    for (at, byte) in slab[PIECE_POINTS_AT..].iter_mut().enumerate() {
        *byte = (at as u64 / 3 * (index + 1)) as u8;
    }
    slab.freeze()
}

/// Asks until the cache has seen that this member belongs to the cluster, and has opened its store.
async fn ask(
    host: &Host,
    peer: InstanceId,
    request: Request,
    payload: Vec<Slab>,
) -> Result<(Response, Option<Slab>), HostError> {
    let asking = async {
        loop {
            let asked = host.request(peer, request.clone(), payload.clone(), Layout::Piece, PATIENCE).await;
            match asked {
                Ok(reply) => return Ok((reply.response, reply.payload.map(SlabMut::freeze))),
                Err(error) if error.refusal().is_none_or(|code| code == RefusalCode::NotReady) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}

#[tokio::test]
async fn a_cache_keeps_its_pieces_and_its_id() {
    let nats = NatsServer::start();
    let bus = development_cluster(&nats).await;
    let host = HostConfig { slabs: 8, ..HostConfig::new(Role::Controller) };
    let host = Host::start(host, bus.clone(), |_| Rc::new(Asker)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = format!("path={},size=4MiB", folder.path().join("cache").display());
    let lines: [(Role, &[&str]); 2] = [
        (Role::ShardedCache, &["sharded-cache", &path]),
        (Role::FullPieceCache, &["full-piece-sharded-cache", "--tmp", &path]),
    ];
    let mut ids = Vec::new();
    for (role, line) in lines {
        let cache = Process::start(&nats, line);
        let entry = joined(&bus, role).await;
        assert_eq!(entry.capacity, 3, "pieces that fit 4 MiB");
        let get = |index| Request::GetItem { index, kind: ItemKind::Piece };
        if ids.is_empty() {
            let error = ask(&host, entry.id, get(5), vec![]).await.unwrap_err();
            assert_eq!(error.refusal(), Some(RefusalCode::NotFound), "{error}");
            for (damage, outcome) in [(1, Some(RefusalCode::Damaged)), (0, None)] {
                let piece = piece(&host, 5);
                let mut blake3 = SlabPayload::piece(&piece).blake3();
                blake3[0] ^= damage;
                let put = Request::PutItem { index: 5, kind: ItemKind::Piece, blake3 };
                let answer = ask(&host, entry.id, put, vec![piece]).await;
                assert_eq!(answer.err().and_then(|error| error.refusal()), outcome);
            }
        }
        // The second cache is the first one's directory under another role: what was stored is served.
        let (_, slab) = ask(&host, entry.id, get(5), vec![]).await.unwrap();
        let expected = piece(&host, 5);
        assert!(slab.unwrap()[PIECE_POINTS_AT..] == expected[PIECE_POINTS_AT..PIECE_POINTS_AT + PIECE_SIZE]);
        ids.push(entry.id);
        assert!(cache.terminate().success());
    }
    assert_eq!(ids[0], ids[1], "a directory is one cache");
    host.shutdown(PATIENCE).await;
}
