//! New segments onto the controller's disk, into the caches and into the cluster's history: [`control::segments`] decides, this does it.
//!
//! ```text
//!   node: headers ─────────▶ ┌───────────┐ ─▶ fetch, verify ─▶ memory ─▶ spool
//!   caches present ────────▶ │ Segments  │ ─▶ place: spool or memory ─▶ caches; look: what they have
//!   lease, store's words ──▶ └───────────┘ ─▶ acknowledge ─▶ node; tell ─▶ store, settings
//! ```
//! Whatever takes time runs beside the loop, and nothing that the loop waits for is lost when something else is ready first.

mod look;
mod place;
mod words;

use std::time::Duration;

use bus::SharedBus;
use bus::cluster::{Cluster, OfSegments};
use control::lease::{LeaseKeeper, Standing};
use control::messages::Epoch;
use control::segments::{Action, Event, Note, SPOOL_SEGMENTS_MAX, Segments};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use node::SegmentHeaderJson;
use node::client::FeedEvent;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::context::Context;
use super::history::{Broken, HistoryError};
use super::lease;
use super::pieces::PieceError;
use super::settings::Known;
use crate::role::RoleError;
use consensus::segment::SegmentHeader;
pub use look::holdings_of;
use look::look;
use place::{Placed, Told, place};
use words::tell;

/// Pause before the node is asked for headers again.
const HEADERS_PAUSE: Duration = Duration::from_secs(1);
/// How often the store is looked over for commitments that it lacks.
const COMMITMENTS_EVERY: Duration = Duration::from_secs(2);
/// Events that wait for the loop.
const EVENTS_MAX: usize = 256;

/// What this part of a controller shares with the others.
pub struct Seams {
    /// The settings.
    pub known: Known,
    /// The epoch, once it was read.
    pub epoch: watch::Receiver<Option<Epoch>>,
}

/// The decisions, made before the settings are: what is in the spool bounds the history that may be told.
pub fn machine(id: control::ids::InstanceId, spooled: Vec<u64>) -> Segments {
    let mut machine = Segments::new(id, SPOOL_SEGMENTS_MAX, Duration::ZERO);
    // Nothing can be done before the rest is known; what follows comes with the next event.
    machine.on(Event::Found(spooled), Duration::ZERO);
    machine
}

/// Follows the node's segments until the node changes its chain, or the bus cannot be used.
pub async fn follow(context: &Context, machine: Segments, seams: &Seams) -> Result<(), RoleError> {
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let (standing, is_mine) = watch::channel(Standing::Unknown);
    let (store, is_open) = watch::channel(None);
    let keeper = LeaseKeeper::new(context.host.id(), crate::host::host_name());
    let told = Told::default();
    let work = Work {
        told: &told,
        context,
        seams,
        store: is_open,
        machine,
        start: Instant::now(),
        underway: FuturesUnordered::new(),
    };
    let bus = context.bus();
    tokio::select! {
        ended = hear_node(context, events.clone()).boxed() => ended.map_err(RoleError::own),
        ended = hear_store(bus, events.clone(), &store).boxed() => ended.map_err(Into::into),
        ended = keep_commitments(context, work.store.clone()).boxed() => ended,
        ended = lease::keep(bus, bus::leases::SEGMENTS, keeper, &standing).boxed() => ended.map_err(Into::into),
        () = work.run(inbox, is_mine).boxed() => Ok(()),
    }
}

