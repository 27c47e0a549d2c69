//! A cache whose bytes fail their own hash: named, passed over, and told.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bus::SharedBus;
use bus::epochs::Epochs;
use bus::local::LocalBus;
use cluster::host::{Host, HostConfig};
use cluster::pieces::PieceSource;
use control::messages::{Control, Epoch, EpochMember, Invalidation, ItemKind, Role, subjects};
use engine::Local;
use engine::pool::Pool;
use futures::future::LocalBoxFuture;
use transport::message::Response;
use transport::tcp::{Answer, Handler, PeerInfo, Received, SlabPayload};

use crate::house::{PATIENCE, acquainted, liveness, piece, put, start};
use transport::message::Request;

/// Gives pieces under the hash of another, the first time; later ones nobody should ask it for.
struct Liar {
    pool: Pool,
    asked: Cell<u32>,
}

impl Handler for Liar {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        _: Option<Received>,
        _: Option<std::time::Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        Box::pin(async move {
            self.asked.set(self.asked.get() + 1);
            assert!(self.asked.get() == 1, "it is asked again: {request:?}");
            let Request::GetItem { index, .. } = request else { panic!("{request:?}") };
            let payload = SlabPayload::piece(&piece(&self.pool, index));
            Ok((Response::Item { blake3: [7; 32] }, Some(payload)))
        })
    }
}

#[tokio::test]
async fn a_cache_that_gives_wrong_bytes_is_told_and_passed_over() {
    let bus: SharedBus = Arc::new(LocalBus::new());
    let (reader, full) = (start(&bus, Role::PlotServer).await, start(&bus, Role::FullPieceCache).await);
    let config = HostConfig { slabs: 8, liveness: liveness(), ..HostConfig::new(Role::ShardedCache) };
    let make = |local: Local| Rc::new(Liar { pool: local.pool().clone(), asked: Cell::new(0) });
    let liar = Host::start(config, bus.clone(), make).await.unwrap();
    let controller = start(&bus, Role::Controller).await;
    acquainted(&[&reader, &full, &liar, &controller]).await;
    let epoch = Epoch { number: 1, members: vec![EpochMember { id: liar.id(), weight: 1 }], copies: 1 };
    Epochs::open(&*bus).await.unwrap().replace(&epoch, None).await.unwrap();
    let mut complaints = bus.subscribe(subjects::INVALIDATION).await.unwrap();
    let source = PieceSource::start(reader.clone(), false).await.unwrap();
    source.owners().wait_for(|owners| !owners.is_empty()).await.unwrap();
    for index in [5, 6] {
        put(&controller, full.id(), index).await;
        let given = source.once(index).await.unwrap();
        assert_eq!(given.from, full.id());
    }
    let complaint = tokio::time::timeout(PATIENCE, complaints.next()).await.unwrap().unwrap();
    let expected = Invalidation { kind: ItemKind::Piece, piece_index: 5, holder: liar.id() };
    assert_eq!(Invalidation::from_bytes(&complaint.payload), Ok(expected));
    for host in [reader, full, liar, controller] {
        host.shutdown(PATIENCE).await;
    }
}
