//! Bytes from the peer, and what the frames in them do to a connection.

use super::receiver::{Complete, Place};
use super::requests::{Arriving, Asked};
use super::types::{
    BufferWanted, CloseReason, Event, PayloadOf, PeerRequestId, RequestError, RequestId, Space, Violation,
};
use super::{Connection, MAX_REQUESTS, Stage, Who};
use crate::frame::{Kind, Prefix};
use crate::limits::REQUEST_MAX_MS;
use crate::message::{GoAway, Hello, Ping, Refusal, RefusalCode, RequestHeader, Response};
use crate::parse::{self, Message};
use crate::payload::PayloadBuf;
use crate::rights::RequestKind;

impl<B: PayloadBuf> Connection<B> {
    /// Where the next bytes from the peer belong.
    pub fn space(&mut self) -> Space<'_> {
        match self.receiver.place() {
            Place::Here(bytes) => Space::Bytes(bytes),
            Place::Wait => Space::Wanted(self.arriving.as_ref().expect("a payload is arriving").wanted),
            Place::Stopped => Space::Closed,
        }
    }

    /// Says that the first `count` bytes of [`Connection::space`] came from the peer.
    pub fn filled(&mut self, count: usize, now_ms: u64) {
        if self.stage == Stage::Closed || count == 0 {
            return;
        }
        self.last_received_ms = now_ms;
        if self.receiver.payload_bytes().is_some() {
            self.stats.payload_received_bytes += count as u64;
        }
        let handled = match self.receiver.filled(count) {
            Ok(None) => Ok(()),
            Ok(Some(complete)) => self.handle(complete, now_ms),
            Err(error) => Err(error.into()),
        };
        match (handled, self.receiver.payload_bytes()) {
            (Err(violation), _) => self.close_for(CloseReason::Violation(violation)),
            (Ok(()), Some(bytes)) => self.receiving.due(bytes, now_ms),
            (Ok(()), None) => self.receiving.end(),
        }
        if self.receiver.is_waiting() {
            self.memory_wanted_ms.get_or_insert(now_ms);
        }
    }

    /// Gives memory for the payload that [`Space::Wanted`] announced.
    ///
    /// # Panics
    /// When none is wanted or the length differs.
    pub fn provide(&mut self, buffer: B, now_ms: u64) {
        let wanted = self.arriving.as_ref().expect("a buffer is given only when one is wanted").wanted;
        assert_eq!(buffer.len(), wanted.length, "buffer of another length than wanted");
        self.memory_wanted_ms = None;
        self.receiving.begin(buffer.len(), now_ms);
        self.receiver.provide(buffer);
    }

    /// Takes bytes that lie elsewhere; returns how many, fewer than given when a buffer is wanted or
    /// the connection is over.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let Space::Bytes(space) = self.space() else { break };
            let count = space.len().min(bytes.len() - taken);
            space[..count].copy_from_slice(&bytes[taken..taken + count]);
            self.filled(count, now_ms);
            taken += count;
        }
        taken
    }

    fn handle(&mut self, complete: Complete<B>, now_ms: u64) -> Result<(), Violation> {
        match complete {
            Complete::Payload(buffer) => self.payload_complete(buffer),
            Complete::Header(prefix) => {
                self.header_complete(prefix, now_ms)?;
                // Frames without payload leave the next step to us.
                if self.receiver.is_undecided() {
                    self.receiver.next_frame();
                }
            }
        }
        Ok(())
    }

    fn header_complete(&mut self, prefix: Prefix, now_ms: u64) -> Result<(), Violation> {
        let in_turn = match self.stage {
            Stage::Opening => matches!(prefix.kind, Kind::Hello | Kind::GoAway),
            Stage::Open => prefix.kind != Kind::Hello,
            Stage::Closed => false,
        };
        if !in_turn {
            return Err(Violation::OutOfTurn(prefix.kind));
        }
        let message = parse::header(prefix, self.receiver.header())
            .map_err(|error| Violation::Message(prefix.kind, error))?;
        let (id, length) = (prefix.request_id, prefix.payload_length);
        match message {
            Message::Hello(hello) => self.on_hello(hello)?,
            Message::Request(header) => self.on_request(PeerRequestId(id), header, length, now_ms)?,
            Message::Response(response) => self.on_response(RequestId(id), response, length)?,
            Message::Refusal(refusal) => self.on_refusal(RequestId(id), refusal)?,
            Message::Cancel => self.on_cancel(PeerRequestId(id)),
            Message::Credit(credit) => {
                self.send_credit.grant(credit.bytes).map_err(|_| Violation::CreditOverflow)?;
            }
            // A peer that pings faster than it reads gets one pong.
            Message::Ping(ping) => self.pong = Some(ping.nonce),
            Message::Pong(pong) => self.on_pong(pong, now_ms),
            Message::GoAway(words) => self.on_go_away(words),
        }
        Ok(())
    }

    pub(super) fn on_hello(&mut self, hello: Hello) -> Result<(), Violation> {
        match &mut self.who {
            Who::ToBeTold(Some(_)) => return Err(Violation::OutOfTurn(Kind::Hello)),
            Who::ToBeTold(waiting) => {
                *waiting = Some(hello);
                return Ok(());
            }
            Who::Known(known) if !known.may_say(hello.role) => {
                return Err(Violation::WrongRole { said: hello.role, known: *known });
            }
            Who::Known(_) => {}
            Who::AsSaid => self.who = Who::Known(hello.role),
        }
        self.stage = Stage::Open;
        self.peer_max_requests = hello.max_requests.min(MAX_REQUESTS);
        self.send_credit.grant(hello.credit_bytes).map_err(|_| Violation::CreditOverflow)?;
        self.events.push_back(Event::Connected(hello));
        Ok(())
    }

    fn on_request(
        &mut self,
        id: PeerRequestId,
        header: RequestHeader,
        length: usize,
        now_ms: u64,
    ) -> Result<(), Violation> {
        if self.requests.asked.contains_key(&id) {
            return Err(Violation::RequestIdInUse(id.0));
        }
        if self.requests.asked.len() >= self.config.max_requests as usize {
            return Err(Violation::TooManyRequests(self.config.max_requests));
        }
        self.accept_payload(length)?;
        let timeout_ms = Some(u64::from(header.timeout_ms)).filter(|ms| *ms != 0);
        let ends_ms = now_ms + timeout_ms.unwrap_or(REQUEST_MAX_MS).min(REQUEST_MAX_MS);
        let deadline_ms = timeout_ms.map(|_| ends_ms);
        let request = header.request;
        let layout = request.layout();
        self.requests
            .asked
            .insert(id, Asked { request: request.clone(), deadline_ms, ends_ms, answered: false });
        if let Err(refusal) = self.admit(RequestKind::of(&request)) {
            self.discard(length);
            self.refuse(id, &refusal).expect("the request was just entered");
        } else if length == 0 {
            self.events.push_back(Event::Request { id, request, payload: None, deadline_ms });
        } else {
            let wanted = BufferWanted { of: PayloadOf::Request(id), length, layout };
            self.arriving = Some(Arriving { wanted, response: None });
            self.receiver.wait();
        }
        Ok(())
    }

    /// Whether anybody here may be asked this by the peer.
    fn admit(&self, kind: RequestKind) -> Result<(), Refusal> {
        if self.leaving {
            return Err(Refusal::new(RefusalCode::Busy, "this member is leaving: ask another one"));
        }
        match self.who {
            Who::Known(role) if (self.config.may_send)(role, kind) => Ok(()),
            Who::Known(role) => {
                Err(Refusal::new(RefusalCode::Invalid, format!("a {role} may not ask this: {kind:?}")))
            }
            Who::AsSaid | Who::ToBeTold(_) => unreachable!("requests come after the hello"),
        }
    }

    fn on_response(&mut self, id: RequestId, response: Response, length: usize) -> Result<(), Violation> {
        let made = self.requests.made.get(&id).filter(|made| made.sent);
        let made = made.ok_or(Violation::UnknownRequest(id.0))?;
        made.request
            .check_response(&response, length)
            .map_err(|error| Violation::Message(Kind::Response, error))?;
        let (abandoned, layout) = (made.abandoned, made.request.response_layout());
        self.accept_payload(length)?;
        if abandoned {
            self.free(id);
            self.discard(length);
        } else if length == 0 {
            self.requests.made.remove(&id);
            self.events.push_back(Event::Response { id, response, payload: None });
        } else {
            let wanted = BufferWanted { of: PayloadOf::Response(id), length, layout };
            self.arriving = Some(Arriving { wanted, response: Some(response) });
            self.receiver.wait();
        }
        Ok(())
    }

    fn accept_payload(&mut self, length: usize) -> Result<(), Violation> {
        if self.receive_credit.accept(length) { Ok(()) } else { Err(Violation::CreditExceeded(length)) }
    }

    fn on_refusal(&mut self, id: RequestId, refusal: Refusal) -> Result<(), Violation> {
        let made = self.requests.made.get(&id).filter(|made| made.sent);
        let abandoned = made.ok_or(Violation::UnknownRequest(id.0))?.abandoned;
        if abandoned {
            self.free(id);
        } else {
            self.requests.made.remove(&id);
            self.events.push_back(Event::Failed { id, error: RequestError::Refused(refusal) });
        }
        Ok(())
    }

    /// A cancel crosses a final frame on its way, so one for a request that is over means nothing.
    fn on_cancel(&mut self, id: PeerRequestId) {
        self.withdraw(id, &Refusal::new(RefusalCode::Cancelled, "taken back by the requester"));
    }

    fn payload_complete(&mut self, buffer: B) {
        let length = buffer.len();
        let arriving = self.arriving.take().expect("a payload arrives for a message");
        match (arriving.wanted.of, arriving.response) {
            (PayloadOf::Response(id), Some(response)) => {
                let made = self.requests.made.get(&id).expect("a request is open until its final frame");
                if !made.abandoned {
                    self.requests.made.remove(&id);
                    self.events.push_back(Event::Response { id, response, payload: Some(buffer) });
                    return;
                }
                self.free(id);
            }
            (PayloadOf::Request(id), _) => {
                let asked = self.requests.asked.get(&id).filter(|asked| !asked.answered);
                if let Some(Asked { request, deadline_ms, .. }) = asked {
                    let (request, deadline_ms) = (request.clone(), *deadline_ms);
                    self.events.push_back(Event::Request { id, request, payload: Some(buffer), deadline_ms });
                    return;
                }
            }
            (PayloadOf::Response(_), None) => unreachable!("a response's payload arrives with it"),
        }
        self.receive_credit.release(length);
    }

    fn on_pong(&mut self, pong: Ping, now_ms: u64) {
        if self.ping_sent_ms.take_if(|sent| *sent == pong.nonce).is_some() {
            self.stats.round_trip_ms = Some(now_ms.saturating_sub(pong.nonce));
        }
    }

    fn on_go_away(&mut self, words: GoAway) {
        if words.fatal {
            self.close_for(CloseReason::PeerLeft(words.text));
            // The peer is not there to hear last words.
            self.output.clear();
        } else if !self.peer_leaving {
            self.peer_leaving = true;
            self.events.push_back(Event::Leaving(words.text));
        }
    }
}
