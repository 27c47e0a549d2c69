//! The runner of [`Refill`]: a cache gets what it should hold from others, and lets go what is theirs.
//!
//! ```text
//!   epochs, settings, members, the store's losses ─▶ Refill ─▶ Pull ─▶ one member after the other ─▶ store
//!                                                       ├────▶ Ask ─▶ holdings of an owner
//!                                                       └────▶ LetGo ─▶ store
//! ```
//! Pulls keep to a pace ([`Pace`]), and a member that does not answer is passed over for a while.

use super::calls::{Arrived, Call, Calls};
use crate::host::{Host, HostReply};
use crate::pieces::{patience, peers};
use crate::silence::Silences;
use crate::wrong;
use consensus::piece_set::PieceSet;
use control::ids::InstanceId;
use control::messages::{self, ClusterInfo, Control, Epoch, HoldingsAnswer, HoldingsRequest, Role, subjects};
use control::refill::{Action, Event, Kind, Pace, Progress, Pulled, Refill};
use engine::piece_store::SLOT_BYTES;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, interval, sleep, sleep_until};
use transport::message::{ItemKind, Layout, RefusalCode, Request, Response};

/// An answer about holdings takes no look at a disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a store that is not open yet is asked again.
const OPEN_PAUSE: Duration = Duration::from_millis(200);
/// Pieces that are removed from the disk at once.
const REMOVED_AT_ONCE: usize = 8;
/// How often a controller that rebuilds a piece is asked whether it has it, and for how long.
const REBUILT_PAUSE: Duration = Duration::from_secs(2);
const REBUILT_WITHIN: Duration = Duration::from_secs(180);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// What a cache's loop works with.
#[derive(Clone)]
pub struct Refilling {
    /// The member.
    pub host: Host,
    /// Its store.
    pub calls: Calls,
    /// Which pieces it is for.
    pub kind: Kind,
    /// Told when a piece was found to be lost.
    pub lost: Arc<Notify>,
    /// Bytes a second, or half of what the link gives.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Hands over what it has, and ends.
    pub drain: bool,
}

/// One that runs.
struct Running {
    of: Refilling,
    machine: Refill,
    started: Instant,
    pace: Arc<Mutex<Pace>>,
    silences: Silences,
    /// Places for removals.
    letting_go: Arc<Semaphore>,
    settings: watch::Receiver<Option<ClusterInfo>>,
    epochs: watch::Receiver<Option<Epoch>>,
    work: FuturesUnordered<BoxFuture<'static, Option<Event>>>,
    teller: Teller,
}

impl Refilling {
    /// Refills for as long as the cache runs; one that drains is ready when it has handed over all.
    pub async fn run(
        self,
        settings: watch::Receiver<Option<ClusterInfo>>,
        epochs: watch::Receiver<Option<Epoch>>,
    ) {
        let machine = Refill::new(self.host.id(), self.kind);
        let pace = Arc::new(Mutex::new(Pace::new(self.bandwidth_bytes_per_s)));
        let (silences, work, teller) = Default::default();
        let started = Instant::now();
        let of = self;
        let letting_go = Arc::new(Semaphore::new(REMOVED_AT_ONCE));
        Running { of, machine, started, pace, silences, letting_go, settings, epochs, work, teller }
            .run()
            .await;
    }
}

impl Running {
    async fn run(mut self) {
        let mut present = self.of.host.present();
        let mut telling = interval(TELL_EVERY);
        // What is known already is heard first.
        self.settings.mark_changed();
        self.epochs.mark_changed();
        present.mark_changed();
        while !self.is_drained() {
            let wake_at = self.machine.wake_at().map(|at| self.started + at);
            let event = tokio::select! {
                Ok(()) = self.settings.changed() => self.history(),
                Ok(()) = self.epochs.changed() => self.epochs.borrow_and_update().clone().map(Event::Epoch),
                Ok(()) = present.changed() => Some(Event::Peers(peers(&present.borrow_and_update()))),
                () = self.of.lost.notified() => Some(Event::Lost),
                Some(event) = self.work.next() => event,
                () = sleep_until(wake_at.unwrap_or(self.started)), if wake_at.is_some() => Some(Event::Tick),
                _ = telling.tick() => {
                    self.teller.tell(self.machine.progress(), self.machine.is_settled());
                    if self.of.drain {
                        self.teller.tell_kept(self.machine.kept());
                    }
                    None
                }
            };
            let Some(event) = event else { continue };
            for action in self.machine.on(event, self.started.elapsed()) {
                let work = self.carry_out(action);
                self.work.push(work);
            }
            self.teller.note(self.machine.progress(), self.machine.is_settled());
        }
        tracing::info!("drained: what it held is with its owners; this cache may be taken away");
    }

