//! What is told of a sector with something wrong, whoever found it.

use super::counters::Counters;
use super::farms::FarmHandle;
use engine::farm::Mended;

/// Says what has become of a sector with something wrong, counts it, and has it plotted again where it is marked.
pub fn tell_mended(farm: &FarmHandle, sector: u16, reason: &str, mended: Mended, counters: &Counters) {
    let dir = farm.dir().display();
    match mended {
        Mended::Rebuilt => {
            counters.mended.increment();
            tracing::warn!(%dir, sector, "{reason}; the sector is whole, and its record is made anew");
        }
        Mended::Marked => {
            counters.damaged.increment();
            tracing::warn!(%dir, sector, "{reason}; the sector will be plotted again");
        }
        Mended::Left => {
            tracing::warn!(%dir, sector, "{reason}; the sector is whole, but nothing is known here of its history size: it stays as it is, and is not farmed. It is tried again at the next start; `scrub` while the farm is stopped gives it up");
            return;
        }
        // Said when it is known what becomes of it.
        Mended::Damaged(_) => return,
    }
    farm.changed().notify_one();
}
