//! When a peer is dialled, and at which of its addresses.
//!
//! ```text
//!            wanted              opened
//!   Idle ──────────────▶ Dialing ─────────▶ Idle: next time the same address comes first
//!    ▲                    │ ▲ │ try: the next address, when all before it failed or had their head start
//!    │ the pause is over  │ └─┘
//!   Paused ◀──────────────┘ the last one failed, or the time is over
//!      ▲
//!      └── retired, at every address in turn
//! ```
//! A dial ends by itself, not with the request that began it: so it counts however it ended, and an address that swallows
//! everything delays the next one by a head start and no more. A connection that is retired counts as a dial that failed, until
//! one of its kind is answered. Time is milliseconds since any fixed moment. Owns: pauses and the order of addresses. Never:
//! sockets, requests.

/// How a peer is dialled.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For all addresses together.
    pub connect_ms: u64,
    /// What an address has before the next one is tried beside it.
    pub head_start_ms: u64,
    /// Pause after the first failure; doubles with each, up to `max_pause_ms`, plus up to half of it at random.
    pub first_pause_ms: u64,
    /// Longest pause.
    pub max_pause_ms: u64,
}

/// What becomes of somebody's wish for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Begin: ask [`Dialing::step`] what to do.
    Dial,
    /// Another began.
    UnderWay,
    /// Not before so many milliseconds have passed.
    Paused(u64),
}

/// What a dial does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Try this address beside those under way.
    Try(usize),
    /// Nothing before this moment, unless one of them fails or opens.
    Wait(u64),
    /// It failed: [`Dialing::over`].
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Dialing { begun_ms: u64, tried: usize, failed: usize, last_ms: u64 },
    Paused { until_ms: u64 },
}

/// See the module's text.
#[derive(Debug)]
pub struct Dialing {
    addresses: usize,
    patience: Patience,
    stage: Stage,
    /// The address that comes first.
    first: usize,
    /// Dials in a row that failed, and connections that were retired before they answered.
    failures: u32,
    /// Connections in a row that were retired before they answered.
    retired: usize,
}

impl Dialing {
    /// # Panics
    /// When there is no address.
    pub fn new(addresses: usize, patience: Patience) -> Self {
        assert!(addresses > 0, "a peer without an address cannot be dialled");
        Self { addresses, patience, stage: Stage::Idle, first: 0, failures: 0, retired: 0 }
    }

    /// Somebody wants a connection and there is none.
    pub fn wanted(&mut self, now_ms: u64) -> Wanted {
        match self.stage {
            Stage::Dialing { .. } => Wanted::UnderWay,
            Stage::Paused { until_ms } if now_ms < until_ms => Wanted::Paused(until_ms - now_ms),
            Stage::Idle | Stage::Paused { .. } => {
                self.stage = Stage::Dialing { begun_ms: now_ms, tried: 0, failed: 0, last_ms: now_ms };
                Wanted::Dial
            }
        }
    }

    /// What the dial does now.
    ///
    /// # Panics
    /// When none is under way.
    pub fn step(&mut self, now_ms: u64) -> Step {
        let Stage::Dialing { begun_ms, tried, failed, last_ms } = &mut self.stage else {
            panic!("no dial is under way")
        };
        let end_ms = *begun_ms + self.patience.connect_ms;
        let next_ms = *last_ms + self.patience.head_start_ms;
        let is_left = *tried < self.addresses;
        if now_ms >= end_ms || *failed == self.addresses {
            return Step::Over;
        }
        if is_left && (tried == failed || now_ms >= next_ms) {
            let address = (self.first + *tried) % self.addresses;
            *tried += 1;
            *last_ms = now_ms;
            return Step::Try(address);
        }
        Step::Wait(if is_left { end_ms.min(next_ms) } else { end_ms })
    }

    /// An address that was tried failed.
    pub fn failed(&mut self) {
        if let Stage::Dialing { failed, .. } = &mut self.stage {
            *failed += 1;
        }
    }

    /// An address opened.
    pub fn opened(&mut self, address: usize) {
        self.first = address;
        self.stage = Stage::Idle;
    }

    /// The dial failed as a whole, or ended in whatever way. `random` spreads those that lost the same peer.
    pub fn over(&mut self, now_ms: u64, random: u64) {
        let pause_ms = self.patience.first_pause_ms.saturating_mul(1 << self.failures.min(16));
        let pause_ms = pause_ms.min(self.patience.max_pause_ms);
        self.failures = self.failures.saturating_add(1);
        self.stage = Stage::Paused { until_ms: now_ms + pause_ms + pause_ms * (random % 1001) / 2000 };
    }

