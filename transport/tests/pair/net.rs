//! Two connections joined by a simulated stream: bytes keep their order, but are cut, delayed, damaged or cut off as
//! one seed says. Time is virtual. Nothing here decides what is right; it only carries.

use std::collections::VecDeque;
use transport::connection::{Connection, Event, Space};
use transport::payload::PayloadBuf;

/// Splitmix64: one seed replays a run.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the stream does to bytes.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Longest piece the stream delivers at once.
    pub segment_bytes: u64,
    /// Longest time a piece is under way.
    pub delay_ms: u64,
    /// Longest time a reader takes to find memory for a payload.
    pub buffer_ms: u64,
    /// The bit of the b-to-a stream that arrives flipped.
    pub flipped_bit: Option<u64>,
    /// Bytes from b to a after which the stream is cut.
    pub cut_after_bytes: Option<u64>,
}

impl Faults {
    pub const NONE: Self =
        Self { segment_bytes: u64::MAX, delay_ms: 0, buffer_ms: 0, flipped_bit: None, cut_after_bytes: None };
}

pub type Conn = Connection<Vec<u8>>;
pub type Events = Vec<Event<Vec<u8>>>;

/// One end: a connection and the bytes on their way to it.
pub struct End {
    pub conn: Conn,
    inbox: VecDeque<(u64, Vec<u8>)>,
    buffer_at_ms: Option<u64>,
    /// Bytes this end has put on the wire.
    pub sent_bytes: u64,
}

impl End {
    fn new(conn: Conn) -> Self {
        Self { conn, inbox: VecDeque::new(), buffer_at_ms: None, sent_bytes: 0 }
    }
}

pub struct Net {
    pub a: End,
    pub b: End,
    pub now_ms: u64,
    pub rng: Rng,
    faults: Faults,
    cut: bool,
}

impl Net {
    pub fn new(seed: u64, faults: Faults, connect: impl Fn(bool, u64) -> Conn) -> Self {
        let (a, b) = (End::new(connect(true, 0)), End::new(connect(false, 0)));
        Self { a, b, now_ms: 0, rng: Rng(seed), faults, cut: false }
    }

    /// Moves bytes until time must pass; returns what happened at a and at b.
    pub fn turn(&mut self) -> (Events, Events) {
        let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
        loop {
            at_a.extend(self.deliver(true));
            at_b.extend(self.deliver(false));
            // What was delivered may lead to an answer at once.
            if !(self.send(true) | self.send(false)) {
                return (at_a, at_b);
            }
        }
    }

    /// Lets time pass to the next thing due, at most to `limit_ms`.
    pub fn sleep(&mut self, limit_ms: u64) {
        let due = [&self.a, &self.b].into_iter().flat_map(|end| {
            let arrival = end.inbox.front().map(|(at, _)| *at);
            // While memory is awaited the bytes wait too.
            let arrival = end.buffer_at_ms.or(arrival);
            [arrival, end.conn.next_tick_ms()].into_iter().flatten()
        });
        let next = due.min().unwrap_or(limit_ms).min(limit_ms);
        self.now_ms = next.max(self.now_ms + 1);
        self.a.conn.tick(self.now_ms);
        self.b.conn.tick(self.now_ms);
    }

    fn send(&mut self, from_a: bool) -> bool {
        let mut any = false;
        let (from, to) = if from_a { (&mut self.a, &mut self.b) } else { (&mut self.b, &mut self.a) };
        while let Some(frame) = from.conn.transmit(self.now_ms) {
            any = true;
            let mut bytes = frame.head.to_vec();
            if let Some(payload) = frame.payload {
                bytes.extend_from_slice(payload.chunk(0));
            }
            if !from_a {
                let flip = self.faults.flipped_bit.and_then(|bit| (bit / 8).checked_sub(from.sent_bytes));
                if let Some(byte) = flip.and_then(|at| bytes.get_mut(at as usize)) {
                    *byte ^= 1 << (self.faults.flipped_bit.unwrap() % 8);
                }
                let left = self.faults.cut_after_bytes.map(|limit| limit.saturating_sub(from.sent_bytes));
                if left.is_some_and(|left| left < bytes.len() as u64) {
                    bytes.truncate(left.unwrap() as usize);
                    self.cut = true;
                }
            }
            from.sent_bytes += bytes.len() as u64;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let take = (1 + self.rng.below(self.faults.segment_bytes)).min(rest.len() as u64) as usize;
                let delay = self.rng.below(self.faults.delay_ms + 1);
                let not_before = to.inbox.back().map_or(0, |(at, _)| *at);
                to.inbox.push_back(((self.now_ms + delay).max(not_before), rest[..take].to_vec()));
                rest = &rest[take..];
            }
        }
        any
    }

    fn deliver(&mut self, to_a: bool) -> Events {
        let end = if to_a { &mut self.a } else { &mut self.b };
        loop {
            if let Space::Wanted(wanted) = end.conn.space() {
                let (now, wait) = (self.now_ms, self.faults.buffer_ms);
                let at = *end.buffer_at_ms.get_or_insert_with(|| now + self.rng.below(wait + 1));
                if at > now {
                    break;
                }
                end.conn.provide(vec![0; wanted.length], self.now_ms);
            }
            end.buffer_at_ms = None;
            let Some((at, bytes)) = end.inbox.front_mut() else { break };
            if *at > self.now_ms || end.conn.is_closed() {
                break;
            }
            let taken = end.conn.receive(bytes, self.now_ms);
            bytes.drain(..taken);
            if bytes.is_empty() {
                end.inbox.pop_front();
            }
        }
        if self.cut && end.inbox.is_empty() && !end.conn.is_closed() {
            end.conn.lost("the simulated stream was cut");
        }
        std::iter::from_fn(|| end.conn.event()).collect()
    }
}
