use super::*;
use proptest::prelude::*;

const EIO: Event = Event::Failed { errno: libc::EIO };

/// A disk, what is asked of it, and its changes with the second of each.
struct Day {
    machine: Machine,
    now_ms: u64,
    changes: Vec<(u64, Health)>,
}

/// How the device is for a while.
#[derive(Clone, Copy, PartialEq)]
enum Device {
    Fine,
    Hangs,
    Errs,
    ErrsOneIn(u64),
    Lost,
    RefusesWrites,
    Late,
    HasNoRoom,
    /// All that is asked of it lies at one place, which hangs; others answer.
    OnePlaceHangs,
    /// The same, which errs.
    OnePlaceErrs,
}

impl Day {
    fn new() -> Self {
        Self { machine: Machine::new(0), now_ms: 0, changes: Vec::new() }
    }

    fn on(&mut self, event: Event) {
        if let Some(change) = self.machine.on(self.now_ms, event) {
            assert_ne!(change.from, change.to);
            assert_eq!(change.to, self.machine.health());
            self.changes.push((self.now_ms / 1000, change.to));
        }
    }

    /// A look every 50 ms; ten reads and five writes every second, refused like a disk does; probes as they are due.
    fn pass(&mut self, seconds: u64, device: Device) -> &mut Self {
        for step in 0..seconds * 20 {
            self.now_ms += 50;
            self.on(Event::Tick);
            if self.machine.is_probe_due(self.now_ms) {
                self.machine.probe_began(self.now_ms);
            }
            if self.machine.probe.in_flight > 0 && device != Device::Hangs {
                let is_bad = matches!(device, Device::Errs | Device::Lost);
                self.on(Event::Probed(if is_bad { Answer::Bad } else { Answer::Good }));
            }
            if !matches!(device, Device::Hangs | Device::OnePlaceHangs) {
                // What hung comes back.
                (0..self.machine.in_flight).for_each(|_| self.on(Event::Ended));
            }
            if step % 2 == 0 && !self.machine.health().refuses() {
                self.transfer(device, step / 2, step % 4 == 0);
            }
        }
        self
    }

    fn transfer(&mut self, device: Device, number: u64, is_read: bool) {
        self.on(Event::Began);
        let outcome = match device {
            Device::Hangs | Device::OnePlaceHangs => return,
            Device::Errs | Device::OnePlaceErrs => EIO,
            Device::ErrsOneIn(n) if number.is_multiple_of(n) => EIO,
            Device::Lost => Event::Failed { errno: libc::ENODEV },
            Device::RefusesWrites if !is_read => EIO,
            Device::Late => Event::Late,
            Device::HasNoRoom => Event::Failed { errno: libc::ENOSPC },
            _ => Event::Good { is_read },
        };
        self.on(Event::Ended);
        self.on(outcome);
    }

    fn names(&self) -> Vec<Health> {
        self.changes.iter().map(|change| change.1).collect()
    }
}

use Health::{Gone, Healthy, Sick, Slow};

/// A day's name, how the device was for so many seconds, and what is told.
type Told<'a> = (&'a str, &'a [(u64, Device)], &'a [Health]);

#[test]
fn days_as_they_are_told() {
    let table: [Told; 14] = [
        ("fine", &[(600, Device::Fine)], &[]),
        ("four seconds of silence", &[(60, Device::Fine), (4, Device::Hangs), (60, Device::Fine)], &[]),
        ("hangs", &[(60, Device::Fine), (600, Device::Hangs)], &[Sick]),
        ("comes back", &[(60, Device::Fine), (60, Device::Hangs), (60, Device::Fine)], &[Sick, Healthy]),
        ("errs always", &[(60, Device::Fine), (600, Device::Errs)], &[Slow, Sick]),
        ("errs from the first on", &[(600, Device::Errs)], &[Slow, Sick]),
        ("errs and is mended", &[(60, Device::Errs), (60, Device::Fine)], &[Slow, Sick, Healthy]),
        ("errs one in ten", &[(600, Device::ErrsOneIn(10)), (120, Device::Fine)], &[Slow, Healthy]),
        ("a bad place", &[(600, Device::ErrsOneIn(100))], &[]),
        ("gone and back", &[(9, Device::Fine), (60, Device::Lost), (60, Device::Fine)], &[Gone, Healthy]),
        ("refuses writes", &[(600, Device::RefusesWrites)], &[Slow]),
        ("a place that hangs", &[(600, Device::OnePlaceHangs)], &[]),
        (
            "nothing but a place that errs",
            &[(60, Device::OnePlaceErrs), (120, Device::Fine)],
            &[Slow, Healthy],
        ),
        ("full", &[(600, Device::HasNoRoom)], &[]),
    ];
    for (name, phases, expected) in table {
        let mut day = Day::new();
        phases.iter().for_each(|(seconds, device)| _ = day.pass(*seconds, *device));
        assert_eq!(day.names(), expected, "{name}: {:?}", day.changes);
    }
}

