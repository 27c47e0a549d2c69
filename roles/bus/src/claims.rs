//! Solution claims: of several controllers exactly one sends a solution, at most once (DESIGN 4).
//!
//! ```text
//!   nothing ── create ──▶ Claimed ── CAS ──▶ Sending ── CAS ──▶ Done
//!                          │  ▲
//!                          └──┘ another controller, 700 ms after it first saw this very revision
//! ```
//! A solution sent twice costs the block's rewards, one sent never costs the same: so a claim is taken over while
//! nothing can have been sent, and never after. Every step is a compare-and-set on the key's revision, so a holder
//! that slept through a takeover loses at the next step. Times are measured by who waits; no two clocks are compared.
//!
//! Never: a claim by a controller whose own node has not announced the slot, since that node would ignore it.

use super::{Bucket, BucketConfig, Bus, BusError, Expect};
use crate::Fresh;
use control::ids::InstanceId;
use control::messages::{Claim, ClaimState, Control};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// How long a claim may stand before another controller takes it over.
pub const TAKEOVER_AFTER: Duration = Duration::from_millis(700);
/// How often to look again while the own node has not announced the slot.
const ANNOUNCEMENT_POLL: Duration = Duration::from_millis(50);
/// Attempts at one step whose outcome stays unknown.
const STEP_ATTEMPTS: u32 = 3;
/// Claims are cleaned up when their slot is long past.
const MAX_AGE: Duration = Duration::from_secs(600);
const BUCKET: &str = "claims";

/// The cluster's claims, as one controller sees them.
#[derive(Clone)]
pub struct Claims {
    bucket: Arc<dyn Bucket>,
    me: InstanceId,
}

/// What makes two solutions the same: signed twice, they are an equivocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SolutionKey {
    /// Slot number.
    pub slot: u64,
    /// The farm's public key.
    pub public_key: [u8; 32],
    /// Sector.
    pub sector_index: u16,
    /// Piece in the sector.
    pub piece_offset: u16,
    /// Chunk in the record.
    pub chunk: [u8; 32],
}

impl SolutionKey {
    /// `<slot>.<half of a BLAKE3>`, so that the claims of a slot lie together.
    fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.public_key);
        hasher.update(&self.sector_index.to_le_bytes());
        hasher.update(&self.piece_offset.to_le_bytes());
        hasher.update(&self.chunk);
        format!("{}.{}", self.slot, &hasher.finalize().to_hex()[..32])
    }
}

/// What [`Claims::acquire`] came to.
pub enum Acquired {
    /// This task holds the claim; the next step is [`Held::begin_sending`].
    Mine(Held),
    /// Somebody sends or has sent it.
    Theirs(Claim),
    /// Time ran out while another held it or the own node had not announced the slot.
    TooLate,
}

/// A claim held, nothing sent.
pub struct Held {
    step: Step,
}

/// The right to send the solution, once. It cannot be taken over.
pub struct Sending {
    step: Step,
}

/// One holder's hold on a key: its last revision.
struct Step {
    bucket: Arc<dyn Bucket>,
    key: String,
    me: InstanceId,
    attempt: InstanceId,
    revision: u64,
}

impl Claims {
    /// Opens the claims bucket for controller `me`.
    pub async fn open(bus: &dyn Bus, me: InstanceId) -> Result<Self, BusError> {
        let bucket = bus.bucket(&BucketConfig { name: BUCKET.to_owned(), max_age: Some(MAX_AGE) }).await?;
        Ok(Self { bucket, me })
    }

