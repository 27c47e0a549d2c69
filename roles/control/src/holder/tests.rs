use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const KEY: [u8; 32] = [7; 32];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn id(n: u8) -> InstanceId {
    InstanceId([n; 16])
}

fn client(n: u8) -> Holder {
    let mut holder = Holder::new(id(n), &format!("host-{n}"));
    assert_eq!(holder.on(Event::Connected, ms(0)), []);
    holder
}

fn opened(n: u8) -> Event {
    Event::Opened { public_key: KEY, path: format!("/disk-{n}") }
}

fn told(mut actions: Vec<Action>) -> FarmHeld {
    match actions.pop() {
        Some(Action::Tell(held)) if actions.is_empty() => held,
        other => panic!("{actions:?} {other:?}"),
    }
}

/// Lets time pass until `until`; what was done, and when.
fn run(holder: &mut Holder, until: Duration) -> Vec<(Duration, Action)> {
    let mut done = Vec::new();
    while let Some(at) = holder.wake_at().filter(|at| *at <= until) {
        done.extend(holder.on(Event::Tick, at).into_iter().map(|action| (at, action)));
    }
    done
}

#[test]
fn a_farm_begins_a_second_after_it_was_claimed_and_is_told_of_for_ever() {
    let mut holder = client(1);
    let first = told(holder.on(opened(1), ms(10)));
    assert_eq!((first.held_ms, first.host.as_str(), first.path.as_str()), (0, "host-1", "/disk-1"));
    let done = run(&mut holder, ms(7000));
    let began: Vec<_> = done.iter().filter(|(_, action)| matches!(action, Action::Begin { .. })).collect();
    assert_eq!(began, [&(ms(1010), Action::Begin { public_key: KEY })]);
    let told_at: Vec<_> = done.iter().filter(|(_, action)| matches!(action, Action::Tell(_))).collect();
    let told_at: Vec<_> = told_at.into_iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(told_at, [260, 510, 760, 1010, 3010, 5010]);
    assert!(holder.may_farm(&KEY) && !holder.may_farm(&[8; 32]));
}

#[test]
fn a_farm_that_was_let_go_is_nobodys_and_may_be_claimed_anew() {
    let mut holder = client(1);
    holder.on(opened(1), ms(0));
    run(&mut holder, ms(5000));
    assert_eq!(holder.on(Event::Closed { public_key: KEY }, ms(5000)), []);
    assert!(!holder.may_farm(&KEY) && holder.wake_at().is_none());
    let other = FarmHeld {
        client: id(2),
        public_key: KEY,
        host: "host-2".into(),
        path: "/disk-2".into(),
        held_ms: 0,
        over: None,
    };
    assert_eq!(holder.on(Event::Heard(other), ms(5100)), [], "whoever claims it next is not answered");
    assert_eq!(told(holder.on(opened(1), ms(6000))).held_ms, 0);
    run(&mut holder, ms(7000));
    assert!(holder.may_farm(&KEY), "after a claim of its own");
}

#[test]
fn a_claim_counts_only_while_it_can_be_heard() {
    let mut holder = Holder::new(id(1), "host");
    assert_eq!(holder.on(opened(1), ms(0)), []);
    assert_eq!((holder.wake_at(), holder.on(Event::Tick, ms(5000))), (None, vec![]));
    told(holder.on(Event::Connected, ms(9000)));
    holder.on(Event::Disconnected, ms(9900));
    assert_eq!(holder.on(Event::Tick, ms(10_500)), []);
    assert_eq!(told(holder.on(Event::Connected, ms(11_000))).held_ms, 11_000, "held all the while");
    run(&mut holder, ms(11_999));
    assert!(!holder.may_farm(&KEY));
    run(&mut holder, ms(12_000));
    assert!(holder.may_farm(&KEY));
    assert_eq!(told(holder.on(Event::Connected, ms(12_100))).over, None, "told anew after each reconnect");
}

