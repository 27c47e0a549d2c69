//! Plot jobs on the work queue: stream `plot`, subject `plot.<group>.<farm>.<sector>.<history>`, one job a subject.

use super::names::check_token;
use super::{Bus, BusError, Delivery, Queue, QueueConfig};
use control::messages::{Control, PlotJob, SectorId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Name of the stream.
const QUEUE: &str = "plot";
/// A server that says nothing of a job for this long has lost it.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long a server listens to its own group before it looks at the others again.
const OWN_GROUP_WAIT: Duration = Duration::from_millis(500);

/// The cluster's plot jobs.
#[derive(Clone)]
pub struct PlotJobs {
    queue: Arc<dyn Queue>,
}

/// What became of a job that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits for a server now.
    Queued,
    /// It waits or is being done already: attach to that one.
    AlreadyThere,
}

/// A job taken by a server. Report progress well within [`ACK_WAIT`]; ack when the plot-client has it on disk.
pub struct TakenJob {
    /// What to do.
    pub job: PlotJob,
    /// The way to say how it went.
    pub delivery: Delivery,
}

impl PlotJobs {
    /// Opens the stream, made if it is not there.
    pub async fn open(bus: &dyn Bus) -> Result<Self, BusError> {
        Self::open_with(bus, ACK_WAIT).await
    }

    /// The same with another ack wait, for tests.
    pub async fn open_with(bus: &dyn Bus, ack_wait: Duration) -> Result<Self, BusError> {
        let queue = bus.queue(&QueueConfig { name: QUEUE.to_owned(), ack_wait }).await?;
        Ok(Self { queue })
    }

    /// Offers a job to the servers of `group`.
    pub async fn offer(&self, group: &str, job: &PlotJob) -> Result<Offered, BusError> {
        check_token(group)?;
        let subject = subject(group, &job.sector);
        let payload = job
            .to_bytes()
            .map_err(|error| BusError::Unavailable { what: subject.clone(), reason: error.to_string() })?;
        match self.queue.push(&subject, payload).await {
            Ok(()) => Ok(Offered::Queued),
            Err(BusError::AlreadyQueued { .. }) => Ok(Offered::AlreadyThere),
            Err(error) => Err(error),
        }
    }

    /// Changes each time the queue was found to have been made anew: the jobs it held are lost, offer them again.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.queue.generation()
    }

    /// Takes a job, of the first group in `groups` (the server's own) if there is one, else of the others in turn.
    /// `None` after `max_wait`.
    pub async fn take(&self, groups: &[String], max_wait: Duration) -> Result<Option<TakenJob>, BusError> {
        let Some(own) = groups.first() else { return Ok(None) };
        let give_up_at = Instant::now() + max_wait;
        loop {
            for group in groups {
                if let Some(taken) = self.take_from(group, Duration::ZERO).await? {
                    return Ok(Some(taken));
                }
            }
            let left = give_up_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let wait = if groups.len() == 1 { left } else { left.min(OWN_GROUP_WAIT) };
            if let Some(taken) = self.take_from(own, wait).await? {
                return Ok(Some(taken));
            }
        }
    }

    /// One job of one group. What is no job is logged and removed, else it would come back for ever.
    async fn take_from(&self, group: &str, max_wait: Duration) -> Result<Option<TakenJob>, BusError> {
        let Some(delivery) = self.queue.pull(group, max_wait).await? else { return Ok(None) };
        match PlotJob::from_bytes(&delivery.payload) {
            Ok(job) if delivery.subject == subject(group, &job.sector) => {
                Ok(Some(TakenJob { job, delivery }))
            }
            Ok(_) => self.reject(&delivery, "its subject names another sector").await,
            Err(error) => self.reject(&delivery, &error.to_string()).await,
        }
    }

    async fn reject(&self, delivery: &Delivery, reason: &str) -> Result<Option<TakenJob>, BusError> {
        tracing::error!(subject = delivery.subject, reason, "removed from the plot queue: not a plot job");
        delivery.ack().await?;
        Ok(None)
    }
}

fn subject(group: &str, sector: &SectorId) -> String {
    format!("{QUEUE}.{group}.{sector}")
}
