//! Looking again at sectors of which the disk did not give the record.

use super::files::RECORD_PART_BYTES;
use super::inspect::{Ends, Known, faulty_state, look_at, state_beyond_count};
use super::state::State;
use super::{Farm, SectorError, SectorFault, SectorStatus, Unreadable};
use crate::disk::Class;
use crate::parts::Parts;

/// What another look at unreadable sectors has found. All lists ascend.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LookedAgain {
    /// Sectors whose record is good: they are farmed, or plotted if it is a mark. Of those that are not counted, the whole ones.
    pub readable: Vec<u16>,
    /// Sectors that are wrong, now that they were read: marked for replotting, or for [`Farm::heal`] to look into.
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
        for sector in (0..self.layout().sectors()).filter(|sector| self.is_unreadable(*sector)) {
            let known = look_at(files, class, sector, Ends::of(class, files).await?, &parts).await;
            if sector < self.count() {
                self.take_in_counted(class, sector, known, &mut seen).await?;
            } else {
                self.take_in_uncounted(class, sector, known, &parts, &mut seen).await;
            }
        }
        self.count_further(class).await?;
        Ok(seen)
    }

    async fn take_in_counted(
        &self,
        class: Class,
        sector: u16,
        known: Known,
        seen: &mut LookedAgain,
    ) -> Result<(), SectorError> {
        match known {
            Known::Record(metadata) => {
                self.take_in(sector, self.0.files.state_of(&metadata));
                seen.readable.push(sector);
            }
            Known::Faulty { fault, noted } => {
                match faulty_state(&fault, noted) {
                    state @ State::Doubtful { .. } => self.take_in(sector, state),
                    _ => self.mark_for_replotting(class, sector).await?,
                }
                seen.faults.push((sector, fault));
            }
            Known::Nothing(error) => seen.unreadable.add(sector, &error),
        }
        Ok(())
    }

    async fn take_in_uncounted(
        &self,
        class: Class,
        sector: u16,
        known: Known,
        parts: &Parts,
        seen: &mut LookedAgain,
    ) {
        match state_beyond_count(&self.0.files, class, sector, known, parts).await {
            Ok(state @ State::Plotted { .. }) => {
                self.take_in(sector, state);
                seen.readable.push(sector);
            }
            Ok(_) => self.take_in(sector, State::NotPlotted),
            Err(error) => seen.unreadable.add(sector, &error),
        }
    }

    fn is_unreadable(&self, sector: u16) -> bool {
        self.status(sector) == SectorStatus::Unreadable
    }

    /// Gives a sector the state that it was found in, if nothing was known of it.
    fn take_in(&self, sector: u16, state: State) {
        if self.is_unreadable(sector) {
            // That a mark can be read does not say that it is durable.
            self.change(sector, |slot| slot.state = state);
        }
    }
}
