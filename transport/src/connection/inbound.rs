//! What incoming frames do to a connection.

use super::receiver::Complete;
use super::requests::{Asked, PeerRequestId, RequestId};
use super::types::{BufferWanted, CloseReason, Event, PayloadOf, RequestError, Violation};
use super::{Connection, MAX_REQUESTS, Stage, Tag, encode};
use crate::frame::{Kind, Prefix};
use crate::message::{GoAway, Hello, Ping, Refusal, RefusalCode, RequestHeader, Response};
use crate::parse::{self, Message};
use crate::payload::PayloadBuf;

/// A message whose payload has not fully arrived.
pub(super) struct Arriving {
    pub(super) wanted: BufferWanted,
    /// What the payload goes with, unless it goes with a request of the peer.
    response: Option<Response>,
}

impl<B: PayloadBuf> Connection<B> {
    pub(super) fn handle(&mut self, complete: Complete<B>, now_ms: u64) -> Result<(), Violation> {
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

    fn on_hello(&mut self, hello: Hello) -> Result<(), Violation> {
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
        let deadline_ms = (header.timeout_ms != 0).then(|| now_ms + u64::from(header.timeout_ms));
        let request = header.request;
        let layout = request.layout();
        self.requests.asked.insert(id, Asked { request: request.clone(), deadline_ms, answered: false });
        if self.leaving {
            self.discard(length);
            let refusal = Refusal::new(RefusalCode::Busy, "this member is leaving: ask another one");
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

    fn on_response(&mut self, id: RequestId, response: Response, length: usize) -> Result<(), Violation> {
        let made = self.requests.made.get(&id).filter(|made| made.sent);
        let made = made.ok_or(Violation::UnknownRequest(id.0))?;
        made.request
            .check_response(&response, length)
            .map_err(|error| Violation::Message(Kind::Response, error))?;
        let (abandoned, layout) = (made.abandoned, made.request.response_layout());
        self.accept_payload(length)?;
        if abandoned {
            self.requests.made.remove(&id);
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

    /// Reads past an accepted payload that takes no memory.
    fn discard(&mut self, length: usize) {
        if length != 0 {
            self.receive_credit.release(length);
            self.receiver.discard(length);
        }
    }

    fn on_refusal(&mut self, id: RequestId, refusal: Refusal) -> Result<(), Violation> {
        let made = self.requests.made.get(&id).filter(|made| made.sent);
        let abandoned = made.ok_or(Violation::UnknownRequest(id.0))?.abandoned;
        self.requests.made.remove(&id);
        if !abandoned {
            self.events.push_back(Event::Failed { id, error: RequestError::Refused(refusal) });
        }
        Ok(())
    }

    /// A cancel crosses a final frame on its way, so one for a request that is over means nothing.
    fn on_cancel(&mut self, id: PeerRequestId) {
        self.withdraw(id, &Refusal::new(RefusalCode::Cancelled, "taken back by the requester"));
    }

    /// Ends a peer's request without its handler's answer; an answer not yet sent is dropped.
    pub(super) fn withdraw(&mut self, id: PeerRequestId, refusal: &Refusal) {
        let Some(asked) = self.requests.asked.get_mut(&id) else { return };
        if !asked.answered {
            asked.answered = true;
            let arriving = self.arriving.as_ref().map(|arriving| arriving.wanted.of);
            // While its payload arrives nobody here has heard of it.
            if arriving != Some(PayloadOf::Request(id)) {
                self.events.push_back(Event::Withdrawn(id));
            }
        } else if !self.output.withdraw(Tag::Final(id.0)) {
            return;
        }
        self.output.push(Tag::Final(id.0), encode(Kind::Refusal, id.0, 0, refusal), None);
        self.drop_unprovided(PayloadOf::Request(id));
    }

    /// No memory is needed any more for a payload nobody wants.
    pub(super) fn drop_unprovided(&mut self, of: PayloadOf) {
        let Some(wanted) = self.arriving.as_ref().map(|arriving| arriving.wanted) else { return };
        if wanted.of != of || !self.receiver.is_waiting() {
            return;
        }
        self.arriving = None;
        self.discard(wanted.length);
        if let PayloadOf::Response(id) = of {
            self.requests.made.remove(&id);
        }
    }

    fn payload_complete(&mut self, buffer: B) {
        let length = buffer.len();
        let arriving = self.arriving.take().expect("a payload arrives for a message");
        match (arriving.wanted.of, arriving.response) {
            (PayloadOf::Response(id), Some(response)) => {
                let made = self.requests.made.remove(&id).expect("a request is open until its final frame");
                if !made.abandoned {
                    self.events.push_back(Event::Response { id, response, payload: Some(buffer) });
                    return;
                }
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
