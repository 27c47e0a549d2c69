//! A piece is found wherever it is.

use crate::house::{PATIENCE, acquainted, piece, put, start};
use bus::SharedBus;
use bus::epochs::Epochs;
use bus::local::LocalBus;
use cluster::pieces::PieceSource;
use control::messages::{Epoch, EpochMember, ItemKind, Role};
use std::sync::Arc;
use std::time::Duration;
use transport::payload::PayloadBuf;
use transport::tcp::{PIECE_POINTS_AT, SlabPayload};

#[tokio::test]
async fn the_owner_the_next_owner_a_full_cache_or_a_controller_has_it() {
    let bus: SharedBus = Arc::new(LocalBus::new());
    let roles = [Role::ShardedCache, Role::ShardedCache, Role::FullPieceCache, Role::Controller];
    let mut hosts = Vec::new();
    for role in roles {
        hosts.push(start(&bus, role).await);
    }
    let server = start(&bus, Role::PlotServer).await;
    hosts.push(server.clone());
    acquainted(&hosts.iter().collect::<Vec<_>>()).await;
    let mut members = [0, 1].map(|cache: usize| EpochMember { id: hosts[cache].id(), weight: 1 }).to_vec();
    members.sort_by_key(|member| member.id);
    Epochs::open(&*bus).await.unwrap().replace(&Epoch { number: 1, members, copies: 1 }, None).await.unwrap();

    let source = PieceSource::start(server.clone(), false).await.unwrap();
    let near_first = PieceSource::start(server.clone(), true).await.unwrap();
    for source in [&source, &near_first] {
        let mut owners = source.owners();
        owners.wait_for(|owners| !owners.of(ItemKind::Piece, 0, 1).is_empty()).await.unwrap();
    }
    let owners = source.owners();
    let by_rank = owners.borrow().of(ItemKind::Piece, 7, 2);
    let holders = [by_rank[0], by_rank[1], hosts[2].id(), hosts[3].id()];
    for (index, holder) in [7, 7 + 100, 7 + 200, 7 + 300].into_iter().zip(holders) {
        put(&hosts[3], holder, index).await;
        let (found, hash) =
            tokio::time::timeout(PATIENCE, source.get(index, &|_| ())).await.unwrap().unwrap();
        let expected = piece(server.pool(), index);
        assert!(found[PIECE_POINTS_AT..] == expected[PIECE_POINTS_AT..found.len()]);
        assert_eq!(hash, SlabPayload::piece(&expected).blake3());
        let near = tokio::time::timeout(PATIENCE, near_first.once(index)).await.unwrap().unwrap();
        assert_eq!((near.from, near.blake3), (holder, hash));
    }
    // The second owner has what the first has not only while that is away: near full-piece caches come before it.
    let full = hosts[2].id();
    put(&hosts[3], full, 8).await;
    let near = near_first.once(8).await.unwrap();
    assert_eq!((near.from, near.in_vain), (full, 1), "its owner alone was asked before");

    // A piece that nobody has yet is found once somebody has it.
    let searching = tokio::spawn(async move { source.get(1000, &|_| ()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!searching.is_finished());
    put(&hosts[3], holders[3], 1000).await;
    assert!(tokio::time::timeout(PATIENCE, searching).await.unwrap().unwrap().is_ok());
    for host in hosts {
        host.shutdown(PATIENCE).await;
    }
}