/// Two clients that hold the key since `opened_at`; the words of one reach the other at once, `at`.
fn meet(opened_at: [u64; 2], at: u64, first_speaks: bool) -> [Option<Stopped>; 2] {
    let mut clients = [1, 2].map(client);
    for (client, (n, at)) in clients.iter_mut().zip([1, 2].into_iter().zip(opened_at)) {
        client.on(opened(n), ms(at));
        run(client, ms(at + 1100));
    }
    let from = usize::from(!first_speaks);
    let mut words = vec![(1 - from, told(clients[from].on(Event::Connected, ms(at))))];
    let mut stopped = [None, None];
    while let Some((to, held)) = words.pop() {
        for action in clients[to].on(Event::Heard(held), ms(at)) {
            match action {
                Action::Tell(held) => words.push((1 - to, held)),
                Action::Stop(by) => stopped[to] = Some(by),
                Action::Begin { .. } => panic!("it has begun already"),
            }
        }
    }
    stopped
}

#[test]
fn the_later_of_two_stops_and_both_hosts_are_named() {
    for first_speaks in [true, false] {
        let [first, second] = meet([0, 3000], 9000, first_speaks);
        assert_eq!(first, None);
        let text = second.unwrap().to_string();
        for part in ["/disk-1", "host-1", "/disk-2 on host host-2"] {
            assert!(text.contains(part), "{text}");
        }
        let [first, second] = meet([3000, 0], 9000, first_speaks);
        assert_eq!(second, None);
        assert_eq!(first.unwrap().other_client, id(2));
        let [first, second] = meet([500, 500], 9000, first_speaks);
        assert!(first.is_none() && second.is_some(), "of equals the lower id goes on");
    }
}

#[test]
fn a_verdict_holds_although_a_later_word_says_otherwise() {
    let mut judge = client(1);
    judge.on(opened(1), ms(1000));
    let mut word = FarmHeld {
        client: id(2),
        public_key: KEY,
        host: "other".to_owned(),
        path: "/disk".to_owned(),
        held_ms: 4990,
        over: None,
    };
    // The word took 20 ms and so seems later.
    assert_eq!(told(judge.on(Event::Heard(word.clone()), ms(6000))).over, Some(id(2)));
    word.held_ms = 5999;
    assert_eq!(told(judge.on(Event::Heard(word.clone()), ms(6990))).over, Some(id(2)));
    // What it says itself comes back to it.
    word.client = id(1);
    assert_eq!(judge.on(Event::Heard(word), ms(7000)), []);
}

#[test]
fn words_about_other_keys_and_verdicts_about_others_stop_nothing() {
    let mut holder = client(5);
    holder.on(opened(5), ms(0));
    let word = |public_key, over| FarmHeld {
        client: id(1),
        public_key,
        host: String::new(),
        path: String::new(),
        held_ms: u64::MAX,
        over,
    };
    assert_eq!(holder.on(Event::Heard(word([8; 32], Some(id(5)))), ms(2000)), []);
    told(holder.on(Event::Heard(word(KEY, Some(id(4)))), ms(2000)));
    let stopped = holder.on(Event::Heard(word(KEY, Some(id(5)))), ms(2000));
    assert!(matches!(stopped[..], [Action::Stop(_)]));
    assert_eq!(holder.on(Event::Heard(word(KEY, Some(id(5)))), ms(2000)), []);
    assert_eq!((holder.wake_at(), holder.may_farm(&KEY)), (None, false));
}

#[test]
fn verdicts_are_bounded() {
    let mut judge = Holder::new(InstanceId([0; 16]), "host");
    judge.on(Event::Connected, ms(0));
    judge.on(opened(0), ms(0));
    for n in 1..1000u128 {
        let client = InstanceId(n.to_be_bytes());
        let (host, path) = (String::new(), String::new());
        let word = FarmHeld { client, public_key: KEY, host, path, held_ms: 0, over: None };
        assert_eq!(told(judge.on(Event::Heard(word), ms(5))).over, Some(client));
    }
    assert_eq!(judge.farms[&KEY].later.len(), VERDICTS_MAX);
}

/// Clients that hear each other after 0 to 100 ms, and lose any of what is said before a certain time.
struct Net {
    clients: Vec<Holder>,
    began: BTreeSet<usize>,
    stopped: BTreeSet<usize>,
    /// When, a number that tells them apart, for whom, what.
    on_their_way: BTreeSet<(Duration, u64, usize)>,
    events: Vec<Event>,
    seed: u64,
    lossy_until: Duration,
}

impl Net {
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn send(&mut self, at: Duration, to: usize, event: Event) {
        self.on_their_way.insert((at, self.events.len() as u64, to));
        self.events.push(event);
    }

