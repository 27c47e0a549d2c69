//! When the owners of the pieces change (DESIGN 3): a cache joins for the first time, drains, changes its capacity, or is
//! absent for longer than it may. Until then its items stay its own, whether it is there or not.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::host::Host;
use bus::BusError;
use bus::epochs::Epochs;
use control::ids::InstanceId;
use control::messages::{Epoch, EpochMember, MAX_EPOCH_MEMBERS, Role};

/// How often the members are looked at: caches that join together make one epoch.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Since when the members of the epoch are away.
#[derive(Debug)]
struct Absences {
    rebalance_after: Duration,
    since: BTreeMap<InstanceId, Instant>,
}

impl Absences {
    fn new(rebalance_after: Duration) -> Self {
        Self { rebalance_after, since: BTreeMap::new() }
    }

    /// The epoch that should follow `current`, given the capacities of the caches that are `present`; none while all is well.
    fn next_epoch(
        &mut self,
        current: Option<&Epoch>,
        present: &BTreeMap<InstanceId, u64>,
        now: Instant,
    ) -> Option<Epoch> {
        let old = current.map_or(&[][..], |epoch| &epoch.members);
        self.since.retain(|id, _| !present.contains_key(id) && old.iter().any(|member| member.id == *id));
        let mut weights = BTreeMap::new();
        for member in old {
            let weight = present.get(&member.id).copied().unwrap_or(member.weight);
            if present.contains_key(&member.id) || !self.is_given_up(member.id, now) {
                weights.insert(member.id, weight);
            }
        }
        for (id, capacity) in present {
            if *capacity > 0 && weights.len() < MAX_EPOCH_MEMBERS {
                weights.insert(*id, *capacity);
            }
        }
        let members: Vec<_> = weights.into_iter().map(|(id, weight)| EpochMember { id, weight }).collect();
        let number = current.map_or(1, |epoch| epoch.number + 1);
        (members != old).then_some(Epoch { number, members })
    }

    /// Whether a member that is not there has been away for too long.
    fn is_given_up(&mut self, id: InstanceId, now: Instant) -> bool {
        let since = *self.since.entry(id).or_insert(now);
        now.duration_since(since) >= self.rebalance_after
    }
}

/// Looks at the caches and writes epochs, for ever. Of several controllers one writes, the others see it.
pub async fn keep(host: &Host, rebalance_after: Duration) -> Result<(), BusError> {
    let epochs = Epochs::open(&**host.bus()).await?;
    let mut absences = Absences::new(rebalance_after);
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = look(host, &epochs, &mut absences).await {
            tracing::warn!("the epoch is not kept up to date now: {error}");
        }
    }
}

async fn look(host: &Host, epochs: &Epochs, absences: &mut Absences) -> Result<(), BusError> {
    let current = epochs.current().await?;
    let present = host.members(Role::ShardedCache).iter().map(|entry| (entry.id, entry.capacity)).collect();
    let (epoch, revision) = (current.as_ref().map(|(epoch, _)| epoch), current.as_ref().map(|(_, r)| *r));
    let Some(next) = absences.next_epoch(epoch, &present, Instant::now()) else { return Ok(()) };
    match epochs.replace(&next, revision).await {
        Ok(_) => tracing::info!(epoch = next.number, caches = next.members.len(), "a new epoch begins"),
        // Another controller was faster; the next look shows what it wrote.
        Err(BusError::Conflict { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(900);

    fn id(n: u8) -> InstanceId {
        InstanceId([n; 16])
    }

    fn present(caches: &[(u8, u64)]) -> BTreeMap<InstanceId, u64> {
        caches.iter().map(|(n, capacity)| (id(*n), *capacity)).collect()
    }

    fn epoch(number: u64, members: &[(u8, u64)]) -> Epoch {
        let members = members.iter().map(|(n, weight)| EpochMember { id: id(*n), weight: *weight }).collect();
        Epoch { number, members }
    }

    #[test]
    fn first_joins_capacities_and_drains_change_the_epoch_at_once() {
        let (mut absences, now) = (Absences::new(LIMIT), Instant::now());
        assert_eq!(absences.next_epoch(None, &present(&[]), now), None, "nobody there, nothing to own");
        assert_eq!(absences.next_epoch(None, &present(&[(2, 0)]), now), None, "no room is no share");
        let first = absences.next_epoch(None, &present(&[(2, 5), (1, 7)]), now).unwrap();
        assert_eq!(first, epoch(1, &[(1, 7), (2, 5)]), "in order of ids");
        assert_eq!(absences.next_epoch(Some(&first), &present(&[(2, 5), (1, 7)]), now), None);
        let grown = absences.next_epoch(Some(&first), &present(&[(1, 7), (2, 6), (3, 1)]), now);
        assert_eq!(grown, Some(epoch(2, &[(1, 7), (2, 6), (3, 1)])));
        let drained = absences.next_epoch(Some(&first), &present(&[(1, 0), (2, 5)]), now);
        assert_eq!(drained, Some(epoch(2, &[(1, 0), (2, 5)])), "it owns nothing, but is known");
    }

    #[test]
    fn an_absence_counts_from_its_beginning_and_only_in_one_piece() {
        let (mut absences, start) = (Absences::new(LIMIT), Instant::now());
        let old = epoch(4, &[(1, 7), (2, 5)]);
        let alone = present(&[(1, 7)]);
        assert_eq!(absences.next_epoch(Some(&old), &alone, start), None);
        assert_eq!(absences.next_epoch(Some(&old), &alone, start + LIMIT - Duration::from_millis(1)), None);
        let back = absences.next_epoch(Some(&old), &present(&[(1, 7), (2, 5)]), start + LIMIT);
        assert_eq!(back, None, "it came back in time");
        let away_again = start + LIMIT * 2;
        assert_eq!(absences.next_epoch(Some(&old), &alone, away_again), None);
        let given_up = absences.next_epoch(Some(&old), &alone, away_again + LIMIT);
        assert_eq!(given_up, Some(epoch(5, &[(1, 7)])));
        let nobody = absences.next_epoch(Some(&old), &present(&[]), away_again + LIMIT);
        assert_eq!(nobody, Some(epoch(5, &[(1, 7)])), "the other has only just gone");
    }

    #[test]
    fn an_epoch_never_outgrows_its_message() {
        let mut absences = Absences::new(LIMIT);
        let crowd = (0..MAX_EPOCH_MEMBERS as u128 + 9).map(|n| (InstanceId(n.to_be_bytes()), 1)).collect();
        let full = absences.next_epoch(None, &crowd, Instant::now()).unwrap();
        assert_eq!(full.members.len(), MAX_EPOCH_MEMBERS);
        assert_eq!(absences.next_epoch(Some(&full), &crowd, Instant::now()), None);
    }
}
