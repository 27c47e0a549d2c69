//! What a role gives a server: the answers.

use super::link::Received;
use super::payload::SlabPayload;
use crate::message::{Hello, Refusal, Request, Response};
use crate::role::Role;
use crate::tls::Fingerprint;
use futures::future::LocalBoxFuture;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// The peer of a request.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it is: by its certificate, or as it says where there are no certificates.
    pub role: Role,
    /// Its certificate; none where there are none.
    pub fingerprint: Option<Fingerprint>,
    /// What it said of itself; proves nothing.
    pub hello: Hello,
}

/// What a handler gives.
pub type Answer = Result<(Response, Option<SlabPayload>), Refusal>;

/// What a server does with requests. The future is dropped when the requester no longer waits.
pub trait Handler: 'static {
    /// Answers `request`. The hash of `payload` has not been checked. `deadline_in` is the time the requester
    /// still waits, if it said so.
    fn handle(
        self: Rc<Self>,
        peer: Rc<PeerInfo>,
        request: Request,
        payload: Option<Received>,
        deadline_in: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer>;
}
