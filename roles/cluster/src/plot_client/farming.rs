//! A slot's work: every farm audits, the best candidates are proved first, and solutions leave while they are of use.
//!
//! ```text
//!   SlotInfo ─▶ once a (slot, challenge) ─▶ audits of all farms ─▶ Ranking ─▶ proofs, a few at once ─▶ SolutionFound
//!                                                └─ a slow disk delays only its own candidates
//! ```

use super::audit::{Audited, audit_farm};
use super::candidates::{Candidate, Ranking};
use super::counters::Counters;
use super::farms::FarmHandle;
use super::holder::Held;
use super::proving::{Provers, ProvingError};
use super::signing::Windows;
use super::slots::SeenSlots;
use crate::host::Host;
use bus::{SharedBus, Subscription};
use consensus::CpuLevel;
use control::messages::{ClusterInfo, Control, Role, SlotInfo, SolutionFound, subjects};
use engine::Class;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use gpu::ProveError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Candidates of one slot that are read and proved at once.
const MAX_PROOFS: usize = 4;
/// Time between two lines in the log about the same kind of trouble of a slot.
const QUIET: Duration = Duration::from_secs(60);

/// What farming needs.
pub struct Farming {
    /// The bus.
    pub bus: SharedBus,
    /// Knows the controllers.
    pub host: Host,
    /// Which farms may farm.
    pub held: Held,
    /// Opened for the solutions that leave.
    pub windows: Windows,
    /// All farms that opened.
    pub farms: Vec<FarmHandle>,
    /// Makes proofs.
    pub provers: Provers,
    /// Who is paid.
    pub reward_address: [u8; 32],
    /// The cluster's settings.
    pub info: watch::Receiver<ClusterInfo>,
    /// What became of everything.
    pub counters: Arc<Counters>,
    /// Instructions for audits.
    pub level: CpuLevel,
}

