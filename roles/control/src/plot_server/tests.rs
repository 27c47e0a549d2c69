use super::*;
use proptest::prelude::*;

const MADE: Made = Made { size_bytes: 77, checksum: [7; 32] };
const NOW: Duration = Duration::from_secs(100);

fn staged() -> Action {
    Action::Tell(PlotPhase::Staged { sector_size_bytes: 77, checksum: [7; 32] })
}

fn downloading(pieces: u16) -> Action {
    Action::Tell(PlotPhase::Downloading { pieces })
}

fn failed(reason: &str) -> Action {
    Action::Tell(PlotPhase::Failed { reason: reason.into() })
}

fn worked(pieces: u16, records: u16) -> Event {
    Event::Worked { pieces, records, missing: None }
}

/// A life in each phase that has one.
fn asking() -> Life {
    let (life, actions) = Life::taken(2, false, NOW);
    assert_eq!(actions, [downloading(0)]);
    assert!(life.has_place() && !life.is_making());
    life
}

fn making() -> Life {
    let (life, actions) = Life::taken(2, true, NOW);
    assert_eq!(actions, [Action::Make, downloading(0)]);
    life
}

fn made() -> Life {
    let mut life = making();
    assert_eq!(life.on(Event::Made(MADE), NOW), [staged()]);
    life
}

fn found() -> Life {
    let (life, actions) = Life::found(2, MADE, NOW);
    assert_eq!(actions, [staged()]);
    life
}

#[test]
fn a_sector_is_made_staged_fetched_and_forgotten() {
    let mut life = making();
    assert!(life.is_making());
    assert_eq!(life.on(worked(1, 0), NOW), []);
    assert_eq!(life.on(Event::Tick, NOW), [Action::KeepJob, downloading(1)]);
    life.on(worked(2, 1), NOW);
    let encoding = Action::Tell(PlotPhase::Encoding { records: 1 });
    assert_eq!(life.on(Event::Tick, NOW), [Action::KeepJob, encoding]);
    assert_eq!(life.on(Event::Made(MADE), NOW), [staged()]);
    assert_eq!(life.on(Event::Tick, NOW), [Action::KeepJob, staged()], "told until it is answered");
    assert_eq!(life.on(Event::Stored, NOW), [Action::AckJob, Action::Discard]);
    assert!(life.is_over());
    assert_eq!(life.on(Event::Stored, NOW), [], "a second word changes nothing");
}

#[test]
fn a_redelivered_job_joins_what_is_here() {
    assert_eq!(making().on(Event::Delivered, NOW), [downloading(0)]);
    let mut life = made();
    assert_eq!(life.on(Event::Delivered, NOW), [staged()]);
    assert_eq!(life.on(Event::Stored, NOW), [Action::AckJob, Action::Discard]);
}

#[test]
fn a_sector_found_after_a_restart_is_offered_and_settles_only_a_job_it_has() {
    let mut life = found();
    assert_eq!(life.on(Event::Tick, NOW), [staged()]);
    assert_eq!(life.on(Event::Stored, NOW), [Action::Discard]);
    let mut life = found();
    assert_eq!(life.on(Event::Delivered, NOW), [staged()]);
    assert_eq!(life.on(Event::Tick, NOW), [Action::KeepJob, staged()]);
    assert_eq!(life.on(Event::Stored, NOW), [Action::AckJob, Action::Discard]);
}

#[test]
fn a_sector_stored_from_elsewhere_ends_the_work() {
    assert_eq!(making().on(Event::Stored, NOW), [Action::StopMaking, Action::AckJob]);
}

#[test]
fn failures_end_the_attempt_and_the_client_is_told() {
    let mut life = making();
    let actions = life.on(Event::MakingFailed("no piece".into()), NOW);
    assert_eq!(actions, [failed("no piece"), Action::AckJob]);
    assert!(life.is_over());
    let unusable = || Event::Unusable("bad".into());
    assert_eq!(made().on(unusable(), NOW), [failed("bad"), Action::AckJob, Action::Discard]);
    assert_eq!(found().on(unusable(), NOW), [failed("bad"), Action::Discard], "no job to settle");
    assert_eq!(making().on(unusable(), NOW), [Action::StopMaking, failed("bad"), Action::AckJob]);
}

#[test]
fn pieces_that_nobody_has_free_the_place_a_minute_after_all_else_has_come() {
    let missing = |pieces, records| Event::Worked { pieces, records, missing: Some("piece 7".into()) };
    let mut life = making();
    let moved = NOW + MISSING_PIECES_AFTER;
    life.on(missing(1, 0), moved);
    let end = moved + MISSING_PIECES_AFTER;
    let soon = Duration::from_secs(1);
    assert_eq!(life.on(Event::Tick, end - soon), [Action::KeepJob, downloading(1)]);
    life.on(missing(1, 0), end - soon);
    assert_eq!(life.on(Event::Tick, end), [Action::StopMaking, failed("piece 7"), Action::AckJob]);
    assert!(!life.has_place());
}

