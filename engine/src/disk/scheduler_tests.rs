use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn limits() -> Limits {
    let cap = |requests| Cap { bytes: 1000, requests };
    Limits { depth: 4, serving: cap(3), sector_write: cap(2), scrub: cap(1) }
}

#[test]
fn the_most_urgent_goes_first_whatever_the_order_of_asking() {
    let mut disk = Scheduler::new(limits());
    let tickets: Vec<_> = CLASSES.iter().rev().map(|&class| disk.enqueue(class, 10)).collect();
    let started: Vec<_> = std::iter::from_fn(|| disk.start_next()).collect();
    let (signature, audit, proof) = (tickets[5], tickets[4], tickets[3]);
    assert_eq!(started, [signature, audit, proof], "background waits while reads are in flight");
    disk.finish(Class::AuditRead, 10);
    assert_eq!(disk.start_next(), None);
    disk.finish(Class::ProofRead, 10);
    let started: Vec<_> = std::iter::from_fn(|| disk.start_next()).collect();
    assert_eq!(started, [tickets[2], tickets[1], tickets[0]]);
}

#[test]
fn nobody_yields_to_what_nobody_waits_for_but_it_keeps_its_place_in_the_depth() {
    let mut disk = Scheduler::new(Limits { depth: 3, ..limits() });
    (0..2).for_each(|_| _ = disk.enqueue(Class::AuditRead, 4096));
    assert_eq!(std::iter::from_fn(|| disk.start_next()).count(), 2);
    let scrubs: Vec<_> = (0..2).map(|_| disk.enqueue(Class::Scrub, 10)).collect();
    assert_eq!(disk.start_next(), None);
    disk.leave(Class::AuditRead, 4096);
    assert_eq!(disk.start_next(), None, "one audit is waited for");
    disk.leave(Class::AuditRead, 4096);
    assert_eq!((disk.start_next(), disk.in_flight(Class::AuditRead)), (Some(scrubs[0]), 2));
    disk.leave(Class::Scrub, 10);
    assert_eq!(disk.start_next(), None, "the depth is full");
    disk.finish(Class::AuditRead, 4096);
    disk.came_back(Class::AuditRead, 4096);
    assert_eq!(disk.start_next(), Some(scrubs[1]), "one that hangs does not fill the cap");
    disk.finish(Class::AuditRead, 4096);
    disk.came_back(Class::AuditRead, 4096);
    let _ = disk.enqueue(Class::AuditRead, 4096);
    disk.start_next().unwrap();
    let _ = disk.enqueue(Class::Serving, 10);
    assert_eq!(disk.start_next(), None, "an audit goes first as before");
}

#[test]
fn background_stays_below_its_cap_but_a_large_request_starts_alone() {
    let mut disk = Scheduler::new(limits());
    let large = disk.enqueue(Class::SectorWrite, 5000);
    let small = disk.enqueue(Class::SectorWrite, 1);
    assert_eq!(disk.start_next(), Some(large));
    assert_eq!(disk.start_next(), None);
    disk.finish(Class::SectorWrite, 5000);
    assert_eq!(disk.start_next(), Some(small));
}

#[test]
fn reads_fill_the_depth_and_signatures_do_not_wait_for_it() {
    let mut disk = Scheduler::new(limits());
    (0..9).for_each(|_| _ = disk.enqueue(Class::AuditRead, 4096));
    assert_eq!(std::iter::from_fn(|| disk.start_next()).count(), 4);
    let signature = disk.enqueue(Class::RewardSignature, 4096);
    assert_eq!(disk.start_next(), Some(signature));
    assert_eq!(disk.start_next(), None);
}