#[test]
fn lateness_alone_is_slowness() {
    let mut day = Day::new();
    day.pass(300, Device::Late).pass(120, Device::Fine);
    assert_eq!(day.names(), [Slow, Healthy]);
}

#[test]
fn a_disk_that_is_well_again_is_back_within_seconds() {
    let mut day = Day::new();
    day.pass(60, Device::Fine).pass(300, Device::Hangs).pass(60, Device::Fine);
    // A probe hung all the time; its answer is the first good one.
    let [(sick, Sick), (back, Healthy)] = day.changes[..] else { panic!("{:?}", day.changes) };
    assert!((65..=66).contains(&sick) && (360..=362).contains(&back), "{:?}", day.changes);
    let mut day = Day::new();
    day.pass(300, Device::Errs).pass(60, Device::Fine);
    let back = day.changes.last().unwrap();
    assert!(back.1 == Healthy && back.0 <= 311, "{:?}", day.changes);
}

#[test]
fn a_disk_that_flaps_does_not_fill_the_log() {
    for (well, ill) in [(7, 7), (1, 6), (30, 20)] {
        let mut day = Day::new();
        let rounds = 6 * 3600 / (well + ill);
        (0..rounds).for_each(|_| _ = day.pass(well, Device::Fine).pass(ill, Device::Hangs));
        // Six hours: the pauses grow to ten minutes soon.
        assert!(day.changes.len() < 100, "{} changes in {rounds} rounds", day.changes.len());
        assert!(day.changes.len() > 10, "it is believed again now and then");
    }
}

#[test]
fn one_line_says_what_was_seen() {
    let mut machine = Machine::new(0);
    machine.on(1, Event::Began);
    machine.on(2, Event::Began);
    assert_eq!(machine.on(5000, Event::Tick), None);
    let change = machine.on(5001, Event::Tick).unwrap();
    assert_eq!(change.why, Why::Silent { silent_ms: 5000, in_flight: 2 });
    assert_eq!(machine.on(9000, Event::Tick), None, "told once");
    assert!(!machine.is_probe_due(6000) && machine.is_probe_due(6001));
    machine.probe_began(6001);
    assert!(!machine.is_probe_due(16_000) && machine.is_probe_due(16_001), "the next one if that hangs");
}

#[test]
fn a_doubt_is_looked_into_before_the_disk_is_sick() {
    let mut machine = Machine::new(0);
    machine.on(0, Event::Began);
    let mut sent = Vec::new();
    for ms in 0..HUNG_MS {
        assert_eq!(machine.on(ms, Event::Tick), None);
        if machine.is_probe_due(ms) {
            machine.probe_began(ms);
            sent.push(ms);
        }
    }
    assert_eq!(sent, [2500, 3200, 3900], "several places, each with a second left");
    assert_eq!(machine.on(4999, Event::Probed(Answer::Good)), None);
    assert_eq!(machine.on(4999 + DOUBT_MS, Event::Tick), None, "one place answers");
    assert!(machine.is_probe_due(4999 + DOUBT_MS), "and again, as long as the other is silent");
    assert!(machine.on(4999 + HUNG_MS, Event::Tick).is_some(), "it does not any more");
}

