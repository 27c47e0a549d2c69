//! Members ask each other; strangers and the gone get nowhere.

use crate::house::{PATIENCE, Shelf, acquainted, get, piece, put, start};
use bus::SharedBus;
use bus::local::LocalBus;
use cluster::host::{Host, HostConfig, HostError};
use consensus::constants::PIECE_SIZE;
use control::messages::Role;
use std::sync::Arc;
use std::time::Duration;
use transport::message::{Layout, RefusalCode};
use transport::tcp::{ClientError, PIECE_POINTS_AT};

const RUN: Layout = Layout::Run { phase: 0 };

fn bus() -> SharedBus {
    Arc::new(LocalBus::default())
}

#[tokio::test]
async fn items_go_both_ways() {
    let bus = bus();
    let (a, b) = (start(&bus, Role::Controller).await, start(&bus, Role::ShardedCache).await);
    acquainted(&[&a, &b]).await;
    assert_eq!(b.members(Role::Controller)[0].id, a.id());
    for (asker, holder, index) in [(&a, &b, 3), (&b, &a, 4)] {
        put(&a, holder.id(), index).await;
        let reply = asker.request(holder.id(), get(index), vec![], RUN, PATIENCE).await.unwrap();
        let slab = reply.payload.unwrap();
        let expected = piece(asker.pool(), index);
        assert!(slab[PIECE_POINTS_AT..] == expected[PIECE_POINTS_AT..PIECE_POINTS_AT + PIECE_SIZE]);
        let error = asker.request(holder.id(), get(99), vec![], RUN, PATIENCE).await.unwrap_err();
        assert_eq!(error.refusal(), Some(RefusalCode::NotFound), "{error}");
    }
    a.shutdown(PATIENCE).await;
    b.shutdown(PATIENCE).await;
}

/// A host of another cluster knows the address and the certificate, and is not let in.
#[tokio::test]
async fn strangers_are_refused() {
    let (here, elsewhere) = (bus(), bus());
    let member = start(&here, Role::ShardedCache).await;
    let stranger = start(&elsewhere, Role::PlotServer).await;
    acquainted(&[&member]).await;
    let entry = member.members(Role::ShardedCache).remove(0);
    let _copied = bus::members::Announced::start(elsewhere, entry, Default::default()).await.unwrap();
    tokio::time::timeout(PATIENCE, stranger.present().wait_for(|now| now.contains_key(&member.id())))
        .await
        .unwrap()
        .unwrap();
    let error = stranger.request(member.id(), get(1), vec![], RUN, PATIENCE).await.unwrap_err();
    let refused = matches!(&error, HostError::Request { source: ClientError::Unreachable { reason, .. }, .. }
        if reason.contains("does not accept this member's certificate"));
    assert!(refused, "{error}");
    stranger.shutdown(PATIENCE).await;
    member.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_member_that_leaves_is_named() {
    let bus = bus();
    let (a, b) = (start(&bus, Role::Controller).await, start(&bus, Role::ShardedCache).await);
    acquainted(&[&a, &b]).await;
    put(&a, b.id(), 1).await;
    let gone = b.id();
    b.shutdown(PATIENCE).await;
    tokio::time::timeout(PATIENCE, a.present().wait_for(|now| !now.contains_key(&gone)))
        .await
        .unwrap()
        .unwrap();
    let error = a.request(gone, get(1), vec![], RUN, PATIENCE).await.unwrap_err();
    assert!(matches!(error, HostError::Absent { peer } if peer == gone), "{error}");
    assert!(error.to_string().contains(&gone.to_string()));
    let again = a.clone();
    a.shutdown(PATIENCE).await;
    let error = again.request(gone, get(1), vec![], RUN, PATIENCE).await.unwrap_err();
    assert!(matches!(error, HostError::Ended), "{error}");
}

/// Whoever has its id back after a restart, with another certificate and port, is reached again.
#[tokio::test]
async fn a_member_comes_back_under_its_id() {
    let bus = bus();
    let (a, b) = (start(&bus, Role::Controller).await, start(&bus, Role::ShardedCache).await);
    acquainted(&[&a, &b]).await;
    put(&a, b.id(), 1).await;
    let (id, mut present) = (b.id(), a.present());
    let before = present.borrow()[&id].certificate_sha256;
    b.shutdown(PATIENCE).await;
    let config = HostConfig { id, slabs: 8, ..HostConfig::new(Role::ShardedCache) };
    let b = Host::start(config, bus.clone(), |local| Shelf::new(&local)).await.unwrap();
    let changed =
        present.wait_for(|now| now.get(&id).is_some_and(|entry| entry.certificate_sha256 != before));
    drop(tokio::time::timeout(PATIENCE, changed).await.unwrap().unwrap());
    acquainted(&[&b, &a]).await;
    // It may have looked at the members before it saw this one's heartbeat; then it is asked again.
    let asked = || a.request(id, get(1), vec![], RUN, PATIENCE);
    let error = loop {
        match asked().await.unwrap_err() {
            HostError::Request { source: ClientError::Unreachable { retry_in, .. }, .. } => {
                assert!(retry_in < Duration::from_secs(5));
                tokio::time::sleep(retry_in).await;
            }
            error => break error,
        }
    };
    assert_eq!(error.refusal(), Some(RefusalCode::NotFound), "its shelf is empty now: {error}");
    a.shutdown(PATIENCE).await;
    b.shutdown(PATIENCE).await;
}
