//! `sharded-cache` and `full-piece-sharded-cache`.

use std::rc::Rc;
use std::time::Duration;

use bus::SharedBus;
use cluster::host::{Host, HostConfig, HostError, ServesNothing};
use consensus::constants::PIECE_SIZE;
use control::ids::InstanceId;
use control::messages::{CacheCounters, Control, Role, subjects};
use engine::piece_store::{RECORD_AT, SLOT_BYTES};
use engine::pool::{Slab, SlabMut};
use transport::message::{ItemKind, Layout, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{PIECE_POINTS_AT, PIECE_RECORD_AT, SlabPayload};

use crate::nats_server::NatsServer;
use crate::process::{PATIENCE, Process, development_cluster, joined};

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
    let host = Host::start(host, bus.clone(), |_| Rc::new(ServesNothing)).await.unwrap();
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

/// A cache with memory, in a group by the name that operators know: the second time a piece comes from memory, and the benchmark's question
/// is answered.
#[tokio::test]
async fn a_cache_with_memory_reads_a_piece_once() {
    let nats = NatsServer::start();
    let bus = development_cluster(&nats).await;
    let host = HostConfig { slabs: 8, ..HostConfig::new(Role::Controller) };
    let host = Host::start(host, bus.clone(), |_| Rc::new(ServesNothing)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = format!("path={},size=4MiB", folder.path().display());
    let first = Process::start(&nats, &["sharded-cache", &path]);
    let id = joined(&bus, Role::ShardedCache).await.id;
    let piece = piece(&host, 5);
    let put =
        Request::PutItem { index: 5, kind: ItemKind::Piece, blake3: SlabPayload::piece(&piece).blake3() };
    ask(&host, id, put, vec![piece.clone()]).await.unwrap();
    assert!(first.terminate().success());

    let line = ["full-piece-sharded-cache", "--mem-cache", "16MiB", "--cache-group", "rack-1", &path];
    let cache = Process::start(&nats, &line);
    let entry = joined(&bus, Role::FullPieceCache).await;
    assert_eq!((entry.id, &*entry.group), (id, "rack-1"));
    for mem_hits in 0..3 {
        let get = Request::GetItem { index: 5, kind: ItemKind::Piece };
        let (_, slab) = ask(&host, id, get, vec![]).await.unwrap();
        let range = PIECE_POINTS_AT..PIECE_POINTS_AT + PIECE_SIZE;
        assert!(slab.unwrap()[range.clone()] == piece[range]);
        let answer = bus.request(&subjects::cache_counters(id), "".into(), PATIENCE).await.unwrap();
        let now = CacheCounters::from_bytes(&answer).unwrap();
        assert_eq!((now.mem_capacity, now.mem_items), (8, 1));
        assert_eq!((now.hits, now.mem_hits, now.mem_misses), (mem_hits + 1, mem_hits, 1));
    }
    assert!(cache.terminate().success());
    host.shutdown(PATIENCE).await;
}

/// A cache as a process, and a member that asks it.
struct Shelf<'a> {
    nats: &'a NatsServer,
    bus: &'a SharedBus,
    host: &'a Host,
    line: String,
}

impl Shelf<'_> {
    /// Runs the cache and asks it for pieces; which of them it has.
    async fn holds(&self, puts: bool, tmp: bool) -> Vec<u64> {
        let line = ["sharded-cache", &self.line, "--tmp"];
        let cache = Process::start(self.nats, if tmp { &line } else { &line[..2] });
        let id = joined(self.bus, Role::ShardedCache).await.id;
        let mut held = Vec::new();
        for index in 0..3 {
            let piece = piece(self.host, index);
            if puts {
                let blake3 = SlabPayload::piece(&piece).blake3();
                let put = Request::PutItem { index, kind: ItemKind::Piece, blake3 };
                ask(self.host, id, put, vec![piece.clone()]).await.unwrap();
            }
            match ask(self.host, id, Request::GetItem { index, kind: ItemKind::Piece }, vec![]).await {
                Ok((_, slab)) => {
                    let range = PIECE_POINTS_AT..PIECE_POINTS_AT + PIECE_SIZE;
                    assert!(slab.unwrap()[range.clone()] == piece[range], "never other bytes");
                    held.push(index);
                }
                Err(error) => assert_eq!(error.refusal(), Some(RefusalCode::NotFound), "{error}"),
            }
        }
        assert!(cache.terminate().success());
        held
    }
}

/// The slot in which a piece lies.
fn slot_of(items: &[u8], host: &Host, index: u64) -> usize {
    let piece = piece(host, index);
    let record = &piece[PIECE_RECORD_AT..PIECE_RECORD_AT + 4096];
    let slots = items.chunks(SLOT_BYTES);
    slots.into_iter().position(|slot| slot[RECORD_AT..].starts_with(record)).unwrap()
}

#[tokio::test]
async fn damaged_slots_cost_their_own_pieces_and_are_never_served() {
    let nats = NatsServer::start();
    let bus = development_cluster(&nats).await;
    let host = HostConfig { slabs: 8, ..HostConfig::new(Role::Controller) };
    let host = Host::start(host, bus.clone(), |_| Rc::new(ServesNothing)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (items, id) = (folder.path().join("items.bin"), folder.path().join("id"));
    let line = format!("path={},size=4MiB", folder.path().display());
    let shelf = Shelf { nats: &nats, bus: &bus, host: &host, line };
    assert_eq!(shelf.holds(true, false).await, [0, 1, 2]);
    let whole = std::fs::read(&items).unwrap();
    let slot = |index| slot_of(&whole, &host, index) * SLOT_BYTES;
    let damage = |at: usize| {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&items, damaged).unwrap();
    };
    for tmp in [false, true] {
        // In its header, and in its record.
        for at in [3, RECORD_AT + 70_000] {
            damage(slot(1) + at);
            assert_eq!(shelf.holds(false, tmp).await, [0, 2], "byte {at} of a slot");
            assert_eq!(shelf.holds(false, tmp).await, [0, 2], "and it is forgotten");
        }
        let last = (0..3).find(|index| slot(*index) == 2 * SLOT_BYTES).unwrap();
        std::fs::write(&items, &whole[..2 * SLOT_BYTES + 100]).unwrap();
        let others: Vec<_> = (0..3).filter(|index| *index != last).collect();
        assert_eq!(shelf.holds(false, tmp).await, others, "its file is cut off");
    }
    // Room is found again for what is missing.
    assert_eq!(shelf.holds(true, false).await, [0, 1, 2]);
    std::fs::write(&id, "nonsense").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    let output =
        command.args(["cluster", "--nats-server", &nats.url(), "sharded-cache", &shelf.line]).output();
    let text = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(text.contains(id.to_str().unwrap()) && text.contains("remove the file"), "{text}");
    host.shutdown(PATIENCE).await;
}
