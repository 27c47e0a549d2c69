use super::*;
use crate::ids::FarmId;
use crate::messages::PlotPhase::{
    Downloading, Encoding, Failed, Refused, Staged as IsStaged, Stored, Wanted,
};
use SectorState::{Damaged, NotPlotted, Plotted, Unreadable};

pub const FARM: FarmId = FarmId([1; 16]);
const A: InstanceId = InstanceId([0xa; 16]);
const B: InstanceId = InstanceId([0xb; 16]);
const BYTES: u64 = 77;

pub fn settings(history_size: u64) -> ProtocolInfo {
    ProtocolInfo {
        history_size,
        max_pieces_in_sector: 2,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    }
}

pub fn farm() -> Farm {
    Farm {
        id: FARM,
        public_key: [2; 32],
        client: InstanceId([9; 16]),
        pieces_in_sector: 2,
        sector_bytes: BYTES,
    }
}

fn sector(sector_index: u16) -> SectorId {
    SectorId { farm: FARM, sector_index, history_size: 10 }
}

fn staged() -> PlotPhase {
    IsStaged { sector_size_bytes: BYTES, checksum: [7; 32] }
}

/// A farm at history size 10, and a clock.
struct Story {
    jobs: FarmJobs,
    now: Duration,
}

impl Story {
    /// Looked over already; gives the jobs it offers.
    fn begin(sectors: &[SectorState]) -> (Self, Vec<PlotJob>) {
        let mut jobs = FarmJobs::new(farm(), settings(10), Duration::ZERO);
        assert_eq!(jobs.on(Event::Tick, Duration::ZERO), [Action::Look]);
        let mut story = Self { jobs, now: Duration::ZERO };
        let actions = story.on(Event::Looked(sectors.to_vec()));
        let offers = offers(&actions);
        (story, offers)
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.jobs.on(event, self.now)
    }

    fn after(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        let mut actions = self.on(Event::Tick);
        actions.retain(|action| *action != Action::Look);
        actions
    }

    fn hear(&mut self, server: InstanceId, sector_index: u16, phase: PlotPhase) -> Vec<Action> {
        self.on(Event::Heard(PlotProgress { sector: sector(sector_index), server, phase }))
    }

    fn pulled(&mut self, server: InstanceId, sector_index: u16, end: PullEnd) -> Vec<Action> {
        self.on(Event::Pulled { sector: sector(sector_index), server, end })
    }

    fn is_open(&self, sector_index: u16) -> bool {
        self.jobs.open().any(|open| open == sector_index)
    }
}

fn offers(actions: &[Action]) -> Vec<PlotJob> {
    let offers = actions.iter().filter_map(|action| match action {
        Action::Offer(job) => Some(job.clone()),
        _ => None,
    });
    offers.collect()
}

fn indexes(jobs: &[PlotJob]) -> Vec<u16> {
    jobs.iter().map(|job| job.sector.sector_index).collect()
}

fn tells(actions: &[Action]) -> Vec<(InstanceId, PlotPhase)> {
    let tells = actions.iter().filter_map(|action| match action {
        Action::Tell(progress) => Some((progress.server, progress.phase.clone())),
        _ => None,
    });
    tells.collect()
}

fn pulls(actions: &[Action]) -> Vec<(u16, InstanceId)> {
    let pulls = actions.iter().filter_map(|action| match action {
        Action::Pull { sector, server, .. } => Some((sector.sector_index, *server)),
        _ => None,
    });
    pulls.collect()
}