#[test]
fn steady_reads_let_one_background_request_through_at_a_time() {
    let mut disk = Scheduler::new(limits());
    let write = disk.enqueue(Class::SectorWrite, 10);
    let second = disk.enqueue(Class::SectorWrite, 10);
    let mut order = Vec::new();
    for _ in 0..3 * READS_PER_BACKGROUND {
        disk.enqueue(Class::AuditRead, 10);
        while let Some(ticket) = disk.start_next() {
            order.push(ticket);
        }
        // One read is always in flight.
        while disk.in_flight(Class::AuditRead) > 1 {
            disk.finish(Class::AuditRead, 10);
        }
        if disk.in_flight(Class::SectorWrite) > 0 {
            disk.finish(Class::SectorWrite, 10);
        }
    }
    let at = |ticket| order.iter().position(|&started| started == ticket).unwrap();
    assert_eq!(at(write), READS_PER_BACKGROUND as usize);
    assert!(at(second) > at(write) + READS_PER_BACKGROUND as usize);
}

#[derive(Debug, Clone)]
enum Step {
    Ask(usize, u64),
    Finish(usize),
    Withdraw(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6usize, 1..3000u64).prop_map(|(class, bytes)| Step::Ask(class, bytes)),
        2 => any::<prop::sample::Index>().prop_map(|at| Step::Finish(at.index(1 << 20))),
        1 => any::<prop::sample::Index>().prop_map(|at| Step::Withdraw(at.index(1 << 20))),
    ];
    prop::collection::vec(step, 0..300)
}

/// What the disk should look like, kept the simple way.
#[derive(Default)]
struct Model {
    waiting: Vec<(Ticket, Class, u64)>,
    running: Vec<(Ticket, Class, u64)>,
}

impl Model {
    fn load(&self, class: Class) -> (u64, usize) {
        let of_class = self.running.iter().filter(|request| request.1 == class);
        of_class.fold((0, 0), |(bytes, count), request| (bytes + request.2, count + 1))
    }

    /// Starts all that may, and checks every start against the rules.
    fn start_all(&mut self, disk: &mut Scheduler) -> Result<(), TestCaseError> {
        while let Some(ticket) = disk.start_next() {
            let at = self.waiting.iter().position(|request| request.0 == ticket);
            let request =
                self.waiting.remove(at.expect("a ticket starts once, and not after it was withdrawn"));
            let older = self.waiting.iter().filter(|other| other.1 == request.1 && other.0 < ticket);
            prop_assert_eq!(older.count(), 0, "first come, first served within a class");
            self.running.push(request);
            let class = request.1;
            if class.is_background() {
                let (bytes, count) = self.load(class);
                let cap = disk.limits.cap(class);
                prop_assert!(count == 1 || bytes <= cap.bytes && count <= cap.requests);
            }
            let deep = self.running.iter().filter(|other| other.1 != Class::RewardSignature).count();
            prop_assert!(class == Class::RewardSignature || deep <= disk.limits.depth);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn caps_hold_and_everything_starts_in_the_end(steps in steps()) {
        let mut disk = Scheduler::new(limits());
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Ask(class, bytes) => {
                    let class = CLASSES[class];
                    model.waiting.push((disk.enqueue(class, bytes), class, bytes));
                }
                Step::Finish(at) if !model.running.is_empty() => {
                    let (_, class, bytes) = model.running.swap_remove(at % model.running.len());
                    disk.finish(class, bytes);
                }
                Step::Withdraw(at) if !model.waiting.is_empty() => {
                    let (ticket, class, _) = model.waiting.swap_remove(at % model.waiting.len());
                    prop_assert!(disk.withdraw(class, ticket));
                    prop_assert!(!disk.withdraw(class, ticket));
                }
                Step::Finish(_) | Step::Withdraw(_) => {}
            }
            model.start_all(&mut disk)?;
            let waiting: HashMap<_, _> = CLASSES.iter().map(|&class| (class, disk.waiting(class))).collect();
            for (class, count) in waiting {
                prop_assert_eq!(count, model.waiting.iter().filter(|request| request.1 == class).count());
            }
        }
        while let Some((_, class, bytes)) = model.running.pop() {
            disk.finish(class, bytes);
            model.start_all(&mut disk)?;
        }
        prop_assert!(model.waiting.is_empty(), "nothing waits on an idle disk");
    }
}
