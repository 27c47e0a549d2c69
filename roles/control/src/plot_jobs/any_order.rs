//! Whatever comes in whatever order, the bounds hold; and when faults cease, everything ends plotted.

use super::tests::{FARM, farm, settings};
use super::*;
use crate::messages::Control;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SECTORS: u16 = 40;
/// Of servers that behave, so long may it take until all is plotted: the longest pause for each of those that wait, and the rest in turn.
const HEALED_WITHIN: Duration = Duration::from_secs(3 * 3600);

#[derive(Debug, Clone)]
enum Step {
    Word(u8, u16, u64, PlotPhase),
    OfferEnds(u16, OfferAnswer),
    PullEnds(PullEnd),
    Looked,
    Damage(u16),
    QueueAnew,
    HistoryGrows,
    Paused(bool),
    Wait(u64),
}

fn phase() -> impl Strategy<Value = PlotPhase> {
    prop_oneof![
        1 => Just(PlotPhase::Downloading { pieces: 1 }),
        1 => Just(PlotPhase::Encoding { records: 1 }),
        3 => Just(PlotPhase::Staged { sector_size_bytes: 77, checksum: [7; 32] }),
        1 => Just(PlotPhase::Staged { sector_size_bytes: 78, checksum: [7; 32] }),
        3 => Just(PlotPhase::Failed { reason: "x".repeat(1000) }),
        1 => Just(PlotPhase::Stored),
        1 => Just(PlotPhase::Wanted),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        Just(OfferAnswer::Queued),
        Just(OfferAnswer::AlreadyThere),
        Just(OfferAnswer::Failed("x".into()))
    ];
    let end = prop_oneof![
        1 => Just(PullEnd::Stored),
        2 => Just(PullEnd::Wrong("x".into())),
        3 => Just(PullEnd::Failed("x".repeat(1000)))
    ];
    // Most words are about what is offered first.
    let sector = || prop_oneof![3 => 0..4u16, 1 => 0..SECTORS + 1];
    prop_oneof![
        8 => (0..4u8, sector(), 9..12u64, phase()).prop_map(|(a, b, c, d)| Step::Word(a, b, c, d)),
        1 => (sector(), answer).prop_map(|(sector, answer)| Step::OfferEnds(sector, answer)),
        4 => end.prop_map(Step::PullEnds),
        1 => Just(Step::Looked),
        1 => (0..SECTORS).prop_map(Step::Damage),
        1 => Just(Step::QueueAnew),
        1 => Just(Step::HistoryGrows),
        1 => any::<bool>().prop_map(Step::Paused),
        4 => (0..700u64).prop_map(Step::Wait),
    ]
}

/// The farm, its queue, and what the machine is known to have done.
struct World {
    jobs: FarmJobs,
    now: Duration,
    history_size: u64,
    sectors: Vec<SectorState>,
    pulling: Option<(SectorId, InstanceId)>,
    /// When each sector that failed did so, and may be offered again.
    not_before: BTreeMap<u16, (Duration, Duration)>,
    queue: BTreeSet<SectorId>,
    told: Vec<PlotProgress>,
    looks: usize,
    is_paused: bool,
}

impl World {
    fn new() -> Self {
        Self {
            jobs: FarmJobs::new(farm(), settings(10), Duration::ZERO),
            now: Duration::ZERO,
            history_size: 10,
            sectors: vec![SectorState::NotPlotted; SECTORS.into()],
            pulling: None,
            not_before: BTreeMap::new(),
            queue: BTreeSet::new(),
            told: Vec::new(),
            looks: 0,
            is_paused: false,
        }
    }

