//! Which sectors a farm is to plot, and what a sector that a plot-server has is worth.

use super::expiry::Age;

/// What lies at the place of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorState {
    /// Nothing.
    NotPlotted,
    /// It cannot be read, or was marked for replotting.
    Damaged,
    /// The disk does not say what is there: it may be a whole one, and is left alone.
    Unreadable,
    /// A sector on its way in, of which some may be there.
    BeingWritten,
    /// A whole one.
    Plotted {
        /// History size (segments) it was made for.
        history_size: u64,
    },
}

/// Why a sector is to be plotted; the first most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing is there.
    NotPlotted,
    /// It cannot be read, or was marked for replotting.
    Damaged,
    /// The chain takes no solutions of it any more.
    Expired,
    /// It expires with the next segment.
    AboutToExpire,
}

/// What is to become of a sector, if anything; `age` judges a history size.
pub fn reason(state: SectorState, age: impl FnOnce(u64) -> Age) -> Option<Reason> {
    match state {
        SectorState::NotPlotted => Some(Reason::NotPlotted),
        SectorState::Damaged => Some(Reason::Damaged),
        SectorState::Unreadable | SectorState::BeingWritten => None,
        SectorState::Plotted { history_size } => match age(history_size) {
            Age::Good => None,
            Age::AboutToExpire => Some(Reason::AboutToExpire),
            Age::Expired => Some(Reason::Expired),
        },
    }
}

/// Whether a sector made at history size `offered` is of use: it lives, and what is there is not as good, and known.
pub fn is_of_use(state: SectorState, offered: u64, age: impl Fn(u64) -> Age) -> bool {
    let is_to_stay = match state {
        SectorState::Plotted { history_size } => age(history_size) == Age::Good,
        SectorState::Unreadable => true,
        SectorState::NotPlotted | SectorState::Damaged | SectorState::BeingWritten => false,
    };
    !is_to_stay && age(offered) == Age::Good
}

#[cfg(test)]
mod tests {
    use super::*;
    use SectorState::{BeingWritten, Damaged, NotPlotted, Unreadable};

    fn plotted(history_size: u64) -> SectorState {
        SectorState::Plotted { history_size }
    }

    /// Sectors live 10 segments, the history has 20.
    fn age(history_size: u64) -> Age {
        Age::of(Some(history_size + 10), 20)
    }

    #[test]
    fn every_state_has_its_reason() {
        let reasons = [NotPlotted, Damaged, plotted(3), plotted(11), plotted(15), BeingWritten, Unreadable];
        let expected = [
            Some(Reason::NotPlotted),
            Some(Reason::Damaged),
            Some(Reason::Expired),
            Some(Reason::AboutToExpire),
            None,
            None,
            None,
        ];
        assert_eq!(reasons.map(|state| reason(state, age)), expected);
        assert!(expected[..4].is_sorted(), "most urgent first");
    }

    #[test]
    fn an_offered_sector_is_of_use_only_when_it_is_better() {
        for state in [NotPlotted, Damaged, BeingWritten, plotted(3), plotted(11)] {
            assert!(is_of_use(state, 20, age), "{state:?}");
            assert!(!is_of_use(state, 11, age), "too old");
        }
        assert!(!is_of_use(plotted(15), 20, age), "good already");
        assert!(!is_of_use(Unreadable, 20, age), "it may be good");
        assert!(!is_of_use(plotted(20), 20, age), "this very one");
    }
}
