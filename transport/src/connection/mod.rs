//! The protocol between two members, without sockets, clock or async code.
//!
//! ```text
//!            request, respond, refuse, cancel, release            tick(now)
//!                              │                                     │
//!   space ─▶ bytes ─▶ filled ─▶│ receiver ─▶ inbound ─▶ requests, credits │─▶ transmit ─▶ segments to send
//!                              └──────────────▶ events ──────────────┘
//! ```
//!
//! Both sides are equal: each says hello, each may make requests and serve the other's, answers come in any order.
//! - **Opening.** The first frame of each side is its hello. A side that waits in vain gives up.
//!   Where certificates say what a peer is, that counts: a hello that contradicts it ends the connection.
//! - **Rights.** What the peer's role may not ask is refused before it takes memory.
//! - **Requests.** Each ends with exactly one final frame, response or refusal. `cancel` and a passed deadline end a
//!   request for the caller at once; on the wire it is still open until the peer's final frame.
//! - **Credits.** A payload leaves only when the peer granted its bytes, and counts until `release` over there.
//! - **Pace.** A payload that moves too slowly, out or in, ends the connection: what it holds is wanted by others. A payload that
//!   comes with a request and finds no memory is read past, so that what lies behind it goes on.
//! - **Leaving.** `leave` lets both finish what is in progress; `close` and any violation end at once, with last
//!   words to the peer.
//!
//! Time is milliseconds since any fixed moment and never goes back. Owns: the state of one connection. Never:
//! payload bytes (a [`PayloadBuf`] of the caller does), retries, or who the peer is.

mod clock;
mod credits;
mod inbound;
mod output;
mod pace;
mod receiver;
mod requests;
mod types;

pub use output::Transmit;
pub use types::{
    AnswerError, BufferWanted, CloseReason, Config, Event, MAX_REQUESTS, MakeError, PayloadOf, PeerRequestId,
    RequestError, RequestId, Space, Stats, Violation,
};

use crate::frame::{self, Kind, MAX_PAYLOAD_BYTES, VERSION};
use crate::message::{
    Cancel, Credit, GoAway, Header, Hello, MAX_NAME_BYTES, Ping, Refusal, Request, RequestHeader, Response,
};
use crate::payload::PayloadBuf;
use crate::role::Role;
use credits::{ReceiveCredit, SendCredit};
use output::{Output, Tag};
use pace::Pace;
use receiver::Receiver;
use requests::{Arriving, Requests};
use std::collections::VecDeque;

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waiting for the peer's hello.
    Opening,
    Open,
    Closed,
}

/// What is known of the peer's role.
#[derive(Debug)]
enum Who {
    /// Nothing proves it: what the hello says counts.
    AsSaid,
    /// The driver will tell; a hello that came before waits for it.
    ToBeTold(Option<Hello>),
    /// Its certificate's.
    Known(Role),
}

/// One side of a connection. See the module's text.
pub struct Connection<B> {
    config: Config,
    stage: Stage,
    who: Who,
    /// Zero until the peer said hello.
    peer_max_requests: u32,
    peer_leaving: bool,
    leaving: bool,
    receiver: Receiver<B>,
    /// The message whose payload is arriving.
    arriving: Option<Arriving>,
    output: Output<B>,
    requests: Requests,
    send_credit: SendCredit,
    receive_credit: ReceiveCredit,
    events: VecDeque<Event<B>>,
    /// The payload that arrives, and the one that is sent or waits for credit.
    receiving: Pace,
    sending: Pace,
    /// The payload of the last frame is being handed to the socket.
    is_sending: bool,
    /// Since when memory is wanted.
    memory_wanted_ms: Option<u64>,
    pong: Option<u64>,
    /// Nothing was sent for so long that the peer wants a sign of life.
    ping_due: bool,
    ping_sent_ms: Option<u64>,
    opened_ms: u64,
    last_sent_ms: u64,
    last_received_ms: u64,
    stats: Stats,
}

