//! A controller's part in what the cluster keeps: segments, who fetches them, settings, owners. The machines and their translation; what
//! takes time is the world's.

use super::around::{Around, Asked};
use super::disk::Change;
use super::kept::{CLUSTER, INFO, decode, held, own, word};
use super::looking::Looking;
use super::member::{Expect, Id, Input, NodeAnswer, NodeInput, Output, WriteError};
use super::mutant::Mutant;
use super::recall::Recall;
use bytes::Bytes;
use control::ids::InstanceId;
use control::lease::{self, LeaseKeeper, Standing};
use control::messages::{
    ClusterInfo, Control, Epoch, Lease, Role, SegmentHeld, SegmentPlaced, SettingsWanted, subjects,
};
use control::segments::{Action, Event, SPOOL_SEGMENTS_MAX, Segments, Tell, Word};
use control::settings::{self, Settings};
use control::store::{Found, Wrote};
use control::{epochs, store};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub const LEASES: &str = "leases";
pub const EPOCHS: &str = "epochs";
const SEGMENTS: &str = "segments";
pub const CURRENT: &str = "current";
/// Pause before the node is asked for its headers again.
const HEADERS_PAUSE: Duration = Duration::from_secs(1);
/// How long the settings may take to tell of a longer history.
const HISTORY_PATIENCE: Duration = Duration::from_secs(10);

pub struct Keeping {
    me: InstanceId,
    segments: Segments,
    lease: LeaseKeeper,
    standing: Standing,
    /// What the node says, but for its history.
    own: ClusterInfo,
    /// Once the node has said how long its history is.
    settings: Option<Settings>,
    /// On disk, from an earlier run.
    remembered: Option<u64>,
    recall: Recall,
    epochs: epochs::Epochs,
    epoch: Option<Epoch>,
    look_at_epoch: Duration,
    caches: usize,
    asked: BTreeMap<Id, Asked>,
    looking: Option<Looking>,
    history_at: Option<Duration>,
    /// A longer history that the settings are to tell of, and until when they are waited for.
    history_told: Option<(u64, Duration)>,
    mutant: Option<Mutant>,
}

fn new_epochs(copies: Option<u8>) -> epochs::Epochs {
    epochs::Epochs::new(Duration::from_secs(900), copies)
}

impl Keeping {
    pub fn new(me: InstanceId, spooled: Vec<u64>, remembered: Option<u64>, mutant: Option<Mutant>) -> Self {
        Self::of_chain(me, own(1), spooled, remembered, mutant)
    }

    /// One that was told how many copies of each piece there are to be.
    pub fn with_copies(self, copies: Option<u8>) -> Self {
        Self { epochs: new_epochs(copies), ..self }
    }

    /// One whose node has these rules.
    pub fn of_chain(
        me: InstanceId,
        own: ClusterInfo,
        spooled: Vec<u64>,
        remembered: Option<u64>,
        mutant: Option<Mutant>,
    ) -> Self {
        let mut segments = Segments::new(me, SPOOL_SEGMENTS_MAX, Duration::ZERO);
        segments.on(Event::Found(spooled), Duration::ZERO);
        Self {
            me,
            segments,
            lease: LeaseKeeper::new(me, "host".to_owned()),
            standing: Standing::Unknown,
            own,
            settings: None,
            remembered: remembered.filter(|_| mutant != Some(Mutant::NobodyRemembers)),
            recall: Recall::default(),
            epochs: new_epochs(None),
            epoch: None,
            look_at_epoch: Duration::ZERO,
            caches: 0,
            asked: BTreeMap::new(),
            looking: None,
            history_at: None,
            history_told: None,
            mutant,
        }
    }

    /// History as the cluster has agreed on it, as far as is known here.
    pub fn agreed(&self) -> Option<u64> {
        self.settings.as_ref()?.agreed().map(|info| info.protocol_info.history_size)
    }

    /// What it tells of the settings.
    pub fn knows(&self) -> Option<u64> {
        self.recall.history()
    }