/// The node's announcements, and how long its history is, with every header linked to the one before.
async fn hear_node(context: &Context, events: mpsc::Sender<Event>) -> Result<(), Broken> {
    // One past the newest segment that was announced.
    let (to_catch_up, mut catch_up) = watch::channel(0);
    let announce = async {
        let mut headers = context.node.archived_segment_headers();
        loop {
            let event = match headers.next().await {
                FeedEvent::Began => Event::Began,
                FeedEvent::Item(header) => announced(header),
                FeedEvent::Lost => continue,
            };
            let announced = if let Event::Announced(index) = event { index.saturating_add(1) } else { 0 };
            to_catch_up.send_modify(|newest| *newest = announced.max(*newest));
            if events.send(event).await.is_err() {
                return;
            }
        }
    };
    let history = async {
        loop {
            let announced = *catch_up.borrow_and_update();
            let connection = context.node.connected().await;
            match context.history.catch_up(&connection).await {
                Ok(()) => {
                    if events.send(Event::History(context.history.segments())).await.is_err() {
                        return Ok(());
                    }
                    // A node may announce a segment just before it gives its header out. The other end lives as long as this.
                    let is_behind = context.history.segments() < announced;
                    let pause = if is_behind { HEADERS_PAUSE } else { Duration::MAX };
                    let _ = tokio::time::timeout(pause, catch_up.changed()).await;
                }
                Err(HistoryError::Broken(broken)) => return Err(broken),
                Err(HistoryError::Node(error)) => {
                    tracing::warn!("{error}");
                    tokio::time::sleep(HEADERS_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = announce => Ok(()),
        ended = history => ended,
    }
}

fn announced(header: SegmentHeaderJson) -> Event {
    let SegmentHeader { segment_index, .. } = header.into();
    tracing::info!(segment_index, "the node archived a segment");
    Event::Announced(segment_index)
}

/// What the store says of segments. Opens it, however long that takes.
async fn hear_store(
    bus: &SharedBus,
    events: mpsc::Sender<Event>,
    store: &watch::Sender<Option<Cluster>>,
) -> Result<(), bus::BusError> {
    let cluster = Cluster::open(&**bus).await?;
    let mut words = cluster.watch_segments().await?;
    store.send_replace(Some(cluster));
    loop {
        let event = match words.next().await {
            OfSegments::Opened => Event::StoreOpened,
            OfSegments::Word(word) => Event::Store(word),
            OfSegments::Read => Event::StoreRead,
        };
        if events.send(event).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes the commitments of segments that the store lacks: all write them in order, so what is missing is at the end.
async fn keep_commitments(
    context: &Context,
    mut store: watch::Receiver<Option<Cluster>>,
) -> Result<(), RoleError> {
    let opened = store.wait_for(Option::is_some).await.ok().and_then(|cluster| cluster.clone());
    let Some(cluster) = opened else { return Ok(()) };
    loop {
        let segments = context.history.segments();
        let mut first = segments;
        while first > 0 && matches!(cluster.segment(first - 1).await, Ok(None)) {
            first -= 1;
        }
        for index in first..segments {
            let commitment = context.history.commitment(index).expect("below the number of segments");
            if cluster.put_segment(index, &commitment).await.is_err() {
                break;
            }
        }
        tokio::time::sleep(COMMITMENTS_EVERY).await;
    }
}

/// What an action came to.
type Done = Option<Event>;

struct Work<'a> {
    told: &'a Told,
    context: &'a Context,
    seams: &'a Seams,
    store: watch::Receiver<Option<Cluster>>,
    machine: Segments,
    start: Instant,
    underway: FuturesUnordered<BoxFuture<'a, Done>>,
}

impl<'a> Work<'a> {
    async fn run(mut self, mut inbox: mpsc::Receiver<Event>, mut lease: watch::Receiver<Standing>) {
        let mut present = self.context.host.present();
        let mut agreed = self.seams.known.agreed.clone();
        let mut caches = usize::MAX;
        loop {
            let wake = wake(self.machine.wake_at().map(|at| self.start + at));
            let event = tokio::select! {
                Some(event) = inbox.recv() => event,
                Some(done) = self.underway.next(), if !self.underway.is_empty() => match done {
                    Some(event) => event,
                    None => continue,
                },
                Ok(()) = lease.changed() => Event::Lease(*lease.borrow_and_update()),
                Ok(()) = agreed.changed() => {
                    let info = agreed.borrow_and_update().clone();
                    let Some(info) = info else { continue };
                    let segments = info.protocol_info.history_size;
                    Event::Store(control::segments::Word::Known(segments))
                }
                Ok(()) = present.changed() => {
                    present.borrow_and_update();
                    let count = self.context.caches();
                    if std::mem::replace(&mut caches, count) == count {
                        continue;
                    }
                    Event::Caches(count)
                }
                () = wake => Event::Tick,
                else => return,
            };
            self.act(event);
        }
    }

    fn act(&mut self, event: Event) {
        for action in self.machine.on(event, self.start.elapsed()) {
            if let Some(work) = self.work(action) {
                self.underway.push(work);
            }
        }
    }

    /// What takes time.
    fn work(&self, action: Action) -> Option<BoxFuture<'a, Done>> {
        let (context, told) = (self.context, self.told);
        Some(match action {
            Action::Fetch(index) => fetch(context, index).boxed(),
            Action::Spool(index) => spool(context, index).boxed(),
            Action::LetGo(index) => {
                context.pieces.let_go(index);
                return None;
            }
            Action::Delete(index) => async move {
                if let Err(error) = context.pieces.delete_segment(index).await {
                    tracing::warn!("{error}");
                }
                None
            }
            .boxed(),
            Action::Acknowledge(index) => acknowledge(context, index).boxed(),
            Action::Place(index) => {
                let epoch = self.seams.epoch.borrow().clone();
                async move {
                    Some(match place(context, index, epoch, told).await {
                        Placed::All => Event::Placed(index),
                        Placed::NotAll => Event::NotPlaced(index),
                        Placed::Damaged => Event::Damaged(index),
                    })
                }
                .boxed()
            }
            Action::Look(stretch) => {
                let epoch = self.seams.epoch.borrow().clone();
                async move { Some(look(context, stretch, epoch).await) }.boxed()
            }
            Action::Tell(word) => {
                let store = self.store.borrow().clone();
                tell(context, store, &self.seams.known, word).boxed()
            }
            Action::Note(note) => {
                tell_people(note);
                return None;
            }
        })
    }
}

/// Ready at that time; never if there is none.
async fn wake(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn fetch(context: &Context, index: u64) -> Done {
    Some(match context.pieces.fetch_segment(index).await {
        Ok(()) => Event::Fetched(index),
        Err(error) => {
            let is_gone = matches!(error, PieceError::NotAtHand(_));
            // Old segments are seldom at hand, and the caches have them from elsewhere.
            if is_gone {
                tracing::debug!(segment_index = index, "{error}");
            } else {
                tracing::warn!(segment_index = index, "a segment is not fetched yet: {error}");
            }
            Event::NotFetched { index, is_gone }
        }
    })
}

async fn spool(context: &Context, index: u64) -> Done {
    Some(match context.pieces.spool_segment(index).await {
        Ok(()) => {
            if context.pieces.disk_refuses(false) {
                tracing::info!(segment_index = index, "segments are kept again");
            }
            Event::Spooled(index)
        }
        Err(error) => {
            if !context.pieces.disk_refuses(true) {
                tracing::warn!(
                    segment_index = index,
                    "a segment cannot be kept, and is not acknowledged: {error}"
                );
            }
            Event::NotSpooled(index)
        }
    })
}

async fn acknowledge(context: &Context, index: u64) -> Done {
    let answer = match context.node.connection().await {
        Ok(connection) => connection.acknowledge_archived_segment_header(index).await,
        Err(error) => Err(error),
    };
    Some(match answer {
        Ok(()) => Event::Acknowledged(index),
        Err(error) => {
            tracing::debug!(segment_index = index, "not acknowledged yet: {error}");
            Event::NotAcknowledged(index)
        }
    })
}

fn tell_people(note: Note) {
    match note {
        Note::SpoolIsFull => tracing::warn!(
            segments = SPOOL_SEGMENTS_MAX,
            "no more segments are fetched: those here wait for a cache; start sharded-cache or full-piece-sharded-cache"
        ),
        Note::SpoolHasRoom => tracing::info!("segments are fetched again"),
        Note::Missing(index) => tracing::error!(
            segment_index = index,
            "the node does not have this segment any more, and nobody else says that he holds it: sectors are made without what comes after it \
             until a controller is connected to a node that still has it (--node-rpc-url; a development node: --all-pieces)"
        ),
    }
}