#[test]
fn an_answer_that_comes_too_late_hastens_the_next_probe() {
    let mut machine = Machine::new(0);
    machine.on(0, Event::Vanished).unwrap();
    machine.probe_began(1000);
    assert_eq!(machine.on(9000, Event::Probed(Answer::Late)), None);
    let mut now = 9000;
    for good in 1..=GOOD_PROBES {
        now = (now..).find(|ms| machine.is_probe_due(*ms)).unwrap();
        machine.probe_began(now);
        assert_eq!(machine.on(now, Event::Probed(Answer::Good)).is_some(), good == GOOD_PROBES);
    }
    assert!(now <= 9000 + 3 * PROBE_AGAIN_MS);
}

#[test]
fn probes_are_spaced_up_to_ten_seconds() {
    let mut machine = Machine::new(0);
    machine.on(0, Event::Vanished).unwrap();
    let (mut now, mut pauses) = (0, Vec::new());
    for _ in 0..6 {
        let due = (now..).find(|ms| machine.is_probe_due(*ms)).unwrap();
        pauses.push(due - now);
        now = due;
        machine.probe_began(now);
        assert_eq!(machine.on(now, Event::Probed(Answer::Bad)), None);
    }
    assert_eq!(pauses, [1000, 2000, 4000, 8000, 10_000, 10_000]);
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let errno = prop_oneof![Just(libc::EIO), Just(libc::ENOSPC), Just(libc::ENODEV), Just(libc::EINVAL)];
    let event = prop_oneof![
        4 => Just(Event::Began),
        4 => Just(Event::Ended),
        6 => any::<bool>().prop_map(|is_read| Event::Good { is_read }),
        4 => errno.prop_map(|errno| Event::Failed { errno }),
        2 => Just(Event::Late),
        1 => Just(Event::Vanished),
        4 => prop_oneof![Just(Answer::Good), Just(Answer::Late), Just(Answer::Bad)].prop_map(Event::Probed),
        6 => Just(Event::Tick),
    ];
    prop::collection::vec((0..9_000u64, event), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is seen in whatever order: changes are told as they are, worse ones for a reason, better ones after enough good
    /// probes or enough calm; and a disk that is well from then on is healthy in the end.
    #[test]
    fn any_order_of_events(events in events()) {
        let (mut machine, mut now, mut good_probes, mut last_bad) = (Machine::new(0), 0, 0, 0);
        for (passed, event) in events {
            now += passed;
            let (before, since) = (machine.health(), machine.since_ms);
            let change = machine.on(now, event);
            match event {
                Event::Probed(answer) => good_probes = if answer == Answer::Good { good_probes + 1 } else { 0 },
                Event::Late | Event::Failed { errno: libc::EIO } => last_bad = now,
                _ => {}
            }
            prop_assert_eq!(change.is_some(), machine.health() != before);
            let Some(Change { from, to, why }) = change else { continue };
            prop_assert_eq!((from, to), (before, machine.health()));
            match why {
                Why::Silent { silent_ms, in_flight } => prop_assert!(silent_ms >= HUNG_MS && in_flight > 0 && to == Sick),
                Why::Fails { failed, of, .. } => prop_assert!(failed >= SICK_FAILED && of <= SICK_OF && to == Sick),
                Why::NowAndThen { failed, late, of } => {
                    prop_assert!(failed + late >= SLOW_BAD && of <= OUTCOMES && from == Healthy && to == Slow);
                }
                Why::Lost { .. } => prop_assert!(to == Gone),
                Why::Answers { after_ms } => {
                    prop_assert_eq!((to, after_ms), (Healthy, now - since));
                    let is_earned = (from == Slow && now - last_bad >= CALM_MS) || good_probes >= GOOD_PROBES;
                    prop_assert!(is_earned, "from {} after {}", from, now - last_bad);
                }
            }
            if to.refuses() {
                good_probes = 0;
            }
        }
        let mut day = Day { machine, now_ms: now, changes: Vec::new() };
        day.pass(HOLD_MOST_MS / 1000 + 120, Device::Fine);
        prop_assert_eq!(day.machine.health(), Healthy);
    }
}