    fn act(&mut self, from: usize, actions: Vec<Action>, now: Duration) {
        for action in actions {
            match action {
                Action::Begin { .. } => drop(self.began.insert(from)),
                Action::Stop(_) => drop(self.stopped.insert(from)),
                Action::Tell(held) => {
                    for to in 0..self.clients.len() {
                        let is_lost = to != from && now < self.lossy_until && self.random(4) > 0;
                        if !is_lost {
                            let at = now + ms(self.random(101));
                            self.send(at, to, Event::Heard(held.clone()));
                        }
                    }
                }
            }
        }
    }

    fn run(&mut self, until: Duration) {
        loop {
            let woken = (0..self.clients.len()).filter_map(|n| Some((self.clients[n].wake_at()?, n))).min();
            let said = self.on_their_way.first().copied();
            match (woken, said) {
                (woken, Some((at, n, to))) if at <= until && woken.is_none_or(|(wake, _)| at <= wake) => {
                    self.on_their_way.pop_first();
                    let event = self.events[n as usize].clone();
                    let actions = self.clients[to].on(event, at);
                    self.act(to, actions, at);
                }
                (Some((at, n)), _) if at <= until => {
                    let actions = self.clients[n].on(Event::Tick, at);
                    self.act(n, actions, at);
                }
                _ => return,
            }
        }
    }
}

fn net(ids: &[u8], opened_at: &[u64], lossy_until: u64, seed: u64) -> Net {
    let mut net = Net {
        clients: ids.iter().map(|n| client(*n)).collect(),
        began: BTreeSet::new(),
        stopped: BTreeSet::new(),
        on_their_way: BTreeSet::new(),
        events: Vec::new(),
        seed,
        lossy_until: ms(lossy_until),
    };
    for (n, at) in opened_at.iter().enumerate() {
        net.send(ms(*at), n, opened(ids[n]));
    }
    net
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Of any two exactly one goes on, within 5 s of the second's start, or of the time when they hear each other.
    #[test]
    fn of_two_exactly_one_goes_on(
        seed in any::<u64>(),
        is_first_lower in any::<bool>(),
        first in 0u64..20_000,
        second in 0u64..20_000,
        lossy in 0u64..2500,
        is_apart in any::<bool>(),
    ) {
        let ids = if is_first_lower { [1, 2] } else { [2, 1] };
        let later = first.max(second);
        // Parted for long, or only at the beginning.
        let lossy_until = later + if is_apart { 30_000 } else { lossy };
        let mut net = net(&ids, &[first, second], lossy_until, seed);
        net.run(ms(lossy_until.max(later + 2500) + 2500));
        prop_assert_eq!(net.stopped.len(), 1, "{:?} {:?}", net.stopped, net.began);
        let goes_on = usize::from(net.stopped.contains(&0));
        if first.abs_diff(second) > 100 {
            prop_assert_eq!(goes_on, usize::from(second < first), "the earlier");
        }
        net.run(ms(lossy_until + 60_000));
        prop_assert_eq!(net.stopped.len(), 1, "it stays so");
        prop_assert!(net.clients[goes_on].may_farm(&KEY) && !net.clients[1 - goes_on].may_farm(&KEY));
    }

    /// A farm whose words are heard is never begun by a second client that starts later.
    #[test]
    fn a_second_one_does_not_begin_where_messages_come(
        seed in any::<u64>(), is_first_lower in any::<bool>(), apart in 1200u64..60_000,
    ) {
        let ids = if is_first_lower { [1, 2] } else { [2, 1] };
        let mut net = net(&ids, &[0, apart], 0, seed);
        net.run(ms(apart + 500));
        prop_assert_eq!(&net.began, &BTreeSet::from([0]));
        prop_assert_eq!(&net.stopped, &BTreeSet::from([1]));
    }

    /// Of several that did not start within the same moment the earliest goes on.
    #[test]
    fn of_many_the_earliest_goes_on(
        seed in any::<u64>(),
        order in Just([1u8, 2, 3, 4]).prop_shuffle(),
        gaps in prop::array::uniform3(101u64..5000),
        lossy in 0u64..30_000,
    ) {
        let opened_at = [0, gaps[0], gaps[0] + gaps[1], gaps[0] + gaps[1] + gaps[2]];
        let last = opened_at[3].max(lossy);
        let mut net = net(&order, &opened_at, lossy, seed);
        net.run(ms(last + 5000));
        prop_assert_eq!(net.stopped, BTreeSet::from([1, 2, 3]));
    }
}
