//! Where a piece comes from, for whoever needs one.
//!
//! ```text
//!   owners of the piece in this epoch ─▶ full-piece caches ─▶ other caches ─▶ controllers (their node) ─▶ pause, and again
//! ```
//! Owns: the order of asking. Never: when to give up, or what is in a piece, which was verified in full when it came into the
//! cluster, and its hash, checked by the host, travels with it.

use std::sync::Arc;
use std::time::Duration;

use engine::pool::Slab;
use tokio::sync::watch;
use transport::message::{self, Blake3Hash, Layout, RefusalCode, Request, Response};

use crate::host::{Host, HostError, Present};
use crate::nearness::{distance, nearest_first};
use crate::silence::Silences;
use crate::wrong;
use bus::BusError;
use bus::epochs::Epochs;
use control::ids::InstanceId;
use control::messages::{Epoch, ItemKind, Role};
use control::refill::{Peers, sources};
use control::rendezvous::Owners;

/// A cache answers from its disk.
const CACHE_TIMEOUT: Duration = Duration::from_secs(10);
/// A controller asks its node and verifies before it answers.
const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after the first round in vain; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between rounds.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Rounds in vain before the log says so, and then each time as many again.
const ROUNDS_TO_LOG: u32 = 8;

/// Gets pieces from the cluster; clones share what they know.
#[derive(Clone)]
pub struct PieceSource {
    pub(crate) host: Host,
    owners: watch::Receiver<Arc<Owners>>,
    prefer_near: bool,
    silences: Silences,
    /// Making parity takes longer than giving a piece: who is slow there is not so here.
    pub(crate) parity_silences: Silences,
}

/// A piece that was given.
pub struct Given {
    /// Laid out as [`Layout::Piece`].
    pub slab: Slab,
    /// Its BLAKE3, checked.
    pub blake3: Blake3Hash,
    /// Who gave it.
    pub from: InstanceId,
    /// Members that were asked before, in vain.
    pub in_vain: u32,
}

/// Why nobody gave a piece.
#[derive(Debug, thiserror::Error)]
pub enum NotGiven {
    /// Nobody is there to be asked.
    #[error("no cache and no controller is present")]
    Nobody,
    /// Nobody who has answered lately.
    #[error("those who may have it did not answer their last requests")]
    Silent,
    /// What the last one answered.
    #[error(transparent)]
    Last(#[from] HostError),
}

impl PieceSource {
    /// Starts to follow the epochs. `prefer_near`: of the caches that should have a piece, those of the same machine and then of the
    /// same group are asked first (`--priority-cache`).
    pub async fn start(host: Host, prefer_near: bool) -> Result<Self, BusError> {
        let mut epochs = Epochs::open(&**host.bus()).await?.watch().await?;
        let nobody = Owners::new(&Epoch::nobody());
        let (sender, owners) = watch::channel(Arc::new(nobody));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    epoch = epochs.next() => drop(sender.send_replace(Arc::new(Owners::new(&epoch)))),
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Self {
            host,
            owners,
            prefer_near,
            silences: Silences::default(),
            parity_silences: Silences::default(),
        })
    }

    /// The owners of items in the present epoch, and a notice of each change.
    pub fn owners(&self) -> watch::Receiver<Arc<Owners>> {
        self.owners.clone()
    }

