//! The connections of a server: who has a place, who gives way, and their end.

use super::link::{Link, WITHDRAWN};
use super::memory::Peer;
use super::told::Told;
use crate::connection::CloseReason;
use crate::places::{ConnectionId, Places};
use engine::task::sleep;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// How often a leaving server looks whether its requests are done.
const LEAVE_POLL: Duration = Duration::from_millis(5);
/// Last words of a server.
const LEAVING: &str = "this member ends";
/// Last words to a connection that gives way.
const GIVES_WAY: &str = "its place is needed for another connection";

/// Dropping it ends all connections.
#[derive(Default)]
pub(super) struct Serving {
    links: RefCell<HashMap<ConnectionId, Rc<Link>>>,
    places: RefCell<Places<Peer>>,
    told: Lines,
}

/// What is told of peers.
#[derive(Default)]
struct Lines {
    crowded: Told,
    slow: Told,
    broken: Told,
    withdrawn: Told,
}

impl Serving {
    /// A place for a connection from an address, whoever has to give way for it.
    pub(super) fn arrived(&self, from: IpAddr) -> ConnectionId {
        let (id, gives_way) = self.places.borrow_mut().arrived(from);
        self.give_way(gives_way);
        id
    }

    /// The connection that has a place.
    pub(super) fn started(&self, id: ConnectionId, link: Rc<Link>) {
        // It may be over before it began.
        if !link.core.borrow().is_closed() {
            self.links.borrow_mut().insert(id, link);
        }
    }

    /// The peer has said who it is.
    pub(super) fn admitted(&self, id: ConnectionId, peer: Peer) {
        let gives_way = self.places.borrow_mut().admitted(id, peer);
        self.give_way(gives_way);
    }

    /// A connection is over.
    pub(super) fn left(&self, id: ConnectionId, reason: &CloseReason) {
        self.places.borrow_mut().left(id);
        let link = self.links.borrow_mut().remove(&id);
        let Some(link) = link else { return };
        let told = match reason {
            reason if reason.is_slowness() => &self.told.slow,
            CloseReason::Violation(_) => &self.told.broken,
            _ => return,
        };
        if let Some(times) = told.count() {
            tracing::warn!(peer = %link.peer, %reason, times, "a connection was ended");
        }
    }

    fn give_way(&self, id: Option<ConnectionId>) {
        let Some(id) = id else { return };
        let link = self.links.borrow_mut().remove(&id);
        let Some(link) = link else { return };
        if let Some(times) = self.told.crowded.count() {
            let (strangers, members) = self.places.borrow().counts();
            tracing::warn!(peer = %link.peer, times, strangers, members, "too many connections: the oldest gave way");
        }
        link.close(GIVES_WAY);
    }

    /// Ends the connections of peers whose certificates are no more among the members', or have another role now.
    pub(super) fn cut_off(&self) {
        for link in self.open().iter().filter(|link| link.is_withdrawn()) {
            if let Some(times) = self.told.withdrawn.count() {
                let role = link.pin().map(|pin| pin.role.to_string());
                tracing::warn!(peer = %link.peer, role, times, "a member was withdrawn: its connection is ended");
            }
            link.close(WITHDRAWN);
        }
    }

    /// Ends each connection when its requests are done.
    pub(super) async fn leave(&self) {
        for link in self.open() {
            link.core.borrow_mut().leave(LEAVING);
            link.changed();
        }
        loop {
            let open = self.open();
            if open.is_empty() {
                return;
            }
            for link in open {
                let is_idle = link.core.borrow().is_idle();
                if is_idle {
                    link.close(LEAVING);
                }
            }
            sleep(LEAVE_POLL).await;
        }
    }

    fn open(&self) -> Vec<Rc<Link>> {
        self.links.borrow().values().cloned().collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.open().iter().for_each(|link| link.close(LEAVING));
    }
}
