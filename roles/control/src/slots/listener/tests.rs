use super::*;
use crate::slots::REMEMBERED_BY_NODE;
use proptest::prelude::*;
use std::collections::HashSet;

const TIMEOUT: Duration = Duration::from_secs(4);
const A: InstanceId = InstanceId([1; 16]);
const B: InstanceId = InstanceId([2; 16]);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn info(controller: InstanceId, slot: u64, challenge: u8, announced_ms: u64) -> SlotInfo {
    let (solution_range, voting_solution_range) = (1, 2);
    let global_challenge = [challenge; 32];
    SlotInfo { slot, global_challenge, solution_range, voting_solution_range, controller, announced_ms }
}

/// One finder, whose clock is `here`, and controllers whose clocks are zero when it is.
struct Story {
    listener: Listener,
    begun: Vec<(u64, u8)>,
    deadlines: Vec<Duration>,
    refused: Vec<(u64, Refusal)>,
}

impl Story {
    fn new() -> Self {
        let listener = Listener::new(TIMEOUT);
        Self { listener, begun: Vec::new(), deadlines: Vec::new(), refused: Vec::new() }
    }

    /// A finder that knows the controllers: one that has heard of slots 1, 2 and 3, at 1, 2 and 3 s.
    fn settled(controllers: &[InstanceId]) -> Self {
        let mut story = Self::new();
        for slot in 1..=3 {
            controllers.iter().for_each(|id| story.hear(info(*id, slot, 0, slot * 1000), slot * 1000));
            story.on(ListenerEvent::Tick, slot * 1000 + 999);
        }
        story.begun.clear();
        story.deadlines.clear();
        story
    }

    fn on(&mut self, event: ListenerEvent, now_ms: u64) {
        for action in self.listener.on(event, at(now_ms)) {
            match action {
                ListenerAction::Work { slot, deadline } => {
                    self.begun.push((slot.slot, slot.global_challenge[0]));
                    self.deadlines.push(deadline);
                }
                ListenerAction::Refuse { slot, reason } => self.refused.push((slot, reason)),
            }
        }
    }

    fn hear(&mut self, info: SlotInfo, now_ms: u64) {
        self.on(ListenerEvent::Heard(info), now_ms);
    }

    /// Time goes on, with a tick when one is due.
    fn wait_until(&mut self, now_ms: u64) {
        while let Some(due) = self.listener.wake_at().filter(|due| *due <= at(now_ms)) {
            self.on(ListenerEvent::Tick, due.as_millis() as u64);
        }
    }
}

#[test]
fn a_slot_of_several_controllers_is_worked_on_once_for_each_challenge() {
    let mut story = Story::settled(&[A, B]);
    story.hear(info(A, 5, 0, 5000), 5000);
    story.hear(info(B, 5, 0, 5100), 5100);
    story.hear(info(A, 5, 0, 5200), 5200);
    assert_eq!(story.begun, [(5, 0)], "at once, and once");
    assert_eq!(story.deadlines, [at(9000)]);
    story.hear(info(B, 5, 7, 5300), 5300);
    assert_eq!(story.begun, [(5, 0), (5, 7)], "the chain took another turn");
    assert_eq!(story.refused, []);
}

#[test]
fn a_late_slot_has_only_the_time_that_is_left() {
    let mut story = Story::settled(&[A]);
    story.hear(info(A, 5, 0, 5000), 7000);
    assert_eq!(story.begun, [], "more may come");
    story.wait_until(8000);
    assert_eq!((&story.begun[..], &story.deadlines[..]), (&[(5, 0)][..], &[at(9000)][..]));
    story.hear(info(A, 6, 0, 6000), 9800);
    story.wait_until(11_000);
    assert_eq!(story.begun.len(), 1);
    let age = at(3800) + SETTLE;
    assert_eq!(story.refused, [(6, Refusal::Late { age })], "nothing could be proved in what is left");
}

/// The connection was dead for forty seconds, and what was said meanwhile comes within a third of a second.
fn burst(story: &mut Story, first_slot: u64, offset_ms: u64) {
    for (n, slot) in (first_slot..=first_slot + 40).enumerate() {
        let now = (first_slot + 40) * 1000 + n as u64 * 8;
        story.wait_until(now);
        story.hear(info(A, slot, 0, slot * 1000 + offset_ms), now);
    }
    story.wait_until((first_slot + 42) * 1000);
}

