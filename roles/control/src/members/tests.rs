use super::*;
use crate::names::subject_matches;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SECOND: Duration = Duration::from_secs(1);

fn entry(role: Role, n: u8) -> MemberEntry {
    MemberEntry {
        role,
        id: InstanceId([n; 16]),
        addresses: Vec::new(),
        certificate_sha256: [n; 32],
        group: "default".to_owned(),
        host: "host".to_owned(),
        capacity: 1,
        version: "0.1.0".to_owned(),
        is_full: false,
    }
}

fn id(n: u8) -> InstanceId {
    InstanceId([n; 16])
}

/// A watcher and its clock.
struct Watcher {
    members: Members,
    now: Duration,
}

impl Watcher {
    /// One who hears plot-servers, with nothing there at the start.
    fn new() -> Self {
        let mut members = Members::new(Some(vec![Role::PlotServer]), Liveness::default(), Duration::ZERO);
        members.on(Event::Replayed, Duration::ZERO);
        Self { members, now: Duration::ZERO }
    }

    fn on(&mut self, event: Event) -> Vec<MemberEvent> {
        self.members.on(event, self.now)
    }

    /// Lets time pass, with every tick when it is due.
    fn pass(&mut self, time: Duration, is_connected: bool) -> Vec<MemberEvent> {
        let until = self.now + time;
        let mut actions = Vec::new();
        while self.members.wake_at() <= until {
            self.now = self.now.max(self.members.wake_at());
            actions.extend(self.members.on(Event::Tick { is_connected }, self.now));
        }
        self.now = until;
        actions
    }
}

#[test]
fn a_member_joins_falls_silent_and_returns() {
    let (mut watcher, server) = (Watcher::new(), entry(Role::PlotServer, 1));
    let joined = [MemberEvent::Listed(server.clone()), MemberEvent::Joined(server.clone())];
    assert_eq!(watcher.on(Event::Entry(server.clone())), joined);
    assert_eq!(watcher.pass(SECOND * 5, true), []);
    assert_eq!(watcher.on(Event::Heartbeat(id(1))), []);
    assert_eq!(watcher.pass(SECOND * 5, true), [], "the heartbeat counts");
    assert_eq!(watcher.pass(SECOND * 2, true), [MemberEvent::Suspect(id(1))]);
    assert_eq!(watcher.pass(SECOND * 9, true), [MemberEvent::Gone(id(1))]);
    assert_eq!(
        (watcher.members.present().count(), watcher.members.listed().count()),
        (0, 1),
        "its entry stands"
    );
    assert_eq!(watcher.on(Event::Heartbeat(id(1))), [MemberEvent::Joined(server)]);
    assert_eq!(watcher.on(Event::Left(id(1))), [MemberEvent::Gone(id(1)), MemberEvent::Unlisted(id(1))]);
}

#[test]
fn an_old_entry_is_no_sign_of_life_but_lets_connect() {
    let mut members = Members::new(None, Liveness::default(), Duration::ZERO);
    let server = entry(Role::PlotServer, 1);
    assert_eq!(members.on(Event::Entry(server.clone()), SECOND), [MemberEvent::Listed(server.clone())]);
    members.on(Event::Replayed, SECOND);
    assert_eq!((members.present().count(), members.listed().count()), (0, 1));
    assert_eq!(members.on(Event::Heartbeat(id(1)), SECOND), [MemberEvent::Joined(server)]);
}

/// Of roles that are not heard, the entry alone tells; it lapses when it is not written anew.
#[test]
fn a_role_that_is_not_heard_is_present_while_listed() {
    let (mut watcher, client) = (Watcher::new(), entry(Role::PlotClient, 1));
    watcher.on(Event::Entry(client.clone()));
    assert_eq!(watcher.members.present().collect::<Vec<_>>(), [(&client, Health::Listed)]);
    let mut gone = Vec::new();
    for _ in 0..5 {
        gone.extend(watcher.pass(SECOND * 60, true));
        watcher.on(Event::Entry(entry(Role::PlotServer, 2)));
    }
    let gone: Vec<_> = gone.into_iter().filter(|event| !matches!(event, MemberEvent::Suspect(_))).collect();
    assert!(gone.contains(&MemberEvent::Unlisted(id(1))), "{gone:?}");
    assert!(!gone.contains(&MemberEvent::Unlisted(id(2))), "{gone:?}");
}

/// JetStream is away for an hour: nobody can write, and nobody loses the right to connect for that.
#[test]
fn a_bucket_that_takes_no_writes_condemns_nobody() {
    let mut watcher = Watcher::new();
    for n in 1..4 {
        watcher.on(Event::Entry(entry(Role::PlotClient, n)));
    }
    assert_eq!(watcher.pass(SECOND * 3600, true), []);
    watcher.on(Event::Entry(entry(Role::PlotClient, 1)));
    assert_eq!(watcher.pass(SECOND * 100, true), [], "the others need not be the first to write again");
    assert_eq!(watcher.members.listed().count(), 3);
}