    pub fn wake_at(&self) -> Option<Duration> {
        let told = self.history_told.map(|(_, until)| until);
        let all = [self.segments.wake_at(), self.lease.wake_at(), self.settings_at(), self.history_at, told];
        all.into_iter().flatten().chain([self.look_at_epoch]).min()
    }

    fn settings_at(&self) -> Option<Duration> {
        let is_kept = self.mutant != Some(Mutant::SettingsOnlyAtStart) || self.agreed().is_none();
        self.settings.as_ref().and_then(Settings::wake_at).filter(|_| is_kept)
    }

    pub fn on(&mut self, input: &Input, around: &mut Around) {
        self.recall.on(input, false, around.out);
        match input {
            Input::Start => {
                around.out.push(Output::Subscribe(subjects::settings_known(self.me)));
                around.out.push(Output::KvWatch { bucket: CLUSTER, filters: vec![">".to_owned()] });
                self.segments(Event::StoreOpened, around);
            }
            Input::Message { payload, reply_to: None, .. } if self.mutant != Some(Mutant::NobodyTells) => {
                if let Ok(info) = ClusterInfo::from_bytes(payload) {
                    self.settings(settings::Event::Told(info), around);
                }
            }
            Input::Node(input) => self.node(input, around),
            Input::Kv { bucket: CLUSTER, key, value, .. } => {
                if let Some(word) = word(key, value.as_ref()) {
                    self.segments(Event::Store(word), around);
                }
            }
            Input::KvReady { bucket: CLUSTER } => self.segments(Event::StoreRead, around),
            Input::KvRenewed { bucket: CLUSTER } => self.segments(Event::StoreOpened, around),
            Input::KvGot { id, result } => self.got(*id, result, around),
            Input::KvWritten { id, result } => self.written(*id, *result, around),
            Input::Answer { id, result } => {
                if let Some(looking) = &mut self.looking {
                    looking.answered(*id, result);
                    self.looked_for(around);
                }
            }
            Input::Done { id } => self.done(*id, true, around),
            Input::Failed { id } => self.done(*id, false, around),
            _ => {}
        }
        self.go_on(around);
    }