#[test]
fn a_burst_of_old_slots_leads_to_work_on_the_live_ones_newest_first() {
    let mut story = Story::settled(&[A]);
    burst(&mut story, 4, 0);
    // Slot 44 is on time by 320 ms, 43 by 1312 ms and so on; after the quiet time 41 is 3.5 s old.
    assert_eq!(story.begun, [(44, 0), (43, 0), (42, 0)]);
    assert!(story.deadlines.is_sorted_by(|newer, older| newer > older), "{:?}", story.deadlines);
    assert_eq!(story.refused.len(), 38, "each of the others is counted");
}

#[test]
fn a_burst_from_a_controller_never_heard_before_is_no_better() {
    for clock_ms in [0, 86_400_000] {
        let mut story = Story::new();
        burst(&mut story, 4, clock_ms);
        assert_eq!(story.begun[0], (44, 0));
        assert!(story.begun.len() <= REMEMBERED_BY_NODE, "{:?}", story.begun);
        assert_eq!(story.begun.len() + story.refused.len(), 41);
    }
}

#[test]
fn the_live_slot_is_not_kept_waiting_by_a_burst() {
    let mut story = Story::settled(&[A, B]);
    for slot in 10..40 {
        story.hear(info(A, slot, 0, slot * 1000), 50_000 + slot);
    }
    story.hear(info(B, 50, 0, 50_010), 50_050);
    assert_eq!(story.begun, [(50, 0)], "at once, before any that is held");
}

#[test]
fn what_was_late_from_one_controller_is_begun_when_another_is_on_time() {
    let mut story = Story::settled(&[A, B]);
    story.hear(info(A, 5, 0, 5000), 10_000);
    story.wait_until(11_000);
    assert!(matches!(story.refused[..], [(5, Refusal::Late { .. })]));
    story.hear(info(B, 5, 0, 11_000), 11_000);
    assert_eq!(story.begun, [(5, 0)], "that node is behind, and takes it");
}

#[test]
fn the_farming_timeout_may_change() {
    let mut story = Story::settled(&[A]);
    story.on(ListenerEvent::FarmingTimeout(at(9000)), 5000);
    story.hear(info(A, 5, 0, 5000), 5000);
    assert_eq!(story.deadlines, [at(14_000)]);
}

#[test]
fn memory_is_bounded() {
    let mut listener = Listener::new(TIMEOUT);
    for n in 0..10 * MAX_CONTROLLERS as u64 {
        let id = InstanceId(u128::from(n).to_be_bytes());
        (0..9).for_each(|slot| {
            listener.on(ListenerEvent::Heard(info(id, slot, n as u8, slot)), at(10 * n + slot));
        });
    }
    assert_eq!(listener.controllers.len(), MAX_CONTROLLERS);
    assert!(listener.begun.0.len() <= REMEMBERED && listener.refused.0.len() <= REMEMBERED);
}

proptest! {
    /// Whatever comes in whatever order: nothing is begun twice, each deadline lies ahead and within the timeout, and a tick is
    /// never due for ever.
    #[test]
    fn any_order_of_anything(
        heard in prop::collection::vec((0u8..3, 0u64..12, 0u8..2, any::<u32>(), 0u64..3000), 0..80),
    ) {
        let (mut listener, mut now, mut begun) = (Listener::new(TIMEOUT), 0, HashSet::new());
        for (controller, slot, challenge, clock, pause_ms) in heard {
            now += pause_ms;
            let announced_ms = if clock % 3 == 0 { u64::from(clock) } else { slot * 1000 };
            let event = match clock % 7 {
                0 => ListenerEvent::Tick,
                _ => ListenerEvent::Heard(info(InstanceId([controller; 16]), slot, challenge, announced_ms)),
            };
            for action in listener.on(event, at(now)) {
                if let ListenerAction::Work { slot, deadline } = action {
                    prop_assert!(begun.insert((slot.slot, slot.global_challenge)));
                    prop_assert!(at(now) < deadline && deadline <= at(now) + TIMEOUT);
                }
            }
            if let Some(due) = listener.wake_at() {
                prop_assert!(at(now) < due && due <= at(now) + MAX_HOLD);
            }
        }
        let end = at(now) + MAX_HOLD;
        listener.on(ListenerEvent::Tick, end);
        prop_assert_eq!(listener.wake_at(), None);
    }
}