impl<B: PayloadBuf> Connection<B> {
    /// A connection whose hello is ready to be sent.
    ///
    /// # Panics
    /// When `config` is outside its documented limits.
    pub fn new(config: Config, now_ms: u64) -> Self {
        assert!(config.name.len() <= MAX_NAME_BYTES, "name of {} bytes", config.name.len());
        assert!(config.max_requests <= MAX_REQUESTS, "{} requests at once", config.max_requests);
        assert!(config.credit_bytes >= MAX_PAYLOAD_BYTES as u64, "credit below one payload");
        assert!(config.keepalive_ms < config.idle_timeout_ms, "silence ends a connection before a ping");
        let hello = Hello {
            min_version: VERSION,
            max_version: VERSION,
            role: config.role,
            features: 0,
            max_requests: config.max_requests,
            credit_bytes: config.credit_bytes,
            name: config.name.clone(),
        };
        let mut output = Output::new();
        output.push(Tag::Connection, encode(Kind::Hello, 0, 0, &hello), None);
        Self {
            stage: Stage::Opening,
            who: Who::AsSaid,
            peer_max_requests: 0,
            peer_leaving: false,
            leaving: false,
            receiver: Receiver::new(),
            arriving: None,
            output,
            requests: Requests::default(),
            send_credit: SendCredit::new(0),
            receive_credit: ReceiveCredit::new(config.credit_bytes),
            events: VecDeque::new(),
            receiving: Pace::default(),
            sending: Pace::default(),
            is_sending: false,
            memory_wanted_ms: None,
            pong: None,
            ping_due: false,
            ping_sent_ms: None,
            opened_ms: now_ms,
            last_sent_ms: now_ms,
            last_received_ms: now_ms,
            stats: Stats::default(),
            config,
        }
    }

    /// From now on nothing that the peer says of its role counts: the connection opens when [`Connection::tell_role`] and the
    /// hello have come.
    pub fn await_role(&mut self) {
        self.who = Who::ToBeTold(None);
    }

    /// What the peer is, by its certificate.
    pub fn tell_role(&mut self, role: Role) {
        if let Who::ToBeTold(Some(hello)) = std::mem::replace(&mut self.who, Who::Known(role))
            && self.stage == Stage::Opening
            && let Err(violation) = self.on_hello(hello)
        {
            self.close_for(CloseReason::Violation(violation));
        }
    }