impl Farming {
    /// Works on slots until the bus is closed.
    pub async fn run(self, mut slots: Subscription) {
        let (farming, mut seen, mut working) = (Arc::new(self), SeenSlots::default(), JoinSet::new());
        let mut trouble = Trouble::default();
        while let Some(message) = slots.next().await {
            let heard_at = Instant::now();
            while let Some(done) = working.try_join_next() {
                trouble.tell(done);
            }
            match SlotInfo::from_bytes(&message.payload) {
                Ok(slot) if seen.is_new(slot.slot, &slot.global_challenge) => {
                    farming.counters.slots.increment();
                    let farming = farming.clone();
                    working.spawn(async move { farming.work_on(slot, heard_at).await });
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("a slot that cannot be read: {error}"),
            }
        }
    }

    /// Works on one slot; gives the first trouble.
    async fn work_on(&self, slot: SlotInfo, heard_at: Instant) -> Option<String> {
        let timeout = Duration::from_millis(u64::from(self.info.borrow().farming_timeout_ms));
        let deadline = heard_at + timeout;
        let mut audits: FuturesUnordered<_> = (0..self.farms.len())
            .filter(|farm| self.may_farm(*farm))
            .map(|farm| self.audit(farm, &slot))
            .collect();
        let (mut proofs, mut ranking) = (FuturesUnordered::new(), Ranking::default());
        let mut trouble = None;
        loop {
            while proofs.len() < MAX_PROOFS
                && let Some(best) = ranking.next()
            {
                proofs.push(self.solve(best, &slot, deadline));
            }
            if audits.is_empty() && proofs.is_empty() {
                return trouble;
            }
            tokio::select! {
                Some(audited) = audits.next() => match audited {
                    Ok(candidates) => ranking.extend(candidates),
                    Err(error) => trouble = trouble.or(Some(error)),
                },
                Some(solved) = proofs.next() => {
                    let solved: Result<(), String> = solved;
                    trouble = trouble.or(solved.err());
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.counters.expired.add((ranking.len() + proofs.len()) as u64);
                    return trouble.or(Some(format!("slot {} was over before its work was", slot.slot)));
                }
            }
        }
    }

    fn may_farm(&self, farm: usize) -> bool {
        self.held.may_farm(&self.farms[farm].identity().public_key())
    }

    async fn audit(&self, farm: usize, slot: &SlotInfo) -> Result<Vec<Candidate>, String> {
        let (handle, level, asked) = (&self.farms[farm], self.level, slot.clone());
        let dir = handle.dir().display();
        let audit = handle
            .run(Class::AuditRead, move |open| async move { audit_farm(&open, farm, &asked, level).await });
        let Audited { candidates, errors, error, took } = match audit.await {
            Ok(Some(audited)) => audited,
            Ok(None) => {
                self.counters.skipped.increment();
                return Err(format!(
                    "{dir}: slot {} skipped, the audit before still runs: is the disk slow?",
                    slot.slot
                ));
            }
            Err(gone) => return Err(format!("{dir}: {gone}")),
        };
        self.counters.audited(took);
        self.counters.audit_errors.add(errors);
        self.counters.found.add(candidates.len() as u64);
        if let Some(error) = error {
            tracing::debug!(%dir, errors, "sectors could not be audited: {error}");
        }
        Ok(candidates)
    }

    /// Proves a candidate and publishes its solution.
    async fn solve(&self, candidate: Candidate, slot: &SlotInfo, deadline: Instant) -> Result<(), String> {
        let (counters, farm) = (&self.counters, &self.farms[candidate.farm]);
        let solved = self.provers.solve(farm, candidate, slot, &self.reward_address, deadline).await;
        let failed = |error: &dyn std::fmt::Display| {
            format!("{}: sector {}: {error}", farm.dir().display(), candidate.sector)
        };
        let solution = match solved {
            Ok(solution) => solution,
            Err(ProvingError::NotEncoded) => {
                counters.not_encoded.increment();
                return Ok(());
            }
            Err(ProvingError::Replaced) => return Ok(()),
            Err(error @ ProvingError::Prove(ProveError::Late)) => {
                counters.expired.increment();
                return Err(failed(&error));
            }
            Err(error) => {
                counters.failed.increment();
                return Err(failed(&error));
            }
        };
        counters.proved.increment();
        if !self.may_farm(candidate.farm) {
            return Ok(());
        }
        // Any controller may send it.
        let controllers = self.host.members(Role::Controller).into_iter().map(|member| member.id);
        let mut controllers: Vec<_> = controllers.filter(|id| *id != slot.controller).collect();
        controllers.push(slot.controller);
        controllers.iter().for_each(|id| self.windows.handed_over(solution.public_key, *id));
        let (slot, global_challenge) = (slot.slot, slot.global_challenge);
        let found = SolutionFound { slot, global_challenge, farm: farm.id(), solution: solution.to_bytes() };
        let bytes = found.to_bytes().expect("a solution is far below the limit of a message");
        if let Err(error) = self.bus.publish(subjects::SOLUTION, bytes).await {
            controllers.iter().for_each(|id| self.windows.not_taken(solution.public_key, *id));
            return Err(failed(&error));
        }
        counters.sent.increment();
        tracing::info!(slot, farm = %farm.id(), sector = candidate.sector, distance = candidate.distance, "solution sent");
        Ok(())
    }
}

/// Tells about trouble with slots, but not each second anew.
#[derive(Default)]
struct Trouble {
    told_at: Option<Instant>,
    untold: u64,
}

impl Trouble {
    fn tell(&mut self, slot: Result<Option<String>, tokio::task::JoinError>) {
        let trouble = match slot {
            Ok(None) => return,
            Ok(Some(trouble)) => trouble,
            Err(error) => format!("the work on a slot ended early: {error}"),
        };
        if self.told_at.is_some_and(|told_at| told_at.elapsed() < QUIET) {
            self.untold += 1;
            return;
        }
        tracing::warn!(slots_with_trouble_before = self.untold, "{trouble}");
        *self = Self { told_at: Some(Instant::now()), untold: 0 };
    }
}
