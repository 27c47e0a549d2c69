//! A slot's work: every farm audits, the best candidates are proved first, and solutions leave while they are of use.
//!
//! ```text
//!   slot, deadline ─▶ audits of all farms ─▶ Ranking ─▶ proofs, a few at once ─▶ Found
//!                                                └─ a slow disk delays only its own candidates
//! ```

use super::audit::{Audited, audit_farm};
use super::candidates::{Candidate, Ranking};
use super::counters::Counters;
use super::doubts::{Suspect, Verdict};
use super::farms::{FarmHandle, OpenFarm};
use super::holder::Held;
use super::mended::tell_mended;
use super::proving::{Provers, ProvingError};
use super::rebuilding::Rebuilder;
use super::solutions::Found;
use consensus::CpuLevel;
use control::messages::SlotInfo;
use control::slots::SlotKey;
use engine::Class;
use engine::farm::Mended;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use gpu::ProveError;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Candidates of one slot that are read and proved at once.
const MAX_PROOFS: usize = 4;

/// What farming needs.
#[derive(Clone)]
pub struct Farming {
    /// Which farms may farm.
    pub held: Held,
    /// The farms that take part; in each slot those that do then.
    pub farms: Arc<[FarmHandle]>,
    /// Makes proofs.
    pub provers: Arc<Provers>,
    /// Takes sectors that are damaged.
    pub rebuilder: Arc<Rebuilder>,
    /// Who is paid.
    pub reward_address: [u8; 32],
    /// Where solutions go.
    pub found: mpsc::Sender<Found>,
    /// What became of everything.
    pub counters: Arc<Counters>,
    /// Instructions for audits.
    pub level: CpuLevel,
}

impl Farming {
    /// Works on one slot until `deadline`; gives the first trouble.
    pub async fn work_on(self: Arc<Self>, slot: SlotInfo, deadline: Instant) -> Option<String> {
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
                () = tokio::time::sleep_until(deadline) => {
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
        let Audited { candidates, errors, error, suspects, took, .. } = match audit.await {
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
        for suspect in suspects {
            self.look_into(handle, suspect, None, "its audit failed".to_owned());
        }
        Ok(candidates)
    }

    /// Proves a candidate and hands its solution on.
    async fn solve(&self, candidate: Candidate, slot: &SlotInfo, deadline: Instant) -> Result<(), String> {
        let (counters, farm) = (&self.counters, &self.farms[candidate.farm]);
        let solved =
            self.provers.solve(farm, candidate, slot, &self.reward_address, deadline.into_std()).await;
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
                if let Some(depth) = error.doubt() {
                    let Candidate { sector, history_size, s_bucket, chunk_offset, .. } = candidate;
                    let suspect = Suspect { sector, history_size, depth };
                    self.look_into(farm, suspect, Some((s_bucket, chunk_offset)), error.to_string());
                }
                return Err(failed(&error));
            }
        };
        let (slot, farm, distance) = (SlotKey::from(slot), farm.id(), candidate.distance);
        tracing::info!(slot = slot.slot, %farm, sector = candidate.sector, distance, "solution found");
        let found = Found { slot, farm, solution, distance, deadline };
        // Gone only when the plot-client ends.
        let _ = self.found.send(found).await;
        Ok(())
    }

    /// Has a sector looked into, for which no slot waits.
    fn look_into(&self, farm: &FarmHandle, suspect: Suspect, chunk: Option<(u16, usize)>, reason: String) {
        let (rebuilder, counters) = (self.rebuilder.clone(), self.counters.clone());
        tokio::spawn(look_into(farm.clone(), suspect, chunk, reason, rebuilder, counters));
    }
}

/// Looks into a sector of which something failed for `reason`, the proof of a chunk if one is given, and says what comes of it.
async fn look_into(
    farm: FarmHandle,
    suspect: Suspect,
    chunk: Option<(u16, usize)>,
    reason: String,
    rebuilder: Arc<Rebuilder>,
    counters: Arc<Counters>,
) {
    let sector = suspect.sector;
    if rebuilder.is_under_way(&farm, sector) {
        return;
    }
    let look = move |open: Rc<OpenFarm>| async move { open.doubts.look_into(&open.farm, &suspect).await };
    // Stopped: nothing is begun on it any more.
    let Ok(Some(verdict)) = farm.run(Class::Scrub, look).await else { return };
    let dir = farm.dir().display();
    match verdict {
        Verdict::Damaged(fault, Mended::Damaged(damage)) => {
            rebuilder.settle(&farm, damage, chunk, &format!("{reason}: {fault}")).await;
        }
        Verdict::Damaged(fault, mended) => {
            tell_mended(&farm, sector, &format!("{reason}: {fault}"), mended, &counters);
        }
        Verdict::Whole => {
            tracing::error!(
                %dir, sector,
                "{reason}, but the sector is whole: look for another cause, in a proof-server or this host's memory"
            );
        }
        Verdict::Failed(error) => {
            tracing::warn!(%dir, sector, "{reason}; whether the sector is damaged is not known: {error}");
        }
    }
}