#[test]
fn who_is_cut_off_or_slept_blames_nobody() {
    let mut watcher = Watcher::new();
    watcher.on(Event::Entry(entry(Role::PlotServer, 1)));
    assert_eq!(watcher.pass(SECOND * 1000, false), []);
    assert_eq!(watcher.pass(SECOND * 5, true), [], "everybody's time starts anew");
    // The process stood still; the tick comes late, before what waits in the socket.
    watcher.now += SECOND * 100;
    assert_eq!(watcher.on(Event::Tick { is_connected: true }), []);
    assert_eq!(watcher.pass(SECOND * 5, true), []);
    assert_eq!(watcher.pass(SECOND * 2, true), [MemberEvent::Suspect(id(1))]);
}

#[test]
fn a_new_certificate_is_told_whatever_the_health() {
    let (mut watcher, mut server) = (Watcher::new(), entry(Role::PlotServer, 1));
    watcher.on(Event::Entry(server.clone()));
    watcher.pass(SECOND * 20, true);
    server.certificate_sha256 = [9; 32];
    let told = watcher.on(Event::Entry(server.clone()));
    assert_eq!(told, [MemberEvent::Listed(server.clone()), MemberEvent::Joined(server)]);
}

#[test]
fn the_number_kept_is_bounded() {
    let mut members = Members::new(None, Liveness::default(), Duration::ZERO);
    for n in 0..MAX_MEMBERS as u128 + 3 {
        let entry = MemberEntry { id: InstanceId(n.to_be_bytes()), ..entry(Role::PlotClient, 0) };
        members.on(Event::Entry(entry), Duration::ZERO);
    }
    assert_eq!((members.listed().count(), members.refused()), (MAX_MEMBERS, 3));
}

/// With the servers of a cluster fixed, heartbeats grow as its plot-clients do; when everything grows but the controllers and
/// proof-servers, still far below what every member hearing every other would be.
#[test]
fn heartbeats_grow_linearly_with_members() {
    let of = |members: u32| {
        let servers = [
            (Role::Controller, 3),
            (Role::ProofServer, 3),
            (Role::PlotServer, 4),
            (Role::ShardedCache, 3),
            (Role::FullPieceCache, 1),
        ];
        let others: u32 = servers.iter().map(|(_, count)| count).sum();
        let counts = servers.into_iter().chain([(Role::PlotClient, members - others)]).collect();
        heartbeats_per_s(&counts, &Liveness::default())
    };
    let (at_20, at_100, at_200) = (of(20), of(100), of(200));
    assert_eq!((at_20, at_100, at_200), (53.0, 493.0, 1043.0));
    assert_eq!((at_100 - at_20) / 80.0, (at_200 - at_100) / 100.0, "so many more for each plot-client");
    let everybody_hears_everybody = 200.0 * 200.0 / 2.0;
    assert!(at_200 * 10.0 < everybody_hears_everybody);
}

/// How many filters of `role` the key of `member` matches.
fn filters_for(role: Role, member: &str) -> usize {
    let key = format!("{member}.{}", id(1));
    entries_for(role).iter().filter(|filter| subject_matches(filter, &key)).count()
}

#[test]
fn who_serves_knows_all_who_may_connect_and_who_is_heard_is_known() {
    for role in Role::ALL {
        for heard in heartbeats_for(role) {
            assert_eq!(filters_for(role, heard.token()), 1, "{role} hears {heard}");
        }
        for member in Role::ALL.map(Role::token).into_iter().chain(["of-a-newer-release"]) {
            let asked = [Role::PlotServer, Role::ProofServer, Role::ShardedCache, Role::FullPieceCache];
            let expected = role != Role::PlotClient || asked.map(Role::token).contains(&member);
            assert_eq!(filters_for(role, member), usize::from(expected), "{role}: entry of {member}");
        }
    }
}