    /// The piece, laid out as [`Layout::Piece`], and its BLAKE3. Asks until somebody has it, and tells `in_vain` each time that nobody
    /// had; errs only when this member ends. Dropping the future ends the search: patience is the caller's.
    pub async fn get(
        &self,
        index: u64,
        in_vain: &(dyn Fn(&str) + Sync),
    ) -> Result<(Slab, Blake3Hash), HostError> {
        let mut pause = FIRST_PAUSE;
        for round in 1u32.. {
            let reason = match self.once(index).await {
                Ok(Given { slab, blake3, .. }) => return Ok((slab, blake3)),
                Err(NotGiven::Last(HostError::Ended)) => return Err(HostError::Ended),
                Err(error) => error.to_string(),
            };
            in_vain(&reason);
            if round % ROUNDS_TO_LOG == 0 {
                tracing::warn!(index, round, "nobody gives this piece, asking on; the last answer: {reason}");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        unreachable!("a search of 2^32 rounds takes a thousand years")
    }

    /// The piece, asked of one after the other, each once.
    pub async fn once(&self, index: u64) -> Result<Given, NotGiven> {
        self.asked(index, &self.candidates(index), patience).await
    }

    /// The same of caches alone, each for no longer than this.
    pub async fn from_caches(&self, index: u64, within: Duration) -> Result<Given, NotGiven> {
        let mut caches = self.candidates(index);
        caches.retain(|(_, role)| *role != Role::Controller);
        self.asked(index, &caches, |_| within).await
    }

    async fn asked(
        &self,
        index: u64,
        candidates: &[(InstanceId, Role)],
        patience: impl Fn(&Role) -> Duration,
    ) -> Result<Given, NotGiven> {
        let mut last = NotGiven::Nobody;
        for (in_vain, &(peer, role)) in (0..).zip(candidates) {
            if self.silences.is_silent(peer) {
                last = NotGiven::Silent;
                continue;
            }
            let asked = self.ask(peer, message::ItemKind::Piece, index, patience(&role)).await;
            let begins = self.silences.note(peer, &asked);
            wrong::tell(&self.host, (ItemKind::Piece, index), &asked, begins).await;
            match asked {
                Ok((slab, blake3)) => return Ok(Given { slab, blake3, from: peer, in_vain }),
                Err(HostError::Ended) => return Err(HostError::Ended.into()),
                Err(error) => {
                    tracing::debug!(index, "piece: {error}");
                    let is_being_rebuilt =
                        role == Role::Controller && error.refusal() == Some(RefusalCode::NotReady);
                    last = error.into();
                    // Another would rebuild it as well.
                    if is_being_rebuilt {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// Whom to ask, in order. Near ones come first among those that should have the piece: its owner, the nearest where it has several, and every
    /// full-piece cache. Those who would be owners are for when these are away, and would mostly be asked in vain.
    fn candidates(&self, index: u64) -> Vec<(InstanceId, Role)> {
        let present = self.host.present();
        let present = present.borrow();
        let owners = self.owners.borrow().clone();
        let from = sources(Some(&owners), &peers(&present), self.host.id(), index);
        let mut from: Vec<_> = from.iter().filter_map(|id| present.get(id)).collect();
        if self.prefer_near
            && let Some(own) = present.get(&self.host.id())
        {
            let owners = owners.of_piece(index);
            let present_owners = from.iter().copied().filter(|entry| owners.contains(&entry.id));
            let owner = present_owners.min_by_key(|entry| distance(own, entry));
            let (full, rest): (Vec<_>, Vec<_>) =
                from.into_iter().partition(|entry| entry.role == Role::FullPieceCache);
            let rest = rest.into_iter().filter(|entry| owner.is_none_or(|owner| owner.id != entry.id));
            from = nearest_first(own, owner, &full, index).into_iter().chain(rest).collect();
        }
        from.into_iter().map(|entry| (entry.id, entry.role)).collect()
    }

    /// An item of one member, laid out as its kind is, and its BLAKE3.
    pub(crate) async fn ask(
        &self,
        peer: InstanceId,
        kind: message::ItemKind,
        index: u64,
        timeout: Duration,
    ) -> Result<(Slab, Blake3Hash), HostError> {
        let request = Request::GetItem { index, kind };
        let nothing = Layout::Run { phase: 0 };
        let reply = self.host.request(peer, request, Vec::new(), nothing, timeout).await?;
        match (reply.response, reply.payload) {
            (Response::Item { blake3 }, Some(slab)) => Ok((slab.freeze(), blake3)),
            _ => unreachable!("the transport gives only answers that fit their request"),
        }
    }
}

/// Those who give pieces.
pub fn peers(present: &Present) -> Peers {
    let of = |role| present.values().filter(|entry| entry.role == role).map(|entry| entry.id).collect();
    Peers {
        sharded: of(Role::ShardedCache),
        full: of(Role::FullPieceCache),
        controllers: of(Role::Controller),
    }
}

/// How long a member of this role may take to give a piece.
pub fn patience(role: &Role) -> Duration {
    if *role == Role::Controller { CONTROLLER_TIMEOUT } else { CACHE_TIMEOUT }
}