    fn node(&mut self, input: &NodeInput, around: &mut Around) {
        match input {
            NodeInput::Began { .. } => {
                self.ask_history(around);
                self.segments(Event::Began, around);
            }
            NodeInput::Archived { segment } => {
                self.ask_history(around);
                if self.mutant == Some(Mutant::AcknowledgedAtOnce)
                    && let Some(connection) = around.connection
                {
                    around.out.push(Output::Acknowledge { connection, segment: *segment });
                }
                if self.mutant == Some(Mutant::HistoryBeforePlaced) {
                    self.settings(settings::Event::Placed(*segment + 1), around);
                }
                self.segments(Event::Announced(*segment), around);
            }
            NodeInput::Answered { id, answer } => {
                let Some(asked) = self.asked.remove(id) else { return };
                match (asked, answer) {
                    (Asked::History, NodeAnswer::History(segments)) => self.history(*segments, around),
                    (Asked::History, _) => self.history_at = Some(around.now + HEADERS_PAUSE),
                    (Asked::Fetched(index), NodeAnswer::Pieces) => {
                        self.segments(Event::Fetched(index), around);
                    }
                    (Asked::Fetched(index), answer) => {
                        let is_gone = *answer == NodeAnswer::NoPieces;
                        self.segments(Event::NotFetched { index, is_gone }, around);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn ask_history(&mut self, around: &mut Around) {
        self.history_at = None;
        let id = around.id();
        self.asked.insert(id, Asked::History);
        around.out.push(Output::History { id });
    }

    fn history(&mut self, segments: u64, around: &mut Around) {
        if self.settings.is_none() {
            let (mut node, remembered) = (self.own.clone(), self.remembered.map(own));
            node.protocol_info.history_size = segments;
            self.settings = Some(Settings::new(node, self.segments.first_unplaced(), remembered.as_ref()));
        }
        self.segments(Event::History(segments), around);
    }

    // ── machines ──

    fn segments(&mut self, event: Event, around: &mut Around) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.segments.on(event, around.now) {
                events.extend(self.act(action, around));
            }
        }
    }

    fn act(&mut self, action: Action, around: &mut Around) -> Option<Event> {
        let id = around.id();
        match action {
            Action::Fetch(segment) => {
                self.asked.insert(id, Asked::Fetched(segment));
                around.out.push(Output::Fetch { id, segment });
            }
            Action::Spool(segment) => {
                self.asked.insert(id, Asked::Spooled(segment));
                let (takes, change) = (Duration::from_millis(300), Change::Spool(segment));
                around.out.push(Output::Write { id, takes, change });
            }
            Action::Delete(segment) => {
                self.asked.insert(id, Asked::Deleted);
                let (takes, change) = (Duration::from_millis(20), Change::Unspool(segment));
                around.out.push(Output::Write { id, takes, change });
            }
            Action::LetGo(_) => {}
            Action::Acknowledge(segment) => {
                let Some(connection) = around.connection else {
                    return Some(Event::NotAcknowledged(segment));
                };
                around.out.push(Output::Acknowledge { connection, segment });
                return Some(Event::Acknowledged(segment));
            }
            Action::Place(segment) => {
                self.asked.insert(id, Asked::Placed(segment));
                let epoch = self.known_epoch();
                let full = around.presence.present(Role::FullPieceCache).map(|entry| entry.id);
                let sharded = around.presence.present(Role::ShardedCache).map(|entry| entry.id);
                let (full, sharded) = (full.collect(), sharded.collect());
                around.out.push(Output::Place { id, segment, epoch, full, sharded });
            }
            Action::Look(stretch) if self.mutant == Some(Mutant::NeverLooks) => {
                return Some(Event::Seen { stretch, placed: Vec::new() });
            }
            Action::Look(stretch) => {
                let (epoch, is_content) =
                    (self.known_epoch(), self.mutant == Some(Mutant::ContentWithOnePiece));
                let Around { ids, out, presence, .. } = around;
                let looking = Looking::begin(stretch, &epoch, presence, is_content, ids, out);
                let ended = looking.ended();
                self.looking = Some(looking).filter(|_| ended.is_none());
                return ended;
            }
            Action::Tell(tell) => self.tell(id, tell, around),
            Action::Note(note) => around.out.push(Output::Say(format!("{note:?}"))),
        }
        None
    }

    fn known_epoch(&self) -> Epoch {
        self.epoch.clone().unwrap_or_else(Epoch::nobody)
    }

    fn looked_for(&mut self, around: &mut Around) {
        if let Some(event) = self.looking.as_ref().and_then(Looking::ended) {
            self.looking = None;
            self.segments(event, around);
        }
    }

    fn tell(&mut self, id: Id, tell: Tell, around: &mut Around) {
        let controller = self.me;
        let (key, value) = match tell {
            Tell::Held(index) => (held(index), SegmentHeld { controller }.to_bytes()),
            Tell::Placed(index) => (format!("placed.{index}"), SegmentPlaced { epoch: 1 }.to_bytes()),
            Tell::NotHeld(index) => {
                self.asked.insert(id, Asked::Withdrawn(index));
                let (bucket, key) = (CLUSTER, held(index));
                return around.out.push(Output::KvGet { id, bucket, key });
            }
            Tell::History(segments) => {
                self.history_told = Some((segments, around.now + HISTORY_PATIENCE));
                return self.settings(settings::Event::Placed(segments), around);
            }
        };
        self.asked.insert(id, Asked::Told(tell));
        let (bucket, value, expect) = (CLUSTER, Some(value.unwrap()), Expect::Any);
        around.out.push(Output::KvWrite { id, bucket, key, value, expect });
    }

    fn settings(&mut self, event: settings::Event, around: &mut Around) {
        let Some(machine) = &mut self.settings else { return };
        for action in machine.on(event, around.now) {
            match action {
                settings::Action::Read => self.read(Asked::Settings, CLUSTER, INFO, around),
                settings::Action::Write { info, expect } => {
                    self.write(Asked::Settings, (CLUSTER, INFO), info.to_bytes().unwrap(), expect, around);
                }
                settings::Action::Ask => {
                    let payload = SettingsWanted { controller: self.me }.to_bytes().unwrap();
                    let subject = subjects::SETTINGS_WANTED.to_owned();
                    around.out.push(Output::Publish { subject, payload });
                }
                settings::Action::Agreed(info) => {
                    self.recall.learn(info.clone());
                    self.remember(info.protocol_info.history_size, around);
                    let known = info.protocol_info.history_size;
                    around.out.push(Output::Say(format!("the cluster's history has {known} segments")));
                    self.segments(Event::Store(Word::Known(known)), around);
                }
                settings::Action::Emptied => around.out.push(Output::Say("settings were lost".to_owned())),
                settings::Action::Unreadable | settings::Action::Listening => {}
                settings::Action::Refused(refusal) => around.out.push(Output::Exit(format!("{refusal:?}"))),
            }
        }
    }

    fn remember(&mut self, history: u64, around: &mut Around) {
        let (id, takes, change) = (around.id(), Duration::from_millis(20), Change::Remember(history));
        around.out.push(Output::Write { id, takes, change });
    }

    fn lease(&mut self, event: lease::Event, around: &mut Around) {
        for action in self.lease.on(event, around.now) {
            match action {
                lease::Action::Read => self.read(Asked::Lease, LEASES, SEGMENTS, around),
                lease::Action::Write { lease, expect } => {
                    self.write(Asked::Lease, (LEASES, SEGMENTS), lease.to_bytes().unwrap(), expect, around);
                }
            }
        }
    }

    fn read(&mut self, asked: Asked, bucket: &'static str, key: &str, around: &mut Around) {
        let id = around.id();
        self.asked.insert(id, asked);
        around.out.push(Output::KvGet { id, bucket, key: key.to_owned() });
    }

    fn write(
        &mut self,
        asked: Asked,
        (bucket, key): (&'static str, &str),
        value: Bytes,
        expect: store::Expect,
        around: &mut Around,
    ) {
        let (id, key, value) = (around.id(), key.to_owned(), Some(value));
        self.asked.insert(id, asked);
        let expect = match expect {
            _ if self.mutant == Some(Mutant::SettingsWrittenBlindly) && asked == Asked::Settings => {
                Expect::Any
            }
            store::Expect::Absent => Expect::Absent,
            store::Expect::Revision(revision) => Expect::Revision(revision),
        };
        around.out.push(Output::KvWrite { id, bucket, key, value, expect });
    }

    // ── answers ──

    fn got(&mut self, id: Id, result: &Result<Option<(Bytes, u64)>, ()>, around: &mut Around) {
        match (self.asked.remove(&id), result) {
            (Some(Asked::Lease), Ok(found)) => self.lease(lease::Event::Read(decode::<Lease>(found)), around),
            (Some(Asked::Lease), Err(())) => self.lease(lease::Event::NotRead, around),
            (Some(Asked::Settings), Ok(found)) => {
                self.settings(settings::Event::Read(decode::<ClusterInfo>(found)), around);
            }
            (Some(Asked::Settings), Err(())) => self.settings(settings::Event::NotRead, around),
            (Some(Asked::Epoch), Ok(found)) => self.looked(&decode::<Epoch>(found), around),
            (Some(Asked::Withdrawn(index)), Ok(found)) => self.withdraw(index, found.as_ref(), around),
            (Some(Asked::Withdrawn(index)), Err(())) => {
                self.segments(Event::NotTold(Tell::NotHeld(index)), around);
            }
            _ => {}
        }
    }

    fn withdraw(&mut self, index: u64, found: Option<&(Bytes, u64)>, around: &mut Around) {
        let tell = Tell::NotHeld(index);
        let is_mine =
            |value: &Bytes| SegmentHeld::from_bytes(value).is_ok_and(|held| held.controller == self.me);
        match found.filter(|(value, _)| is_mine(value)) {
            Some((_, revision)) => {
                let (id, key, expect) = (around.id(), held(index), Expect::Revision(*revision));
                self.asked.insert(id, Asked::Told(tell));
                around.out.push(Output::KvWrite { id, bucket: CLUSTER, key, value: None, expect });
            }
            None => self.segments(Event::Told(tell), around),
        }
    }

    fn looked(&mut self, found: &Found<Epoch>, around: &mut Around) {
        if let Found::Value(epoch, _) = found {
            self.epoch = Some(epoch.clone());
        }
        let caches = around.presence.present(Role::ShardedCache).map(|entry| (entry.id, entry.capacity));
        let looked = self.epochs.looked(found, &caches.collect(), around.now);
        if let Some(epochs::Action::Write { epoch, expect }) = looked {
            self.write(Asked::Epoch, (EPOCHS, CURRENT), epoch.to_bytes().unwrap(), expect, around);
        }
    }

    fn written(&mut self, id: Id, result: Result<u64, WriteError>, around: &mut Around) {
        let wrote = match result {
            Ok(revision) => Wrote::Done(revision),
            Err(WriteError::Conflict) => Wrote::Conflict,
            Err(_) => Wrote::Unknown,
        };
        match self.asked.remove(&id) {
            Some(Asked::Lease) => self.lease(lease::Event::Wrote(wrote), around),
            Some(Asked::Settings) => self.settings(settings::Event::Wrote(wrote), around),
            Some(Asked::Epoch) if matches!(wrote, Wrote::Done(_)) => self.epochs.wrote(),
            Some(Asked::Told(tell)) => {
                let is_told = matches!(wrote, Wrote::Done(_));
                self.segments(if is_told { Event::Told(tell) } else { Event::NotTold(tell) }, around);
            }
            _ => {}
        }
    }

    fn done(&mut self, id: Id, is_good: bool, around: &mut Around) {
        let event = match self.asked.remove(&id) {
            Some(Asked::Spooled(index)) => Event::Spooled(index),
            Some(Asked::Placed(index)) if is_good || self.mutant == Some(Mutant::PlacedOnceTried) => {
                Event::Placed(index)
            }
            Some(Asked::Placed(index)) => Event::NotPlaced(index),
            _ => return,
        };
        self.segments(event, around);
    }

    /// What is due, whatever has happened.
    fn go_on(&mut self, around: &mut Around) {
        let now = around.now;
        if self.history_at.is_some_and(|at| at <= now) {
            self.history_at = Some(now + HEADERS_PAUSE);
            if around.connection.is_some() {
                self.ask_history(around);
            }
        }
        if self.lease.wake_at().is_some_and(|at| at <= now) {
            self.lease(lease::Event::Tick, around);
        }
        if self.settings_at().is_some_and(|at| at <= now) {
            self.settings(settings::Event::Tick, around);
        }
        if self.look_at_epoch <= now {
            self.look_at_epoch = now + epochs::LOOK_EVERY;
            self.read(Asked::Epoch, EPOCHS, CURRENT, around);
        }
        if let Some((segments, until)) = self.history_told {
            let is_told = self.agreed().is_some_and(|known| known >= segments);
            if is_told || now >= until {
                self.history_told = None;
                let tell = Tell::History(segments);
                self.segments(if is_told { Event::Told(tell) } else { Event::NotTold(tell) }, around);
            }
        }
        let standing = self.lease.standing(now);
        if std::mem::replace(&mut self.standing, standing) != standing {
            self.segments(Event::Lease(standing), around);
        }
        let of = |role| around.presence.present(role).count();
        let caches = of(Role::ShardedCache) + of(Role::FullPieceCache);
        if std::mem::replace(&mut self.caches, caches) != caches {
            self.segments(Event::Caches(caches), around);
        }
        if self.segments.wake_at().is_some_and(|at| at <= now) {
            self.segments(Event::Tick, around);
        }
    }
}
