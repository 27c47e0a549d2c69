//! The connections to other members from one executor: made when first needed, dropped when the member is gone.

use super::error::HostError;
use super::present::Present;
use super::reply::HostReply;
use control::ids::InstanceId;
use control::messages::MemberEntry;
use engine::Local;
use engine::pool::{Pool, Slab};
use engine::task::spawn_local;
use futures::future::{Either, select};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use transport::connection::Config as ConnectionConfig;
use transport::message::{Layout, Request, Response};
use transport::tcp::{Client, ClientConfig, Memory, ServerPin, SlabPayload};
use transport::tls::{Fingerprint, Identity};

/// A request on its way to the executor that makes it.
pub(super) struct Ask {
    pub peer: InstanceId,
    pub request: Request,
    pub payload: Vec<Slab>,
    pub layout: Layout,
    pub timeout: Duration,
    /// Closed when whoever asked no longer waits.
    pub done: oneshot::Sender<Result<HostReply, HostError>>,
}

impl Ask {
    /// What is sent; handles to the same memory each time.
    fn payload(&self) -> Option<SlabPayload> {
        match (self.layout, &self.payload[..]) {
            (_, []) => None,
            (Layout::Piece, [piece]) => Some(SlabPayload::piece(piece)),
            (_, parts) => Some(SlabPayload::parts(parts.to_vec())),
        }
    }
}

/// A member at its addresses, with the certificate it has there.
type PeerKey = (InstanceId, Vec<SocketAddr>, Fingerprint);

pub(super) struct Peers {
    identity: Arc<Identity>,
    connection: ConnectionConfig,
    present: watch::Receiver<Present>,
    memory: Memory,
    clients: RefCell<HashMap<PeerKey, Client>>,
}

impl Peers {
    pub fn new(
        identity: Arc<Identity>,
        connection: ConnectionConfig,
        present: watch::Receiver<Present>,
        pool: Pool,
    ) -> Self {
        Self { identity, connection, present, memory: pool.into(), clients: RefCell::default() }
    }

    /// Makes the requests that come until the executor ends or nobody is left to ask.
    pub async fn run(self, mut asks: mpsc::Receiver<Ask>, local: Local) {
        let peers = Rc::new(self);
        while let Either::Left((Some(ask), _)) = select(pin!(asks.recv()), pin!(local.stopping())).await {
            spawn_local(peers.clone().answer(ask)).detach();
        }
        peers.clients.take();
    }

    async fn answer(self: Rc<Self>, mut ask: Ask) {
        let (nobody, _) = oneshot::channel();
        let mut done = std::mem::replace(&mut ask.done, nobody);
        let outcome = {
            let asking = pin!(self.ask(&ask));
            match select(asking, pin!(done.closed())).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(_) => return,
            }
        };
        // Whoever asked may leave at this very moment.
        let _ = done.send(outcome);
    }

    async fn ask(&self, ask: &Ask) -> Result<HostReply, HostError> {
        let peer = ask.peer;
        let entry = self.present.borrow().get(&peer).cloned().ok_or(HostError::Absent { peer })?;
        let role = entry.role;
        let client = self.client(&entry).ok_or(HostError::NoAddress { peer, role })?;
        let reply = client.request(ask.request.clone(), ask.payload(), ask.timeout).await;
        let reply = reply.map_err(|source| HostError::Request { peer, role, source })?;
        // A range of a sector is hashed once here, as a part of it, and compared when the whole is there.
        let is_of_whole = matches!(reply.response, Response::SectorRange { .. });
        if reply.payload.is_some() && !is_of_whole && !reply.is_intact() {
            return Err(HostError::Damaged { peer, role });
        }
        let payload = reply.payload.map(|payload| payload.into_payload().into_slab());
        Ok(HostReply { response: reply.response, payload })
    }

    fn client(&self, entry: &MemberEntry) -> Option<Client> {
        let addresses = addresses(entry);
        if addresses.is_empty() {
            return None;
        }
        let fingerprint = Fingerprint(entry.certificate_sha256);
        let key = (entry.id, addresses, fingerprint);
        if let Some(client) = self.clients.borrow().get(&key) {
            return Some(client.clone());
        }
        self.forget_the_gone();
        let pin = ServerPin::Certificate(self.identity.clone(), fingerprint);
        let config = ClientConfig::new(key.1.clone(), pin, self.connection.clone());
        let client = Client::new(config, self.memory.clone());
        self.clients.borrow_mut().insert(key, client.clone());
        Some(client)
    }

    /// Closes the connections to members that are gone or have another certificate or other addresses now.
    fn forget_the_gone(&self) {
        let present = self.present.borrow().clone();
        let is_present = |(id, at, fingerprint): &PeerKey| {
            let is_same =
                |entry: &MemberEntry| entry.certificate_sha256 == fingerprint.0 && addresses(entry) == *at;
            present.get(id).is_some_and(is_same)
        };
        self.clients.borrow_mut().retain(|key, _| is_present(key));
    }
}

/// Where a member says that it listens, as far as that can be read.
fn addresses(entry: &MemberEntry) -> Vec<SocketAddr> {
    entry.addresses.iter().filter_map(|address| address.parse().ok()).collect()
}