    /// Makes a request. `payload` must have exactly the bytes the request says; `deadline_ms` is a moment of this
    /// side's time, told to the peer as time left.
    pub fn request(
        &mut self,
        request: Request,
        payload: Option<B>,
        deadline_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<RequestId, MakeError> {
        match self.stage {
            Stage::Opening => return Err(MakeError::NotOpen),
            Stage::Closed => return Err(MakeError::Leaving),
            Stage::Open if self.peer_leaving || self.leaving => return Err(MakeError::Leaving),
            Stage::Open => {}
        }
        if self.requests.made.len() >= self.peer_max_requests as usize {
            return Err(MakeError::Full);
        }
        let payload_bytes = payload.as_ref().map_or(0, PayloadBuf::len);
        request.check(payload_bytes)?;
        let left_ms = deadline_ms.map(|at| at.saturating_sub(now_ms));
        if left_ms == Some(0) {
            return Err(MakeError::DeadlinePassed);
        }
        let timeout_ms = left_ms.map_or(0, |left| u32::try_from(left).unwrap_or(u32::MAX));
        let id = self.requests.make(request.clone(), deadline_ms);
        let head = encode(Kind::Request, id.0, payload_bytes, &RequestHeader { timeout_ms, request });
        self.output.push(Tag::Made(id.0), head, payload);
        self.pace_queue(now_ms);
        Ok(id)
    }

    /// Takes a request back; no event follows. Harmless when it is over already.
    pub fn cancel(&mut self, id: RequestId) {
        let Some(made) = self.requests.made.get_mut(&id).filter(|made| !made.abandoned) else { return };
        if !made.sent {
            self.withdraw_frame(Tag::Made(id.0));
            self.free(id);
            return;
        }
        made.abandoned = true;
        self.output.push(Tag::Connection, encode(Kind::Cancel, id.0, 0, &Cancel), None);
        self.drop_unprovided(PayloadOf::Response(id));
    }

    /// Answers a request of the peer.
    pub fn respond(
        &mut self,
        id: PeerRequestId,
        response: &Response,
        payload: Option<B>,
        now_ms: u64,
    ) -> Result<(), AnswerError> {
        let asked = self.requests.unanswered(id)?;
        let payload_bytes = payload.as_ref().map_or(0, PayloadBuf::len);
        asked.request.check_response(response, payload_bytes)?;
        asked.answered = true;
        let head = encode(Kind::Response, id.0, payload_bytes, response);
        self.output.push(Tag::Final(id.0), head, payload);
        self.pace_queue(now_ms);
        Ok(())
    }

    /// Ends a request of the peer with an error.
    pub fn refuse(&mut self, id: PeerRequestId, refusal: &Refusal) -> Result<(), AnswerError> {
        self.requests.unanswered(id)?.answered = true;
        self.output.push(Tag::Final(id.0), encode(Kind::Refusal, id.0, 0, refusal), None);
        Ok(())
    }

    /// Gives credit for a received payload back to the peer: its memory is free again.
    ///
    /// # Panics
    /// When more is released than was received.
    pub fn release(&mut self, bytes: usize) {
        self.receive_credit.release(bytes);
    }

    /// The next frame to send, as often as there is one. Whoever asks has handed the one before to the socket, all of it.
    pub fn transmit(&mut self, now_ms: u64) -> Option<Transmit<B>> {
        if std::mem::take(&mut self.is_sending) {
            self.sending.end();
        }
        let transmit = self.next_transmit(now_ms);
        match transmit.as_ref().and_then(|transmit| transmit.payload.as_ref()) {
            Some(payload) => {
                self.sending.begin(payload.len(), now_ms);
                self.is_sending = true;
            }
            None => self.pace_queue(now_ms),
        }
        let transmit = transmit?;
        self.last_sent_ms = now_ms;
        self.ping_due = false;
        Some(transmit)
    }

    fn next_transmit(&mut self, now_ms: u64) -> Option<Transmit<B>> {
        if let Some(frame) = self.output.first.pop_front() {
            self.sent(frame.tag);
            return Some(frame.transmit);
        }
        if self.stage != Stage::Open {
            return None;
        }
        let head = if let Some(nonce) = self.pong.take() {
            encode(Kind::Pong, 0, 0, &Ping { nonce })
        } else if let Some(bytes) = self.receive_credit.take_grant() {
            encode(Kind::Credit, 0, 0, &Credit { bytes })
        } else if self.ping_due {
            self.ping_sent_ms = Some(now_ms);
            encode(Kind::Ping, 0, 0, &Ping { nonce: now_ms })
        } else {
            return self.next_payload();
        };
        Some(Transmit { head, payload: None })
    }

    /// The time of the first payload in the queue runs, though it waits for credit.
    fn pace_queue(&mut self, now_ms: u64) {
        if let Some(bytes) = self.output.next_payload_bytes() {
            self.sending.due(bytes, now_ms);
        }
    }

    /// Takes a frame back that has not been sent. If it was the first one, the next one's time begins anew.
    fn withdraw_frame(&mut self, tag: Tag) -> bool {
        if !self.is_sending {
            self.sending.end();
        }
        self.output.withdraw(tag)
    }

    fn next_payload(&mut self) -> Option<Transmit<B>> {
        let bytes = self.output.next_payload_bytes()?;
        if !self.send_credit.take(bytes) {
            return None;
        }
        let frame = self.output.payloads.pop_front().expect("its length was just read");
        self.stats.payload_sent_bytes += bytes as u64;
        self.sent(frame.tag);
        Some(frame.transmit)
    }

    fn sent(&mut self, tag: Tag) {
        match tag {
            Tag::Connection => {}
            Tag::Final(id) => drop(self.requests.asked.remove(&PeerRequestId(id))),
            Tag::Made(id) => {
                let made = self.requests.made.get_mut(&RequestId(id));
                made.expect("a request that is taken back unsent leaves the queue").sent = true;
            }
        }
    }

    /// What happened since the last call.
    pub fn event(&mut self) -> Option<Event<B>> {
        self.events.pop_front()
    }

    /// Takes no new requests of either side from now on; what is in progress goes on. Close when
    /// [`Connection::is_idle`].
    pub fn leave(&mut self, text: &str) {
        if self.stage != Stage::Closed && !self.leaving {
            self.leaving = true;
            self.output.push(Tag::Connection, encode(Kind::GoAway, 0, 0, &GoAway::new(false, text)), None);
        }
    }

    /// Ends the connection at once; last words are still in [`Connection::transmit`].
    pub fn close(&mut self, text: &str) {
        self.close_for(CloseReason::ClosedHere(text.to_owned()));
    }

    /// Says that the socket is gone.
    pub fn lost(&mut self, text: &str) {
        self.close_for(CloseReason::Lost(text.to_owned()));
        self.output.clear();
    }

    /// Whether no request is in progress and nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.requests.made.is_empty() && self.requests.asked.is_empty() && self.output.is_empty()
    }