/// Each entry is heard once a refresh by all who need it: so many more for each plot-client, and no more among many.
#[test]
fn entries_grow_linearly_with_members() {
    let of = |members: u32| {
        let mut counts = BTreeMap::from([
            (Role::Controller, 3),
            (Role::ProofServer, 3),
            (Role::PlotServer, 4),
            (Role::ShardedCache, 3),
            (Role::FullPieceCache, 1),
        ]);
        counts.insert(Role::PlotClient, members - counts.values().sum::<u32>());
        let heard = |role| counts.iter().filter(move |(of, _)| filters_for(role, of.token()) > 0);
        let heard = |role| heard(role).map(|(_, count)| count).sum::<u32>();
        counts.iter().map(|(role, count)| count * heard(*role)).sum::<u32>()
    };
    let servers = 14 * 14;
    for members in [20, 100, 200, 1000] {
        assert_eq!(of(members), servers + (members - 14) * (14 + 11), "{members} members");
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let roles = [Role::PlotServer, Role::PlotClient, Role::Other(9)];
    let entry = (0u8..6, 0u64..3).prop_map(move |(n, capacity)| {
        let role = roles[usize::from(n) % roles.len()];
        Event::Entry(MemberEntry { capacity, ..entry(role, n) })
    });
    prop_oneof![
        4 => entry,
        1 => Just(Event::Replayed),
        1 => (0u8..6).prop_map(|n| Event::Left(id(n))),
        4 => (0u8..6).prop_map(|n| Event::Heartbeat(id(n))),
        6 => Just(Event::Tick { is_connected: true }),
        1 => Just(Event::Tick { is_connected: false }),
    ]
}

proptest! {
    /// Who is told only of those it needs says the same of them, at the same times, as one who is told of all.
    #[test]
    fn those_it_does_not_need_are_not_missed(
        events in prop::collection::vec((any_event(), 0u64..4000), 1..200),
    ) {
        let liveness = Liveness { refresh: SECOND * 10, ..Liveness::default() };
        let role = Role::PlotClient;
        let watcher = || Members::new(Some(heartbeats_for(role).to_vec()), liveness, Duration::ZERO);
        let (mut of_all, mut narrow, mut now) = (watcher(), watcher(), Duration::ZERO);
        // As `any_event` gives roles to ids.
        let is_needed = |id: InstanceId| id.0[0].is_multiple_of(3);
        for (event, wait_ms) in events {
            now += Duration::from_millis(wait_ms);
            let is_for_both = match &event {
                Event::Entry(entry) => {
                    prop_assert_eq!(is_needed(entry.id), filters_for(role, entry.role.token()) > 0);
                    is_needed(entry.id)
                }
                Event::Left(id) => is_needed(*id),
                Event::Heartbeat(_) | Event::Replayed | Event::Tick { .. } => true,
            };
            let is_about = |event: &MemberEvent| match event {
                MemberEvent::Listed(entry) | MemberEvent::Joined(entry) | MemberEvent::Updated(entry) => {
                    is_needed(entry.id)
                }
                MemberEvent::Unlisted(id) | MemberEvent::Suspect(id) | MemberEvent::Gone(id) => is_needed(*id),
            };
            let said: Vec<_> = of_all.on(event.clone(), now).into_iter().filter(is_about).collect();
            let said_by_narrow = if is_for_both { narrow.on(event, now) } else { Vec::new() };
            prop_assert_eq!(said, said_by_narrow);
        }
    }

    /// Any order of events at any times: what is told adds up to what the machine says, and nobody is blamed early.
    #[test]
    fn what_is_told_adds_up(events in prop::collection::vec((any_event(), 0u64..4000), 1..200)) {
        let liveness = Liveness { refresh: SECOND * 10, ..Liveness::default() };
        let mut members = Members::new(Some(vec![Role::PlotServer]), liveness, Duration::ZERO);
        let mut now = Duration::ZERO;
        let (mut present, mut listed) = (BTreeSet::new(), BTreeMap::new());
        let mut signs_of_life: BTreeMap<InstanceId, Duration> = BTreeMap::new();
        for (event, wait_ms) in events {
            now += Duration::from_millis(wait_ms);
            match &event {
                Event::Entry(entry) => drop(signs_of_life.insert(entry.id, now)),
                Event::Heartbeat(id) => drop(signs_of_life.insert(*id, now)),
                Event::Tick { is_connected: false } => signs_of_life.values_mut().for_each(|at| *at = now),
                _ => {}
            }
            let is_departure = matches!(event, Event::Left(_));
            for action in members.on(event, now) {
                match action {
                    MemberEvent::Listed(entry) => drop(listed.insert(entry.id, entry)),
                    MemberEvent::Unlisted(id) => prop_assert!(listed.remove(&id).is_some()),
                    MemberEvent::Joined(entry) => {
                        prop_assert_eq!(listed.get(&entry.id), Some(&entry), "listed before it joins");
                        present.insert(entry.id);
                    }
                    MemberEvent::Updated(entry) => prop_assert!(present.contains(&entry.id)),
                    MemberEvent::Suspect(id) => {
                        prop_assert!(present.contains(&id));
                        prop_assert!(now - signs_of_life[&id] >= liveness.suspect_after);
                    }
                    MemberEvent::Gone(id) => {
                        prop_assert!(present.remove(&id));
                        prop_assert!(is_departure || now - signs_of_life[&id] >= liveness.gone_after);
                    }
                }
            }
            let says: BTreeSet<_> = members.present().map(|(entry, _)| entry.id).collect();
            prop_assert_eq!(&says, &present);
            let says: BTreeMap<_, _> = members.listed().map(|entry| (entry.id, entry.clone())).collect();
            prop_assert_eq!(&says, &listed);
        }
    }
}
