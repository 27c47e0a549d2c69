//! Every piece on the disk read now and then, so that a damaged one is fetched anew while others still have it.
//!
//! One piece a second at the lowest priority: a terabyte takes eleven days, and a mebibyte a second is nothing to a disk. A round begins at a
//! piece that is drawn, so that a cache that is started often does not always read the same ones.

use std::time::Duration;

use bus::Fresh;
use control::ids::InstanceId;
use control::refill::Pieces;
use engine::piece_store::{ItemId, ItemKind};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::calls::{Call, Calls, Verdict};
use super::recheck::Losses;
use consensus::piece::PieceIndex;

/// A piece is read each time.
const EVERY: Duration = Duration::from_secs(1);
/// Rounds of a small cache are no closer than this.
const ROUND: Duration = Duration::from_secs(24 * 3600);

/// Reads one piece after the other until the executor ends. `losses` is told of each that was damaged.
pub async fn walk(calls: &Calls, losses: &Losses) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drawn = InstanceId::generate().0;
    let mut from = u64::from_le_bytes(*drawn.first_chunk().expect("an id is longer"));
    loop {
        let began = Instant::now();
        ticks.tick().await;
        // None while the store is not open.
        let Some(held) = calls.make(Call::Look).await else { return };
        let Some(held) = held.filter(|held| !held.is_empty()) else { continue };
        for index in in_order(&held, from) {
            ticks.tick().await;
            let id = ItemId { kind: ItemKind::Piece, index };
            match calls.make(|done| Call::Recheck(id, done)).await {
                Some(Verdict::Lost) => losses.tell(id),
                Some(_) => {}
                None => return,
            }
        }
        from = 0;
        sleep_until(began + ROUND).await;
    }
}

/// All pieces from the one that is drawn on, and then those before it.
fn in_order(held: &Pieces, drawn: u64) -> Vec<u64> {
    let of = |(segment, set): (&u64, &consensus::piece_set::PieceSet)| {
        let (segment, set) = (*segment, *set);
        let indexes = (0..=u8::MAX).filter(move |position| set.contains(*position));
        indexes.filter_map(move |position| PieceIndex::new(segment, position)).map(|index| index.0)
    };
    let mut all: Vec<_> = held.iter().flat_map(of).collect();
    let first = usize::try_from(drawn % all.len().max(1) as u64).unwrap_or_default();
    all.rotate_left(first);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_each_piece_once_wherever_it_begins() {
        let held: Pieces = [(1, [3, 200].into_iter().collect()), (7, [0].into_iter().collect())].into();
        assert_eq!(in_order(&held, 0), [256 + 3, 256 + 200, 7 * 256]);
        assert_eq!(in_order(&held, 5), [7 * 256, 256 + 3, 256 + 200]);
        assert!(in_order(&Pieces::new(), 5).is_empty());
    }
}