    fn history(&mut self) -> Option<Event> {
        let info = self.settings.borrow_and_update();
        info.as_ref().map(|info| Event::History(info.protocol_info.history_size))
    }

    /// Whether it was to hand over what it had, and has.
    fn is_drained(&self) -> bool {
        let me = self.of.host.id();
        let owns_nothing =
            |epoch: &Epoch| epoch.members.iter().all(|member| member.id != me || member.weight == 0);
        let is_empty = self.machine.is_settled() && self.machine.progress().held == 0;
        self.of.drain && is_empty && self.machine.epoch().is_some_and(owns_nothing)
    }

    fn carry_out(&self, action: Action) -> BoxFuture<'static, Option<Event>> {
        let of = self.of.clone();
        match action {
            Action::Look => async move {
                loop {
                    match of.calls.make(Call::Look).await? {
                        Some(held) => return Some(Event::Held(held)),
                        None => sleep(OPEN_PAUSE).await,
                    }
                }
            }
            .boxed(),
            Action::Pull { index, from } => {
                let pull = Pull {
                    of,
                    pace: self.pace.clone(),
                    silences: self.silences.clone(),
                    started: self.started,
                };
                async move { Some(Event::Pulled { index, pulled: pull.pull(index, from).await }) }.boxed()
            }
            Action::Ask { owner, from_segment, segments } => {
                let genesis_hash = self.settings.borrow().as_ref().map(|info| info.genesis_hash);
                let lets_go_by = self.machine.fingerprint();
                async move {
                    let genesis_hash = genesis_hash?;
                    let request = HoldingsRequest { genesis_hash, from_segment, segments, lets_go_by };
                    let asked_at = Instant::now();
                    let mut pieces = ask(&of.host, owner, request).await;
                    if asked_at.elapsed() > ANSWER_TIMEOUT + OPEN_PAUSE {
                        // This process was stopped meanwhile, and who knows what the other has now.
                        pieces.clear();
                    }
                    Some(Event::Holds { owner, from_segment, pieces })
                }
                .boxed()
            }
            Action::LetGo { index } => {
                let (by, places) = (self.machine.fingerprint(), self.letting_go.clone());
                async move {
                    let (_place, by) = (places.acquire().await.ok()?, by?);
                    if let Err(error) = of.calls.make(|done| Call::Remove(index, by, done)).await? {
                        tracing::warn!("{error}");
                    }
                    None
                }
                .boxed()
            }
        }
    }
}

/// Which pieces of these segments a cache has. One that does not answer, or answers something else, has none.
async fn ask(host: &Host, cache: InstanceId, request: HoldingsRequest) -> Vec<PieceSet> {
    let answer = async {
        let bytes = request.to_bytes().ok()?;
        let answer = host.bus().request(&subjects::holdings(cache), bytes, ANSWER_TIMEOUT).await.ok()?;
        HoldingsAnswer::from_bytes(&answer).ok()
    };
    match answer.await {
        Some(HoldingsAnswer::Held { pieces, .. }) if pieces.len() <= usize::from(request.segments) => {
            pieces.into_iter().map(PieceSet::from_bytes).collect()
        }
        _ => Vec::new(),
    }
}

/// What became of a request for a piece.
enum Asked {
    Gave(Arrived),
    NotYet,
    Not,
}

/// What one pull works with.
struct Pull {
    of: Refilling,
    pace: Arc<Mutex<Pace>>,
    silences: Silences,
    started: Instant,
}