#[test]
fn a_sector_is_offered_made_pulled_and_stored() {
    let (mut story, offered) = Story::begin(&[NotPlotted]);
    let job = &offered[0];
    assert_eq!((job.sector, job.client, job.attempt), (sector(0), farm().client, 1));
    assert_eq!((job.staged_on, &job.avoid[..]), (None, &[][..]));
    assert_eq!(story.on(Event::Offered { sector: sector(0), answer: OfferAnswer::Queued }), []);
    assert_eq!(tells(&story.hear(A, 0, Downloading { pieces: 0 })), [(A, Wanted)], "at once");
    assert_eq!(story.hear(A, 0, Encoding { records: 1 }), [], "not each time");
    let actions = story.hear(A, 0, staged());
    assert_eq!(actions, [Action::Pull { sector: sector(0), server: A, checksum: [7; 32] }]);
    assert_eq!(story.hear(A, 0, staged()), [], "one pull");
    let actions = story.pulled(A, 0, PullEnd::Stored);
    assert_eq!(tells(&actions), [(A, Stored)]);
    assert!(actions.contains(&Action::Look) && !story.is_open(0));
    // The word was lost; another server has made it too.
    for server in [A, B] {
        assert_eq!(tells(&story.hear(server, 0, staged())), [(server, Stored)]);
        assert_eq!(tells(&story.hear(server, 0, Downloading { pieces: 1 })), [(server, Stored)]);
    }
    assert_eq!(offers(&story.after(1000)), []);
}

#[test]
fn two_jobs_are_open_and_the_most_urgent_come_first() {
    let all = [Plotted { history_size: 10 }, Damaged, NotPlotted, NotPlotted];
    assert_eq!(indexes(&Story::begin(&all).1), [2, 3]);
    assert_eq!(indexes(&Story::begin(&all[..3]).1), [2, 1]);
    assert_eq!(indexes(&Story::begin(&all[..1]).1), [0u16; 0]);
    let (mut story, _) = Story::begin(&[SectorState::BeingWritten, NotPlotted, NotPlotted, NotPlotted]);
    story.hear(A, 1, staged());
    let actions = story.pulled(A, 1, PullEnd::Stored);
    assert_eq!(indexes(&offers(&actions)), [3]);
}

#[test]
fn what_the_disk_does_not_give_is_never_plotted_over() {
    let (mut story, jobs) = Story::begin(&[Unreadable, NotPlotted]);
    assert_eq!(indexes(&jobs), [1]);
    let actions = story.hear(A, 0, staged());
    assert_eq!(tells(&actions), [(A, Stored)], "what was made for it is of no use");
    assert!(!actions.iter().any(|action| matches!(action, Action::Pull { .. })));
    assert_eq!(indexes(&offers(&story.after(1000))), [1], "again and again, and never the other");
    // It was a mark.
    let actions = story.on(Event::Changed);
    assert!(actions.contains(&Action::Look), "at once");
    assert_eq!(indexes(&offers(&story.on(Event::Looked(vec![Damaged, NotPlotted])))), [0]);
}

#[test]
fn attempts_are_spaced_and_those_who_failed_are_avoided() {
    let (mut story, _) = Story::begin(&[NotPlotted]);
    for (attempt, pause) in [10, 20, 40, 80, 160, 320, 600, 600].into_iter().enumerate() {
        let server = if attempt % 2 == 0 { A } else { B };
        story.hear(server, 0, Downloading { pieces: 1 });
        let actions = story.hear(server, 0, Failed { reason: "piece 7".into() });
        assert_eq!(offers(&actions), [], "not at once");
        let (_, trouble) = story.jobs.troubles().next().unwrap();
        assert_eq!((trouble.failures as usize, &*trouble.reason), (attempt + 1, "piece 7"), "kept");
        assert_eq!(offers(&story.after(pause - 1)), []);
        let offered = offers(&story.after(1));
        assert_eq!((offered.len(), offered[0].attempt as usize), (1, attempt + 2));
        assert_eq!(offered[0].avoid[0], server, "the latest first");
    }
    story.hear(B, 0, staged());
    story.pulled(B, 0, PullEnd::Stored);
    assert_eq!(story.jobs.troubles().count(), 0);
}

