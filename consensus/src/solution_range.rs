//! Arithmetic of the solution range (PROTOCOL 6, end): which distances win, and how that follows the space pledged.

use crate::constants::{RECORD_CHUNKS, S_BUCKETS};

/// A probability as numerator and denominator, neither zero.
pub type Ratio = (u64, u64);

/// The range at which `pieces` pieces win a slot with the given probability. Divisions left to right, as consensus has it.
/// None when a divisor is zero.
pub fn pieces_to_solution_range(pieces: u64, slot_probability: Ratio) -> Option<u64> {
    u64::MAX
        .checked_div(slot_probability.1)?
        .checked_mul(slot_probability.0)?
        .checked_div(RECORD_CHUNKS as u64)?
        .checked_mul(S_BUCKETS as u64)?
        .checked_div(pieces)
}

/// How many pieces win a slot with the given probability at this range. None when a divisor is zero.
pub fn solution_range_to_pieces(solution_range: u64, slot_probability: Ratio) -> Option<u64> {
    pieces_to_solution_range(1, slot_probability)?.checked_div(solution_range)
}

/// The range of the next era: that of the current one times how much longer than planned the era took, a quarter to four times
/// as wide. None when a divisor is zero.
pub fn next_solution_range(
    start_slot: u64,
    current_slot: u64,
    slot_probability: Ratio,
    current: u64,
    era_blocks: u32,
) -> Option<u64> {
    let era_slots = u128::from(current_slot.saturating_sub(start_slot));
    let next = u128::from(current)
        .saturating_mul(era_slots)
        .saturating_mul(u128::from(slot_probability.0))
        .checked_div(u128::from(era_blocks))?
        .checked_div(u128::from(slot_probability.1))?;
    let next = u64::try_from(next).unwrap_or(u64::MAX);
    Some(next.clamp(current / 4, current.saturating_mul(4)))
}

/// The range within which farms look for votes too: wider than the block range by the votes expected for each block.
pub fn voting_solution_range(solution_range: u64, votes_per_block: u16) -> u64 {
    solution_range.saturating_mul(u64::from(votes_per_block) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_network() {
        assert_eq!(pieces_to_solution_range(1, (1, 6)), Some(6_148_914_691_236_495_360));
        assert_eq!(pieces_to_solution_range(3, (1, 6)), Some(2_049_638_230_412_165_120));
        assert_eq!(solution_range_to_pieces(2_049_638_230_412_165_120, (1, 6)), Some(3));
        for (start, now, current, next) in [
            (0, 12_096, 1_099_511_627_776, 1_099_511_627_776),
            (0, 12_000, 1_099_511_627_776, 1_090_785_345_015),
            (100, 50_000, 1_099_511_627_776, 4_398_046_511_104),
            (0, 100, 1_099_511_627_776, 274_877_906_944),
            (0, 13_000, u64::MAX, u64::MAX),
        ] {
            assert_eq!(next_solution_range(start, now, (1, 6), current, 2016), Some(next));
        }
        assert_eq!(voting_solution_range(10, 9), 100);
        assert_eq!(voting_solution_range(u64::MAX / 2, 9), u64::MAX);
    }

    #[test]
    fn zero_divisors_are_no_panic() {
        assert_eq!(pieces_to_solution_range(0, (1, 6)), None);
        assert_eq!(pieces_to_solution_range(1, (1, 0)), None);
        assert_eq!(next_solution_range(0, 1, (1, 6), 1, 0), None);
    }
}