    fn on(&mut self, event: Event) {
        let before: BTreeSet<_> = self.jobs.open().collect();
        let actions = self.jobs.on(event, self.now);
        let mut offered = BTreeSet::new();
        for action in actions {
            match action {
                Action::Look => self.looks += 1,
                Action::Offer(_) | Action::Pull { .. } if self.is_paused => panic!("begun while paused"),
                Action::Offer(job) => {
                    job.to_bytes().unwrap();
                    let index = job.sector.sector_index;
                    assert!(before.contains(&index) || offered.contains(&index), "out of the blue");
                    self.queue.insert(job.sector);
                }
                Action::Pull { sector, server, .. } => {
                    assert_eq!(self.pulling.replace((sector, server)), None, "two pulls of one farm");
                }
                Action::Tell(progress) => {
                    progress.to_bytes().unwrap();
                    self.told.push(progress);
                }
                Action::Note(Note::Offered { sector, .. }) => {
                    offered.insert(sector.sector_index);
                    if let Some((_, at)) = self.not_before.get(&sector.sector_index) {
                        assert!(*at <= self.now, "before its pause is over");
                    }
                }
                Action::Note(Note::Failed { sector, pause, .. }) => {
                    self.not_before.insert(sector.sector_index, (self.now, self.now + pause));
                }
                Action::Note(_) | Action::AskSegment(_) => {}
            }
        }
        let open = self.jobs.open().count();
        assert!(open <= MAX_FOLLOWED && (offered.is_empty() || open <= MAX_OPEN_JOBS));
        assert!(self.jobs.troubles().count() <= MAX_WAITING + MAX_FOLLOWED);
        assert!(self.jobs.wake_at().is_some_and(|at| at > self.now));
    }

    fn pull_ends(&mut self, end: PullEnd) {
        let Some((sector, server)) = self.pulling.take() else { return };
        self.sectors[usize::from(sector.sector_index)] = match end {
            PullEnd::Stored => SectorState::Plotted { history_size: sector.history_size },
            _ => SectorState::Damaged,
        };
        if end == PullEnd::Stored {
            self.not_before.remove(&sector.sector_index);
        }
        self.on(Event::Pulled { sector, server, end });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Word(server, sector_index, history_size, phase) => {
                let sector = SectorId { farm: FARM, sector_index, history_size };
                let server = InstanceId([server; 16]);
                self.on(Event::Heard(PlotProgress { sector, server, phase }));
            }
            Step::OfferEnds(sector_index, answer) => {
                let sector = SectorId { farm: FARM, sector_index, history_size: self.history_size };
                self.on(Event::Offered { sector, answer });
            }
            Step::PullEnds(end) => self.pull_ends(end),
            Step::Looked => self.on(Event::Looked(self.sectors.clone())),
            Step::Damage(sector) => self.sectors[usize::from(sector)] = SectorState::Damaged,
            Step::QueueAnew => {
                self.queue.clear();
                self.on(Event::QueueAnew);
            }
            Step::HistoryGrows => {
                self.history_size += 1;
                for (failed_at, at) in self.not_before.values_mut() {
                    *at = (*at).min(*failed_at + troubles::FIRST_PAUSE);
                }
                self.on(Event::Settings(settings(self.history_size)));
            }
            Step::Paused(is_paused) => {
                self.is_paused = is_paused;
                self.on(Event::Paused(is_paused));
            }
            Step::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.on(Event::Tick);
            }
        }
    }

    /// One server that makes what is offered, and hears what it is told.
    fn serve(&mut self, making: &mut BTreeSet<SectorId>) {
        let server = InstanceId([1; 16]);
        let word = |sector, phase| Event::Heard(PlotProgress { sector, server, phase });
        for progress in std::mem::take(&mut self.told) {
            let is_over = matches!(progress.phase, PlotPhase::Stored | PlotPhase::Refused { .. });
            if progress.server == server && is_over && making.remove(&progress.sector) {
                self.queue.remove(&progress.sector);
                if let PlotPhase::Refused { reason } = progress.phase {
                    self.on(word(progress.sector, PlotPhase::Failed { reason }));
                }
            }
        }
        for sector in self.queue.clone() {
            if making.insert(sector) {
                self.on(word(sector, PlotPhase::Downloading { pieces: 0 }));
            }
        }
        for sector in making.clone() {
            self.on(word(sector, PlotPhase::Staged { sector_size_bytes: 77, checksum: [7; 32] }));
        }
    }

    fn is_plotted(&self) -> bool {
        self.sectors.iter().all(|state| matches!(state, SectorState::Plotted { .. }))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bounds_hold_and_everything_ends_plotted(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        world.on(Event::Tick);
        world.step(Step::Looked);
        for step in steps {
            world.step(step);
        }
        let (mut making, end) = (BTreeSet::new(), world.now + HEALED_WITHIN);
        world.told.clear();
        world.step(Step::Paused(false));
        while !world.is_plotted() {
            prop_assert!(world.now < end, "{:?}", world.jobs);
            world.now += Duration::from_secs(5);
            world.pull_ends(PullEnd::Stored);
            world.on(Event::Tick);
            if std::mem::take(&mut world.looks) > 0 {
                world.step(Step::Looked);
            }
            world.serve(&mut making);
        }
    }
}