#[test]
fn a_longer_history_is_a_new_beginning() {
    let (mut story, _) = Story::begin(&[NotPlotted]);
    for _ in 0..6 {
        story.hear(A, 0, Downloading { pieces: 1 });
        story.hear(A, 0, Failed { reason: "piece 7".into() });
        if story.jobs.troubles().next().unwrap().1.failures < 6 {
            story.after(600);
        }
    }
    let actions = story.on(Event::Settings(settings(11)));
    assert_eq!(offers(&actions), [], "the first pause is kept");
    let offered = offers(&story.after(10));
    assert_eq!((offered[0].sector.history_size, offered[0].attempt), (11, 1));
    assert_eq!(offered[0].avoid, [A]);
}

#[test]
fn other_sectors_are_plotted_while_one_waits_for_its_next_attempt() {
    let (mut story, _) = Story::begin(&[NotPlotted; 4]);
    story.hear(A, 0, Downloading { pieces: 1 });
    let actions = story.hear(A, 0, Failed { reason: "piece 7".into() });
    assert_eq!(indexes(&offers(&actions)), [2]);
    story.after(10);
    story.hear(A, 1, staged());
    assert_eq!(indexes(&offers(&story.pulled(A, 1, PullEnd::Stored))), [0], "one of two may be a retry");
    story.hear(A, 2, staged());
    assert_eq!(indexes(&offers(&story.pulled(A, 2, PullEnd::Stored))), [3], "the other is not");
}

#[test]
fn when_everything_fails_only_some_sectors_are_tried() {
    let (mut story, offered) = Story::begin(&[NotPlotted; 100]);
    let mut offered = indexes(&offered);
    let mut tried = Vec::new();
    while let Some(sector) = offered.pop() {
        tried.push(sector);
        story.hear(A, sector, Downloading { pieces: 0 });
        offered.extend(indexes(&offers(&story.hear(A, sector, Failed { reason: "no GPU".into() }))));
    }
    assert_eq!(tried.len(), MAX_WAITING + 1, "the last began when one less waited");
    assert_eq!(offers(&story.after(9)), []);
    assert_eq!(offers(&story.after(1)).len(), MAX_OPEN_JOBS);
}

#[test]
fn a_wrong_sector_is_refused_until_it_is_made_anew_and_its_maker_is_avoided_everywhere() {
    let (mut story, _) = Story::begin(&[NotPlotted; 2]);
    story.hear(A, 0, staged());
    let actions = story.pulled(A, 0, PullEnd::Wrong("other bytes".into()));
    let refused = Refused { reason: "other bytes".into() };
    assert_eq!(tells(&actions), [(A, refused.clone())]);
    assert_eq!(tells(&story.hear(A, 0, staged())), [(A, refused.clone())], "it did not hear so");
    assert_eq!(story.hear(A, 0, Failed { reason: "other bytes".into() }), [], "counted already");
    let offered = offers(&story.after(10));
    assert_eq!((indexes(&offered), &offered[0].avoid), (vec![0], &vec![A]));
    story.on(Event::Offered { sector: sector(0), answer: OfferAnswer::AlreadyThere });
    assert_eq!(tells(&story.hear(A, 0, staged())), [(A, refused)], "it still has that job");
    story.on(Event::Offered { sector: sector(0), answer: OfferAnswer::Queued });
    assert_eq!(pulls(&story.hear(A, 0, staged())), [(0, A)]);
    // Another length is wrong without a look at it.
    let short = IsStaged { sector_size_bytes: 1, checksum: [7; 32] };
    assert!(matches!(tells(&story.hear(B, 1, short))[..], [(B, Refused { .. })]));
}

#[test]
fn a_pull_that_fails_or_panics_is_tried_again_and_given_up_in_the_end() {
    let (mut story, _) = Story::begin(&[NotPlotted]);
    story.hear(A, 0, staged());
    for pause in [10, 20, 40, 80, 160] {
        let actions = story.pulled(A, 0, PullEnd::Failed("it panicked".into()));
        assert!(tells(&actions).is_empty() && pulls(&actions).is_empty());
        story.hear(A, 0, staged());
        assert_eq!(pulls(&story.after(pause - 1)), []);
        assert_eq!(pulls(&story.after(1)), [(0, A)]);
    }
    let actions = story.pulled(A, 0, PullEnd::Failed("it panicked".into()));
    assert!(matches!(tells(&actions)[..], [(A, Refused { .. })]), "{actions:?}");
    assert_eq!(offers(&story.after(10))[0].avoid, [A]);
}