impl Pull {
    async fn pull(&self, index: u64, from: Vec<InstanceId>) -> Pulled {
        // A controller may have brought it meanwhile.
        if self.of.calls.make(|done| Call::Has(index, done)).await == Some(true) {
            return Pulled::Stored;
        }
        for peer in from {
            let give_up_at = Instant::now() + REBUILT_WITHIN;
            while !self.silences.is_silent(peer) {
                match self.ask(peer, index).await {
                    Asked::Gave(arrived) => return self.store(arrived).await,
                    // It is being rebuilt there, and need not be anywhere else.
                    Asked::NotYet if Instant::now() < give_up_at => sleep(REBUILT_PAUSE).await,
                    Asked::NotYet => return Pulled::Nobody,
                    Asked::Not => break,
                }
            }
        }
        Pulled::Nobody
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, peer: InstanceId, index: u64) -> Asked {
        let bytes = SLOT_BYTES as u64;
        let at = self.pace().take(bytes, self.started.elapsed());
        sleep_until(self.started + at).await;
        let Some(role) = self.of.host.present().borrow().get(&peer).map(|entry| entry.role) else {
            return Asked::Not;
        };
        let (request, nothing) =
            (Request::GetItem { index, kind: ItemKind::Piece }, Layout::Run { phase: 0 });
        let asked = self.of.host.request(peer, request, Vec::new(), nothing, patience(&role)).await;
        let begins = self.silences.note(peer, &asked);
        wrong::tell(&self.of.host, (messages::ItemKind::Piece, index), &asked, begins).await;
        let error = match asked {
            Ok(HostReply { response: Response::Item { blake3 }, payload: Some(slab) }) => {
                self.pace().came(bytes, self.started.elapsed());
                return Asked::Gave(Arrived { index, blake3, slab });
            }
            Ok(_) => return Asked::Not,
            Err(error) => error,
        };
        tracing::debug!(index, "piece: {error}");
        self.pace().give_back(bytes);
        match error.refusal() {
            Some(RefusalCode::NotReady) if role == Role::Controller => Asked::NotYet,
            _ => Asked::Not,
        }
    }

    async fn store(&self, arrived: Arrived) -> Pulled {
        match self.of.calls.make(|done| Call::Put(arrived, done)).await {
            Some(Ok(())) => Pulled::Stored,
            Some(Err(error)) => {
                tracing::debug!("piece not stored: {error}");
                Pulled::NotTaken
            }
            None => Pulled::NotTaken,
        }
    }
}

/// Tells how far it is.
#[derive(Default)]
struct Teller {
    began: Option<Instant>,
    has_told: bool,
    nowhere_told: u64,
    not_taken_told: u64,
    kept_told: u64,
}

impl Teller {
    /// After each event: notes when something begins, and tells when all is done.
    fn note(&mut self, progress: Progress, is_settled: bool) {
        let is_working = !is_settled && !progress.is_done();
        match self.began {
            None if is_working => self.began = Some(Instant::now()),
            Some(began) if is_settled => {
                let (pulled, let_go) = (progress.pulled, progress.let_go);
                if pulled + let_go > 0 || self.has_told {
                    let seconds = began.elapsed().as_secs();
                    tracing::info!(pulled, let_go, seconds, "the cache holds what it should");
                }
                *self = Self::default();
            }
            _ => {}
        }
    }

    /// Now and then while there is something to do.
    fn tell(&mut self, progress: Progress, is_settled: bool) {
        let Progress { lacking, pulled, nowhere, not_taken, surplus, let_go, .. } = progress;
        let Some(began) = self.began.filter(|_| !is_settled && !progress.is_done()) else { return };
        self.has_told = true;
        if not_taken > 0 && std::mem::replace(&mut self.not_taken_told, not_taken) != not_taken {
            tracing::warn!(
                "there is no room for {not_taken} pieces that this cache should hold: give it more with size=, or start another cache"
            );
        }
        if pulled == 0 && lacking == not_taken && surplus == let_go {
            return;
        }
        let minutes = began.elapsed().as_secs_f64() / 60.0 * (lacking - pulled) as f64 / pulled.max(1) as f64;
        tracing::info!(
            nowhere,
            not_taken,
            surplus,
            let_go,
            "filled {pulled} of {lacking}, {:.0} min",
            minutes.ceil()
        );
        if nowhere > 0 && std::mem::replace(&mut self.nowhere_told, nowhere) != nowhere {
            tracing::warn!(
                "{nowhere} pieces are with no cache, and no controller has them or can rebuild them now: asked for again until they are there"
            );
        }
    }

    /// What a cache that drains waits for, each time that it is something else.
    fn tell_kept(&mut self, kept: u64) {
        if kept > 0 && std::mem::replace(&mut self.kept_told, kept) != kept {
            tracing::warn!(
                "{kept} pieces stay here until their owners have them, and so does this cache: if an owner does not come back, \
                 `util reinitialization-cache` gives its share to the others"
            );
        }
    }
}