    /// Whether the connection is over; last words may still wait in [`Connection::transmit`].
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// How many more requests the peer allows now.
    pub fn room_for_requests(&self) -> usize {
        (self.peer_max_requests as usize).saturating_sub(self.requests.made.len())
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Ends a peer's request without its handler's answer; an answer not yet sent is dropped.
    fn withdraw(&mut self, id: PeerRequestId, refusal: &Refusal) {
        let Some(asked) = self.requests.asked.get_mut(&id) else { return };
        if !asked.answered {
            asked.answered = true;
            let arriving = self.arriving.as_ref().map(|arriving| arriving.wanted.of);
            // While its payload arrives nobody here has heard of it.
            if arriving != Some(PayloadOf::Request(id)) {
                self.events.push_back(Event::Withdrawn(id));
            }
        } else if !self.withdraw_frame(Tag::Final(id.0)) {
            return;
        }
        self.output.push(Tag::Final(id.0), encode(Kind::Refusal, id.0, 0, refusal), None);
        self.drop_unprovided(PayloadOf::Request(id));
    }

    /// No memory is needed any more for a payload nobody wants.
    fn drop_unprovided(&mut self, of: PayloadOf) {
        let Some(wanted) = self.arriving.as_ref().map(|arriving| arriving.wanted) else { return };
        if wanted.of != of || !self.receiver.is_waiting() {
            return;
        }
        self.arriving = None;
        self.memory_wanted_ms = None;
        self.discard(wanted.length);
        if let PayloadOf::Response(id) = of {
            self.free(id);
        }
    }

    /// A request that nobody here waits for is over on the wire too: whoever waits for its place hears of it.
    fn free(&mut self, id: RequestId) {
        self.requests.made.remove(&id);
        self.events.push_back(Event::Freed(id));
    }

    /// Reads past an accepted payload that takes no memory.
    fn discard(&mut self, length: usize) {
        if length != 0 {
            self.receive_credit.release(length);
            self.receiver.discard(length);
        }
    }

    /// Ends everything in progress, in the order of ids so that a run can be replayed.
    fn close_for(&mut self, reason: CloseReason) {
        if self.stage == Stage::Closed {
            return;
        }
        self.stage = Stage::Closed;
        self.receiver.stop();
        self.receiving.end();
        self.sending.end();
        self.arriving = None;
        self.output.clear();
        let words = GoAway::new(true, reason.to_string());
        self.output.push(Tag::Connection, encode(Kind::GoAway, 0, 0, &words), None);
        let mut made: Vec<_> = self.requests.made.drain().filter(|(_, made)| !made.abandoned).collect();
        made.sort_unstable_by_key(|(id, _)| *id);
        for (id, _) in made {
            self.events.push_back(Event::Failed { id, error: RequestError::ConnectionLost });
        }
        let mut asked: Vec<_> = self.requests.asked.drain().filter(|(_, asked)| !asked.answered).collect();
        asked.sort_unstable_by_key(|(id, _)| *id);
        self.events.extend(asked.into_iter().map(|(id, _)| Event::Withdrawn(id)));
        self.events.push_back(Event::Closed(reason));
    }
}

/// Prefix and header of a frame.
fn encode<H: Header>(kind: Kind, id: u64, payload_bytes: usize, header: &H) -> frame::HeaderBuf {
    frame::encode(kind, id, payload_bytes, |bytes| header.append(bytes))
}

#[cfg(test)]
mod tests;