#[test]
fn a_farm_pulls_one_sector_at_a_time_and_goes_on_at_once() {
    let (mut story, _) = Story::begin(&[NotPlotted; 2]);
    assert_eq!(pulls(&story.hear(A, 0, staged())), [(0, A)]);
    assert_eq!(pulls(&story.hear(B, 1, staged())), []);
    assert_eq!(pulls(&story.pulled(A, 0, PullEnd::Failed("gone".into()))), [(1, B)]);
    assert_eq!(pulls(&story.after(60)), [], "the first waits for its turn");
    assert_eq!(pulls(&story.pulled(B, 1, PullEnd::Stored)), [(0, A)]);
    assert_eq!(story.pulled(B, 1, PullEnd::Stored), [], "an end of nothing");
}

#[test]
fn a_server_that_loses_the_sector_during_a_pull_ends_the_attempt_with_it() {
    let (mut story, _) = Story::begin(&[NotPlotted]);
    story.hear(A, 0, staged());
    assert_eq!(story.hear(A, 0, Failed { reason: "unreadable".into() }), []);
    story.pulled(A, 0, PullEnd::Failed("not found".into()));
    assert_eq!(story.jobs.troubles().next().unwrap().1.reason, "unreadable");
    let (mut story, _) = Story::begin(&[NotPlotted]);
    story.hear(A, 0, staged());
    story.hear(A, 0, Failed { reason: "unreadable".into() });
    assert_eq!(tells(&story.pulled(A, 0, PullEnd::Stored)), [(A, Stored)], "it ended well after all");
}

#[test]
fn another_holder_is_pulled_from_when_the_first_fails() {
    let (mut story, _) = Story::begin(&[NotPlotted]);
    story.hear(A, 0, staged());
    story.pulled(A, 0, PullEnd::Failed("unreachable".into()));
    story.hear(B, 0, staged());
    assert_eq!(pulls(&story.after(10)), [(0, B)]);
}

#[test]
fn what_is_silent_is_offered_again_with_its_holder_named() {
    let (mut story, _) = Story::begin(&[NotPlotted]);
    assert_eq!(offers(&story.after(59)), []);
    assert_eq!(offers(&story.after(1)).len(), 1);
    story.after(30);
    story.hear(A, 0, Downloading { pieces: 1 });
    assert_eq!(offers(&story.after(59)), []);
    story.hear(A, 0, staged());
    story.pulled(A, 0, PullEnd::Failed("unreachable".into()));
    let offered: Vec<_> = (0..7)
        .flat_map(|_| {
            story.now += Duration::from_secs(10);
            let actions = story.on(Event::Tick);
            if !pulls(&actions).is_empty() {
                story.pulled(A, 0, PullEnd::Failed("unreachable".into()));
            }
            offers(&actions)
        })
        .collect();
    assert_eq!((offered.len(), offered[0].staged_on, offered[0].attempt), (1, Some(A), 1));
}

#[test]
fn who_was_silent_and_comes_back_is_heard_and_so_is_whoever_took_over() {
    let begin = || {
        let (mut story, _) = Story::begin(&[NotPlotted]);
        story.hear(A, 0, staged());
        story.pulled(A, 0, PullEnd::Wrong("other bytes".into()));
        story.after(10);
        story.hear(A, 0, Downloading { pieces: 0 });
        assert_eq!(offers(&story.after(60)).len(), 1);
        story
    };
    assert_eq!(pulls(&begin().hear(A, 0, staged())), [(0, A)], "it was made anew");
    let mut story = begin();
    story.hear(B, 0, Failed { reason: "no GPU".into() });
    assert_eq!(story.jobs.troubles().next().unwrap().1.failures, 2);
}