#[test]
fn a_piece_that_comes_after_all_is_waited_for() {
    let mut life = making();
    life.on(Event::Worked { pieces: 1, records: 0, missing: Some("piece 7".into()) }, NOW);
    life.on(worked(1, 0), NOW);
    assert_eq!(life.on(Event::Tick, NOW + MISSING_PIECES_AFTER), [Action::KeepJob, downloading(1)]);
    let actions = life.on(Event::Tick, NOW + STALLED_AFTER);
    let stalled = failed("nothing moved for 600 s, at 1 pieces and 0 records of 2");
    assert_eq!(actions, [Action::StopMaking, stalled, Action::AckJob], "not for ever");
}

#[test]
fn nothing_is_made_for_a_client_that_is_not_there() {
    let mut life = asking();
    let soon = NOW + CLIENT_ANSWERS_WITHIN - Duration::from_secs(1);
    assert_eq!(life.on(Event::Tick, soon), [Action::KeepJob, downloading(0)]);
    assert_eq!(life.on(Event::ClientAlive, soon), [Action::Make, downloading(0)]);
    assert_eq!(life.on(Event::Tick, NOW + CLIENT_ANSWERS_WITHIN), [Action::KeepJob, downloading(0)]);
    assert_eq!(asking().on(Event::Tick, NOW + CLIENT_ANSWERS_WITHIN), [Action::AckJob]);
    assert_eq!(asking().on(Event::Shutdown, NOW), [Action::GiveJobBack]);
    assert_eq!(asking().on(Event::Stored, NOW), [Action::AckJob]);
}

#[test]
fn a_client_that_is_gone_for_long_is_given_up_and_one_that_fetches_is_not() {
    let gone = NOW + CLIENT_GONE_AFTER;
    assert_eq!(making().on(Event::Tick, gone), [Action::StopMaking, Action::AckJob]);
    assert_eq!(made().on(Event::Tick, gone), [Action::AckJob, Action::Discard]);
    assert_eq!(found().on(Event::Tick, gone), [Action::Discard]);
    let mut life = made();
    let soon = Duration::from_secs(1);
    life.on(Event::ClientAlive, gone - soon);
    assert_eq!(life.on(Event::Tick, gone), [Action::KeepJob, staged()]);
    let mut slow = making();
    slow.on(Event::Made(MADE), gone - soon);
    assert_eq!(slow.on(Event::Tick, gone), [Action::KeepJob, staged()], "its time begins when it can fetch");
}

#[test]
fn the_end_of_the_server_frees_unmade_jobs_and_keeps_what_is_staged() {
    let back = [Action::StopMaking, Action::GiveJobBack];
    assert_eq!(making().on(Event::Shutdown, NOW), back);
    assert_eq!(made().on(Event::Shutdown, NOW), []);
    let mut over = making();
    over.on(Event::Shutdown, NOW);
    assert_eq!(over.on(Event::Made(MADE), NOW), [Action::Discard], "made too late");
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Delivered),
        Just(worked(2, 1)),
        Just(Event::Worked { pieces: 2, records: 1, missing: Some("piece 1".into()) }),
        Just(Event::Made(MADE)),
        Just(Event::MakingFailed("x".into())),
        Just(Event::Unusable("x".into())),
        Just(Event::Stored),
        Just(Event::ClientAlive),
        Just(Event::Tick),
        Just(Event::Shutdown),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes in whatever order: work is begun and stopped in turn, a job that is not ours is never settled, a settled one
    /// never touched again, and nothing stays staged once it is over.
    #[test]
    fn any_order_is_survived(restarted: bool, present: bool, events in prop::collection::vec(event(), 0..40)) {
        let (mut life, first) = if restarted { Life::found(2, MADE, NOW) } else { Life::taken(2, present, NOW) };
        let (mut has_job, mut settled, mut working, mut staged) = (!restarted, false, false, restarted);
        let mut now = NOW;
        let nothing = Vec::new();
        let steps = std::iter::once((None, first)).chain(events.into_iter().map(|event| (Some(event), nothing.clone())));
        for (event, mut actions) in steps {
            now += MISSING_PIECES_AFTER / 4;
            if let Some(event) = event {
                // The maker speaks only while it works, the queue only before it is settled.
                let is_makers = matches!(event, Event::Made(_) | Event::MakingFailed(_));
                if is_makers && !working || event == Event::Delivered && (settled || life.is_over()) {
                    continue;
                }
                if is_makers {
                    working = false;
                    staged = matches!(event, Event::Made(_));
                }
                has_job |= event == Event::Delivered;
                actions = life.on(event, now);
            }
            for action in actions {
                match action {
                    Action::Make => { prop_assert!(!working && !staged); working = true; }
                    Action::StopMaking => { prop_assert!(working); working = false; }
                    Action::KeepJob => prop_assert!(has_job && !settled),
                    Action::AckJob | Action::GiveJobBack => { prop_assert!(has_job && !settled); settled = true; }
                    Action::Discard => { prop_assert!(staged); staged = false; }
                    Action::Tell(_) => {}
                }
            }
            prop_assert_eq!(life.is_making(), working);
            prop_assert!(!life.is_over() || !staged && !working && (settled || !has_job));
        }
    }
}