    /// The peer answered something: it is well.
    pub fn answered(&mut self) {
        (self.failures, self.retired) = (0, 0);
    }

    /// The connection was retired. The next address comes first; after the last one there is a pause.
    pub fn retired(&mut self, now_ms: u64, random: u64) {
        self.first = (self.first + 1) % self.addresses;
        self.retired += 1;
        if self.retired.is_multiple_of(self.addresses) && !matches!(self.stage, Stage::Dialing { .. }) {
            self.over(now_ms, random);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { connect_ms: 5000, head_start_ms: 250, first_pause_ms: 100, max_pause_ms: 10_000 };

    /// Runs a dial in which no address ever answers; gives when it was over.
    fn swallowed(dialing: &mut Dialing, mut now_ms: u64) -> u64 {
        assert_eq!(dialing.wanted(now_ms), Wanted::Dial);
        loop {
            match dialing.step(now_ms) {
                Step::Try(_) => {}
                Step::Wait(until_ms) => now_ms = until_ms,
                Step::Over => break,
            }
        }
        dialing.over(now_ms, 0);
        now_ms
    }

    #[test]
    fn addresses_have_a_head_start_and_then_company() {
        let mut dialing = Dialing::new(3, PATIENCE);
        assert_eq!(dialing.wanted(7), Wanted::Dial);
        assert_eq!(dialing.wanted(8), Wanted::UnderWay, "one dial serves all");
        assert_eq!((dialing.step(8), dialing.step(8)), (Step::Try(0), Step::Wait(258)));
        assert_eq!((dialing.step(258), dialing.step(258)), (Step::Try(1), Step::Wait(508)));
        dialing.failed();
        assert_eq!(dialing.step(300), Step::Wait(508), "the first is still under way");
        dialing.failed();
        assert_eq!((dialing.step(300), dialing.step(300)), (Step::Try(2), Step::Wait(5007)));
        dialing.opened(2);
        assert_eq!(dialing.wanted(9000), Wanted::Dial);
        assert_eq!(dialing.step(9000), Step::Try(2), "what opened comes first");
    }

    #[test]
    fn every_dial_that_fails_counts() {
        let (mut dialing, mut now_ms) = (Dialing::new(2, PATIENCE), 0);
        for pause_ms in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            now_ms = swallowed(&mut dialing, now_ms);
            assert_eq!(dialing.wanted(now_ms), Wanted::Paused(pause_ms));
            assert_eq!(dialing.wanted(now_ms + pause_ms - 1), Wanted::Paused(1));
            now_ms += pause_ms;
        }
        // A connection that opens and answers nothing changes nothing.
        assert_eq!((dialing.wanted(now_ms), dialing.step(now_ms)), (Wanted::Dial, Step::Try(0)));
        dialing.opened(0);
        now_ms = swallowed(&mut dialing, now_ms);
        assert_eq!(dialing.wanted(now_ms), Wanted::Paused(10_000));
        dialing.answered();
        now_ms = swallowed(&mut dialing, now_ms + 10_000);
        assert_eq!(dialing.wanted(now_ms), Wanted::Paused(100));
    }

    #[test]
    fn refusals_at_every_address_end_a_dial_at_once() {
        let mut dialing = Dialing::new(2, PATIENCE);
        assert_eq!(dialing.wanted(0), Wanted::Dial);
        for address in 0..2 {
            assert_eq!(dialing.step(0), Step::Try(address));
            dialing.failed();
        }
        assert_eq!(dialing.step(0), Step::Over);
        dialing.over(0, 1000);
        assert_eq!(dialing.wanted(0), Wanted::Paused(150), "a half more at random");
    }

    #[test]
    fn retired_connections_lead_to_the_next_address_and_after_the_last_to_a_pause() {
        let mut dialing = Dialing::new(2, PATIENCE);
        for (address, pause) in [(0, None), (1, Some(100)), (0, None), (1, Some(200))] {
            assert_eq!((dialing.wanted(0), dialing.step(0)), (Wanted::Dial, Step::Try(address)));
            dialing.opened(address);
            dialing.retired(0, 0);
            if let Some(pause) = pause {
                assert_eq!(dialing.wanted(0), Wanted::Paused(pause));
                dialing.stage = Stage::Idle;
            }
        }
    }
}