    /// Tries for `patience` to become the one who sends `solution`. `is_announced` says whether the own node has
    /// announced the slot; it is asked again before each try.
    pub async fn acquire(
        &self,
        solution: &SolutionKey,
        is_announced: impl Fn() -> bool + Send,
        patience: Duration,
    ) -> Result<Acquired, BusError> {
        let give_up_at = Instant::now() + patience;
        let mut step = Step {
            bucket: self.bucket.clone(),
            key: solution.key(),
            me: self.me,
            attempt: InstanceId::generate(),
            revision: 0,
        };
        // What stands in the way: the revision, and since when this task knows it.
        let mut rival: Option<(u64, Instant)> = None;
        loop {
            let free_at = rival.map_or_else(Instant::now, |(_, seen_at)| seen_at + TAKEOVER_AFTER);
            tokio::time::sleep_until(free_at.min(give_up_at)).await;
            if Instant::now() >= free_at && is_announced() {
                let expect = rival.map_or(Expect::Absent, |(revision, _)| Expect::Revision(revision));
                match step.write(ClaimState::Claimed, expect).await {
                    Ok(()) => return Ok(Acquired::Mine(Held { step })),
                    Err(BusError::Conflict { .. } | BusError::OutcomeUnknown { .. }) => {}
                    Err(error) => return Err(error),
                }
            } else {
                tokio::time::sleep_until((Instant::now() + ANNOUNCEMENT_POLL).min(give_up_at)).await;
            }
            match step.read().await? {
                Some((revision, claim)) if claim.attempt == step.attempt => {
                    step.revision = revision;
                    return Ok(Acquired::Mine(Held { step }));
                }
                Some((_, claim)) if claim.state != ClaimState::Claimed => return Ok(Acquired::Theirs(claim)),
                Some((revision, _)) if rival.is_some_and(|(known, _)| known == revision) => {}
                Some((revision, _)) => rival = Some((revision, Instant::now())),
                None => rival = None,
            }
            if Instant::now() >= give_up_at {
                return Ok(Acquired::TooLate);
            }
        }
    }
}

impl Held {
    /// The last step before the solution is sent. `None`: another has taken over, nothing must be sent. On
    /// [`BusError::OutcomeUnknown`] nothing must be sent either, and the solution counts as lost.
    pub async fn begin_sending(mut self) -> Result<Option<Sending>, BusError> {
        let mut last_error = None;
        for _ in 0..STEP_ATTEMPTS {
            match self.step.write(ClaimState::Sending, Expect::Revision(self.step.revision)).await {
                Ok(()) => return Ok(Some(Sending { step: self.step })),
                Err(error @ (BusError::Conflict { .. } | BusError::OutcomeUnknown { .. })) => {
                    last_error = Some(error);
                }
                Err(error) => return Err(error),
            }
            match self.step.read().await? {
                // An earlier attempt of ours arrived although its answer did not.
                Some((revision, claim))
                    if claim.attempt == self.step.attempt && claim.state == ClaimState::Sending =>
                {
                    self.step.revision = revision;
                    return Ok(Some(Sending { step: self.step }));
                }
                Some((revision, _)) if revision == self.step.revision => {}
                _ => return Ok(None),
            }
        }
        Err(last_error.unwrap_or(BusError::Closed))
    }
}

impl Sending {
    /// Writes down that the node answered. A failure changes nothing: nobody sends it again either way.
    pub async fn done(mut self, accepted: bool) -> Result<(), BusError> {
        self.step.write(ClaimState::Done { accepted }, Expect::Revision(self.step.revision)).await
    }
}

impl Step {
    async fn write(&mut self, state: ClaimState, expect: Expect) -> Result<(), BusError> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let claim = Claim { state, holder: self.me, attempt: self.attempt, at_unix_ms };
        let bytes = claim.to_bytes().map_err(|error| self.impossible(&error))?;
        self.revision = self.bucket.write(&self.key, Some(bytes), expect).await?;
        Ok(())
    }

    async fn read(&self) -> Result<Option<(u64, Claim)>, BusError> {
        let Some(entry) = self.bucket.get(&self.key).await? else { return Ok(None) };
        let claim = Claim::from_bytes(&entry.value).map_err(|error| self.impossible(&error))?;
        Ok(Some((entry.revision, claim)))
    }

    fn impossible(&self, error: &control::messages::MessageError) -> BusError {
        BusError::unavailable(&format!("claim `{}`", self.key), error)
    }
}
