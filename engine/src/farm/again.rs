//! Looking again at sectors of which the disk did not give the record.

use super::files::RECORD_PART_BYTES;
use super::inspect::{Ends, Known, look_at, look_beyond_count};
use super::state::State;
use super::{Farm, SectorError, SectorFault, SectorStatus, Unreadable};
use crate::disk::Class;
use crate::parts::Parts;

/// What another look at unreadable sectors has found. All lists ascend.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LookedAgain {
    /// Sectors whose record is good: they are farmed, or plotted if it is a mark.
    pub readable: Vec<u16>,
    /// Sectors whose record is wrong, now that it was read: marked for replotting.
    pub faults: Vec<(u16, SectorFault)>,
    /// Sectors that the disk still does not give.
    pub unreadable: Unreadable,
}

impl Farm {
    /// Reads the records once more that the disk did not give, and takes in what is good. The farm is one that may be written. Errs
    /// when a mark or the count could not be written; what is left is looked at next time.
    pub async fn look_again(&self, class: Class) -> Result<LookedAgain, SectorError> {
        let (files, mut seen) = (&self.0.files, LookedAgain::default());
        let parts = Parts::new(&files.pool, RECORD_PART_BYTES);
        for sector in (0..self.count()).filter(|sector| self.is_unreadable(*sector)) {
            match look_at(files, class, sector, Ends::of(class, files).await?, &parts).await {
                Known::State(state) => {
                    self.take_in(sector, state);
                    seen.readable.push(sector);
                }
                Known::Faulty { fault, .. } => {
                    self.mark_for_replotting(class, sector).await?;
                    seen.faults.push((sector, fault));
                }
                Known::Nothing(error) => seen.unreadable.add(sector, &error),
            }
        }
        self.look_beyond(class, &parts, &mut seen).await?;
        Ok(seen)
    }

    /// Goes on where opening ended since the disk did not give the record of the first sector that is not counted.
    async fn look_beyond(
        &self,
        class: Class,
        parts: &Parts,
        seen: &mut LookedAgain,
    ) -> Result<(), SectorError> {
        let files = &self.0.files;
        while self.is_unreadable(self.count()) {
            let sector = self.count();
            match look_beyond_count(files, class, sector, Ends::of(class, files).await?, parts).await {
                Known::State(state @ State::Plotted { .. }) => {
                    let _commit = self.0.commit.lock().await;
                    files.write_count(class, sector + 1).await?;
                    files.sync_metadata(class).await?;
                    self.0.count.set(sector + 1);
                    self.take_in(sector, state);
                    seen.readable.push(sector);
                }
                Known::Nothing(error) => {
                    seen.unreadable.add(sector, &error);
                    return Ok(());
                }
                Known::State(_) | Known::Faulty { .. } => {
                    let nothing_follows = |sector| self.take_in(sector, State::NotPlotted);
                    (sector..self.layout().sectors()).for_each(nothing_follows);
                }
            }
        }
        Ok(())
    }

    fn is_unreadable(&self, sector: u16) -> bool {
        self.status(sector) == SectorStatus::Unreadable
    }

    /// Gives a sector the state that it was found in, if nothing was known of it.
    fn take_in(&self, sector: u16, state: State) {
        if self.is_unreadable(sector) {
            self.change(sector, |slot| {
                slot.is_marked = matches!(state, State::Expired);
                slot.state = state;
            });
        }
    }
}