#[test]
fn a_queue_made_anew_is_filled_at_once() {
    let (mut story, _) = Story::begin(&[NotPlotted; 2]);
    story.hear(A, 0, Downloading { pieces: 1 });
    let offered = offers(&story.on(Event::QueueAnew));
    assert_eq!(indexes(&offered), [1], "what a server is at goes on there");
    let answer = OfferAnswer::Failed("no stream".into());
    story.on(Event::Offered { sector: sector(1), answer });
    assert_eq!(offers(&story.after(9)), []);
    let again = offers(&story.after(1));
    assert_eq!((indexes(&again), again[0].attempt), (vec![1], 1), "the queue's fault is no attempt");
}

#[test]
fn an_offer_that_met_the_job_of_before_is_made_again_soon_and_ever_more_seldom() {
    let (mut story, _) = Story::begin(&[NotPlotted]);
    story.hear(A, 0, staged());
    story.pulled(A, 0, PullEnd::Stored);
    // The server has heard so, and the queue has not heard it of the server.
    let met = Event::Offered { sector: sector(0), answer: OfferAnswer::AlreadyThere };
    assert_eq!(indexes(&offers(&story.on(Event::Looked(vec![Damaged])))), [0]);
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(offers(&story.on(met.clone())), []);
        assert_eq!(story.jobs.wake_at().map(|at| at <= story.now + Duration::from_secs(pause)), Some(true));
        assert_eq!(offers(&story.after(pause - 1)), []);
        assert_eq!(indexes(&offers(&story.after(1))), [0]);
    }
    // It is worked on after all: who is at it says so.
    story.hear(B, 0, Downloading { pieces: 1 });
    story.on(met);
    assert_eq!(offers(&story.after(59)), []);
}

#[test]
fn what_servers_have_for_an_earlier_run_is_taken_up_within_bounds() {
    let (mut story, _) = Story::begin(&[NotPlotted; 40]);
    for index in 10..40 {
        let working = story.hear(A, index, Downloading { pieces: 1 });
        assert_eq!(tells(&working) == [(A, Wanted)], index < 10 + MAX_FOLLOWED as u16 - 2, "{index}");
    }
    assert_eq!(story.jobs.open().count(), MAX_FOLLOWED);
    assert_eq!(pulls(&story.hear(A, 12, staged())), [(12, A)]);
    let actions = story.pulled(A, 12, PullEnd::Stored);
    assert_eq!((tells(&actions), offers(&actions)), (vec![(A, Stored)], vec![]), "enough is under way");
    let foreign = SectorId { farm: FarmId([8; 16]), ..sector(0) };
    let heard = Event::Heard(PlotProgress { sector: foreign, server: A, phase: staged() });
    assert_eq!(story.on(heard), []);
    assert_eq!(tells(&story.hear(A, 40, staged())), [(A, Stored)], "the farm was made smaller");
}

#[test]
fn expired_sectors_are_plotted_again_and_jobs_that_would_come_too_old_are_forgotten() {
    let mut jobs = FarmJobs::new(farm(), settings(1000), Duration::ZERO);
    jobs.on(Event::Tick, Duration::ZERO);
    let actions = jobs.on(Event::Looked(vec![Plotted { history_size: 5 }, NotPlotted]), Duration::ZERO);
    assert!(actions.contains(&Action::AskSegment(8)), "{actions:?}");
    assert_eq!(indexes(&offers(&actions)), [1]);
    let segment = Event::Segment { index: 8, commitment: [3; 48] };
    assert_eq!(indexes(&offers(&jobs.on(segment, Duration::ZERO))), [0]);
    // A sector staged for that size is of no use either.
    let old = SectorId { farm: FARM, sector_index: 1, history_size: 5 };
    let heard = Event::Heard(PlotProgress { sector: old, server: A, phase: staged() });
    assert_eq!(tells(&jobs.on(heard, Duration::ZERO)), [(A, Stored)]);
    assert_eq!(jobs.open().count(), 2, "the order of today is another one");
}

