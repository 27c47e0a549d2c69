//! One peer, asked from one executor: connects when needed, keeps the connection, connects again.

use super::asking::ask;
use super::line::Line;
use super::memory::Memory;
use super::payload::SlabPayload;
use super::peer::ClientConfig;
use super::reply::{ClientError, Reply};
use crate::connection::{Config, RequestError};
use crate::message::Request;
use engine::task::timeout;
use futures::channel::oneshot;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Asks one peer. Clones share the connection; it closes when the last is dropped.
#[derive(Clone)]
pub struct Client(Rc<Line>);

impl Client {
    /// A client that connects with its first request. Payloads come to rest in slabs of `memory`, which clients of one
    /// executor share: one that waits for its peer leaves enough to the others.
    ///
    /// # Panics
    /// When `config` has no address.
    pub fn new(config: ClientConfig, memory: impl Into<Memory>) -> Self {
        let config = ClientConfig { connection: Config { max_requests: 0, ..config.connection }, ..config };
        Self(Line::new(config, memory.into()))
    }

    /// The peer's first address.
    pub fn peer(&self) -> SocketAddr {
        self.0.first_address()
    }

    /// Asks and waits for the answer, at most `limit` in all. Dropping the future takes the request back. One that is lost with
    /// its connection is made again at the next address, as long as the peer has another one: every request may be.
    pub async fn request(
        &self,
        request: Request,
        mut payload: Option<SlabPayload>,
        limit: Duration,
    ) -> Result<Reply, ClientError> {
        let started = Instant::now();
        for _ in 1..self.0.addresses() {
            let again = payload.as_ref().map(SlabPayload::again);
            match self.attempt(request.clone(), payload, limit, started).await {
                Err(ClientError::Lost { .. }) => payload = again,
                outcome => return outcome,
            }
        }
        self.attempt(request, payload, limit, started).await
    }

    async fn attempt(
        &self,
        request: Request,
        payload: Option<SlabPayload>,
        limit: Duration,
        started: Instant,
    ) -> Result<Reply, ClientError> {
        let late = ClientError::TimedOut { peer: self.peer(), limit };
        let left = limit.saturating_sub(started.elapsed());
        let connected = timeout(left, self.0.connected()).await.map_err(|_| late)??;
        let peer = connected.link.peer;
        let timed_out = ClientError::TimedOut { peer, limit };
        let left = limit.saturating_sub(started.elapsed());
        let asked = timeout(left, ask(&connected, request, payload, limit, started)).await;
        let (asking, answer) = asked.map_err(|_| timed_out.clone())??;
        let outcome = answer.await;
        drop(asking);
        match outcome {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(RequestError::Refused(refusal))) => Err(ClientError::Refused { peer, refusal }),
            Ok(Err(RequestError::DeadlinePassed)) => Err(timed_out),
            Ok(Err(RequestError::ConnectionLost)) | Err(oneshot::Canceled) => {
                Err(ClientError::Lost { peer, reason: connected.answers.close_text() })
            }
        }
    }
}
