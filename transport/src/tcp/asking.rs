//! Requests over one open connection: who waits for which answer, and whose turn is next.

use super::link::{Link, LinkEvent, Received};
use super::payload::SlabPayload;
use super::reply::{ClientError, Reply};
use crate::connection::{BufferWanted, CloseReason, Event, MakeError, PayloadOf, RequestError, RequestId};
use crate::health::Health;
use crate::message::Request;
use futures::channel::oneshot;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Last words to a peer whose connection is retired.
const RETIRED: &str = "requests in a row had no answer";

pub(super) type Outcome = Result<Reply, RequestError>;

/// A connection that has been open; it is closed when nobody holds it any more.
pub(super) struct Connected {
    pub(super) link: Rc<Link>,
    pub(super) answers: Rc<Answers>,
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct Answers {
    waiting: RefCell<HashMap<RequestId, oneshot::Sender<Outcome>>>,
    /// For room among the requests the peer allows.
    queue: RefCell<VecDeque<oneshot::Sender<()>>>,
    opened: RefCell<Option<oneshot::Sender<()>>>,
    closed: RefCell<Option<CloseReason>>,
    health: RefCell<Health>,
    has_answered: Cell<bool>,
    is_retired: Cell<bool>,
}

impl Answers {
    /// Also what is told when the peer has said hello; dropped when it never will.
    pub(super) fn new() -> (Rc<Self>, oneshot::Receiver<()>) {
        let (sender, opened) = oneshot::channel();
        let answers = Self { opened: RefCell::new(Some(sender)), ..Self::default() };
        (Rc::new(answers), opened)
    }

    pub(super) fn on(&self, link: &Rc<Link>, event: LinkEvent) {
        match event {
            Event::Connected(_) => {
                if let Some(opened) = self.opened.take() {
                    let _ = opened.send(());
                }
            }
            Event::Response { id, response, payload } => {
                let payload = payload.map(|payload| Received::of_answer(payload, link));
                self.answer(id, Ok(Reply { response, payload }));
                self.peer_answered(link);
            }
            Event::Failed { id, error } => {
                link.unreserve(id);
                let is_late = error == RequestError::DeadlinePassed;
                let is_refused = matches!(error, RequestError::Refused(_));
                self.answer(id, Err(error));
                if is_refused {
                    self.peer_answered(link);
                } else if is_late && self.health.borrow_mut().timed_out(link.now_ms()) {
                    self.is_retired.set(true);
                    link.close(RETIRED);
                }
            }
            // That a cancel was read says nothing of whether requests are answered.
            Event::Freed(_) => self.make_room(link),
            Event::Closed(reason) => {
                if reason.is_slowness() || matches!(reason, CloseReason::Violation(_)) {
                    self.is_retired.set(true);
                }
                if self.is_retired.get() {
                    link.memory.slow(link.peer_id());
                    tracing::debug!(peer = %link.peer, %reason, "connection retired");
                }
                *self.closed.borrow_mut() = Some(reason);
                self.opened.take();
                self.queue.take();
            }
            // A client allows no requests, so none comes.
            Event::Leaving(_) | Event::Request { .. } | Event::Withdrawn(_) => {}
        }
    }

    fn answer(&self, id: RequestId, outcome: Outcome) {
        let waiting = self.waiting.borrow_mut().remove(&id);
        if let Some(waiting) = waiting {
            // The asker may be gone at this very moment.
            let _ = waiting.send(outcome);
        }
    }

    /// The peer gave what somebody waited for, or refused it.
    fn peer_answered(&self, link: &Link) {
        self.health.borrow_mut().answered();
        self.has_answered.set(true);
        self.make_room(link);
    }

    /// Whether the peer ever answered on this connection.
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.get()
    }

    /// Whether the connection ended because it was of no use.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.get()
    }

    /// Wakes the next one in the queue if the peer allows one more request.
    fn make_room(&self, link: &Link) {
        while link.core.borrow().room_for_requests() > 0 {
            let Some(next) = self.queue.borrow_mut().pop_front() else { return };
            if next.send(()).is_ok() {
                return;
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    pub(super) fn close_text(&self) -> String {
        self.closed.borrow().as_ref().map_or_else(|| "it ended".into(), ToString::to_string)
    }
}

/// Takes a request back when whoever made it no longer waits.
pub(super) struct Asking {
    connected: Rc<Connected>,
    id: RequestId,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let waited = self.connected.answers.waiting.borrow_mut().remove(&self.id).is_some();
        if waited {
            self.connected.link.core.borrow_mut().cancel(self.id);
            self.connected.link.unreserve(self.id);
            self.connected.link.changed();
        }
    }
}

/// Somebody's turn to make a request. When it is over, made use of or not, the next one is woken if there is room.
struct Turn<'a>(&'a Connected);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.answers.make_room(&self.0.link);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.link.close("no longer needed");
    }
}

/// Makes the request as soon as the peer allows one more.
pub(super) async fn ask(
    connected: &Rc<Connected>,
    request: Request,
    payload: Option<SlabPayload>,
    limit: Duration,
    started: Instant,
) -> Result<(Asking, oneshot::Receiver<Outcome>), ClientError> {
    let peer = connected.link.peer;
    let (length, layout) = (request.response_payload_bytes(), request.response_layout());
    // Nothing that comes has to wait for memory then, nor anything behind it.
    let memory = match length {
        0 => None,
        _ => Some(connected.link.memory.slab(connected.link.peer_id()).await?),
    };
    let _turn = Turn(connected);
    while connected.link.core.borrow().room_for_requests() == 0 {
        let (room, has_room) = oneshot::channel();
        connected.answers.queue.borrow_mut().push_back(room);
        let lost = |_| ClientError::Lost { peer, reason: connected.answers.close_text() };
        has_room.await.map_err(lost)?;
    }
    let link = &connected.link;
    let (now_ms, left) = (link.now_ms(), limit.saturating_sub(started.elapsed()));
    let deadline_ms = now_ms + u64::try_from(left.as_millis()).unwrap_or(u64::from(u32::MAX));
    let made = link.core.borrow_mut().request(request, payload, Some(deadline_ms), now_ms);
    let id = made.map_err(|error| match error {
        MakeError::Wrong(error) => ClientError::Wrong(error),
        MakeError::DeadlinePassed => ClientError::TimedOut { peer, limit },
        MakeError::Leaving => ClientError::Leaving { peer },
        MakeError::NotOpen | MakeError::Full => unreachable!("the connection is open and has room"),
    })?;
    if let Some((slab, share)) = memory {
        let wanted = BufferWanted { of: PayloadOf::Response(id), length, layout };
        link.reserve(id, SlabPayload::to_fill(slab, &wanted).with_share(share));
    }
    let (sender, answer) = oneshot::channel();
    connected.answers.waiting.borrow_mut().insert(id, sender);
    link.changed();
    Ok((Asking { connected: connected.clone(), id }, answer))
}