#[test]
fn while_it_is_paused_nothing_is_begun_and_afterwards_everything_goes_on() {
    let (mut story, _) = Story::begin(&[NotPlotted; 3]);
    assert_eq!(story.on(Event::Paused(true)), []);
    // The server hears that its work is wanted; nothing is fetched, and nothing offered.
    assert_eq!(tells(&story.hear(A, 0, Downloading { pieces: 1 })), [(A, Wanted)]);
    assert_eq!(story.hear(A, 0, staged()), []);
    assert_eq!(story.after(179), []);
    let goes_on = story.on(Event::Paused(false));
    assert_eq!((pulls(&goes_on), indexes(&offers(&goes_on))), (vec![(0, A)], vec![0, 1]));
    // What is being fetched comes to its end.
    story.on(Event::Paused(true));
    assert_eq!(tells(&story.pulled(A, 0, PullEnd::Stored)), [(A, Stored)]);
    assert!(offers(&story.on(Event::Paused(false))).len() == 1 && !story.is_open(0));
}

#[test]
fn a_long_pause_gives_staged_sectors_up_without_blame_and_orders_them_anew() {
    let (mut story, _) = Story::begin(&[NotPlotted; 4]);
    let is_dismissal = |actions: &[Action], server| {
        let tells = tells(actions);
        actions.len() == 1
            && matches!(&tells[..], [(to, Refused { reason })] if *to == server && reason.contains("paused"))
    };
    // One is pulled, one is staged, of one nothing is heard yet.
    story.hear(A, 0, staged());
    story.on(Event::Paused(true));
    story.hear(B, 1, staged());
    assert_eq!(story.after(179), []);
    assert_eq!(story.jobs.wake_at(), Some(Duration::from_secs(180)), "it wakes for that");
    assert!(is_dismissal(&story.after(1), B) && !story.is_open(1));
    assert!(story.is_open(0), "what is pulled comes to its end");
    assert_eq!(story.after(20), [], "once");
    // It did not hear so; and one that was queued comes.
    assert!(is_dismissal(&story.hear(B, 1, staged()), B));
    assert!(is_dismissal(&story.hear(A, 2, staged()), A));
    assert_eq!(story.hear(A, 2, Failed { reason: "paused".into() }), []);
    assert_eq!(tells(&story.pulled(A, 0, PullEnd::Stored)), [(A, Stored)]);
    let offered = offers(&story.on(Event::Paused(false)));
    assert_eq!(indexes(&offered), [1, 2]);
    assert!(offered.iter().all(|job| job.attempt == 1 && job.avoid.is_empty()));
    // The answer to the dismissal says nothing of the new job, but that the old one is gone from the queue.
    assert_eq!(indexes(&offers(&story.hear(B, 1, Failed { reason: "paused".into() }))), [1]);
    assert_eq!(story.jobs.troubles().count(), 0);
    // Who begins anew and fails has failed.
    story.hear(B, 1, Downloading { pieces: 1 });
    story.hear(B, 1, Failed { reason: "piece 7".into() });
    assert_eq!(story.jobs.troubles().map(|(sector, _)| sector).collect::<Vec<_>>(), [1]);
    // A short pause costs nothing, and each counts from its own beginning.
    story.hear(A, 2, Downloading { pieces: 1 });
    story.on(Event::Paused(true));
    story.hear(A, 2, staged());
    story.after(100);
    story.on(Event::Paused(false));
    assert!(story.is_open(2));
    story.on(Event::Paused(true));
    assert_eq!(tells(&story.after(100)), []);
}

#[test]
fn it_wakes_for_what_is_next() {
    let (mut story, _) = Story::begin(&[NotPlotted]);
    assert_eq!(story.jobs.wake_at(), Some(LOOK_EVERY));
    story.after(5);
    story.hear(A, 0, Downloading { pieces: 1 });
    story.hear(A, 0, Failed { reason: "piece 7".into() });
    story.now = Duration::from_secs(10);
    assert_eq!(story.on(Event::Tick), [Action::Look]);
    assert_eq!(story.jobs.wake_at(), Some(Duration::from_secs(15)), "the next attempt");
}
