//! In how many copies streams are kept: one on one or two servers, three where there are three or more.
//!
//! A client is not told how many servers with JetStream there are, and the addresses a server advertises are neither all nor
//! only those. So three copies are asked for wherever there is a NATS cluster; it refuses what it cannot keep, and is asked
//! again later, ever more seldom.

use async_nats::ServerInfo;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config, Stream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Copies that outlive the loss of one server.
const SAFE_COPIES: usize = 3;
/// First pause before a cluster that refused is asked again; doubled each time. Short, because servers that start together
/// find each other within seconds, and until then one loss is a loss of everything.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The rule of this connection.
pub(super) struct Copies {
    /// As the operator said, if he did.
    exactly: Option<usize>,
    /// Whether it was said that one server alone is a risk.
    risk_told: AtomicBool,
}

/// When a stream's copies may be changed next.
#[derive(Default)]
pub(super) struct Raise(Mutex<Option<(Instant, Duration)>>);

impl Copies {
    /// `exactly` so many, or as many as fit the servers.
    pub(super) fn new(exactly: Option<usize>) -> Self {
        Self { exactly, risk_told: AtomicBool::new(false) }
    }

    /// Whether the number follows the servers.
    pub(super) fn is_auto(&self) -> bool {
        self.exactly.is_none()
    }

    /// How many to ask for.
    pub(super) fn of(&self, server: &ServerInfo) -> usize {
        let fitting = if server.cluster.is_some() { SAFE_COPIES } else { 1 };
        self.exactly.unwrap_or(fitting)
    }

    /// Gives `stream` the copies it should have, if it has not and the cluster can; told when done. Copies
    /// are never taken away: a server that is gone now comes back, and another member may have been told a higher number.
    pub(super) async fn raise(&self, api: &Context, server: ServerInfo, stream: &Stream, raise: &Raise) {
        if server.cluster.is_none() && !self.risk_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "one NATS server alone holds what the cluster knows: while it is gone nothing is plotted and no role starts; \
                 three servers in a NATS cluster outlive the loss of one"
            );
        }
        let config = &stream.cached_info().config;
        let (has, wanted) = (config.num_replicas, self.of(&server));
        if has >= wanted {
            return raise.done();
        }
        if !raise.is_time() {
            return;
        }
        match api.update_stream(Config { num_replicas: wanted, ..config.clone() }).await {
            Ok(_) => {
                raise.done();
                tracing::info!("stream `{}` is kept in {wanted} copies now, before in {has}", config.name);
            }
            Err(error) => {
                tracing::debug!("stream `{}` stays in {has} copies for now: {error}", config.name);
                raise.refused();
            }
        }
    }
}

impl Raise {
    fn is_time(&self) -> bool {
        self.due().is_none_or(|due| Instant::now() >= due)
    }

    /// When a cluster that refused may be asked again; none if it has not refused, or has agreed since.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|(due, _)| due)
    }

    /// Nothing is left to ask for.
    fn done(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn refused(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = state.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        *state = Some((Instant::now() + pause, pause));
    }
}
