//! `util reinitialization-cache`: a new epoch of the caches that are there now.
//!
//! ```text
//!   listen ─▶ shares of the next epoch, told ─▶ written on the revision that was read ─ conflict ─▶ read again
//!                     └─ dry run: the end         └─▶ each cache's loop does the rest ─▶ asked what they hold, until it is all
//! ```
//! Owns: when the epoch is written. Never: a piece (caches move them, [`control::refill`]).

use std::collections::BTreeMap;
use std::time::Duration;

use bus::epochs::Epochs;
use bus::{BusError, SharedBus};
use consensus::piece_set::PieceSet;
use control::ids::InstanceId;
use control::messages::{
    ClusterInfo, Control, Epoch, HoldingsAnswer, HoldingsRequest, MAX_HOLDINGS_SEGMENTS, MemberEntry, Role,
    subjects,
};
use control::moves::{Share, reinitialized, shares};
use control::refill::owned;
use control::rendezvous::Owners;
use control::store::{Expect, Found, Wrote};
use tokio::time::sleep;

use super::presence::{HEARD_WITHIN, caches, info};

/// How often caches are asked what they hold.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// An answer takes no look at a disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after the store could not tell, or somebody else wrote.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Before the epoch is written.
    pub delay: Duration,
    /// Ends when it is told what would move.
    pub dry_run: bool,
    /// Until the caches hold what they should.
    pub wait: bool,
}

/// Why there is no new epoch.
#[derive(Debug, thiserror::Error)]
pub enum ReinitializeError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// No controller has been there.
    #[error("no controller has been in cluster `{0}` yet: start one, or correct --cluster")]
    NoCluster(String),
    /// Nobody could own a piece.
    #[error("no sharded cache is heard in cluster `{0}`: start sharded-cache, or correct --cluster")]
    NoCaches(String),
    /// The others hold what they should.
    #[error(
        "{0} of the caches have no room for all that they should hold: give them more with size=, or start another one; the others hold \
         what they should"
    )]
    NoRoom(usize),
    /// Another release keeps the epochs.
    #[error("the present epoch is of another release: use the command of that release")]
    OtherRelease,
}

/// What is told on the way.
#[derive(Debug)]
pub enum Step<'a> {
    /// It listens for the caches, so long.
    Listening(Duration),
    /// What the epoch gives to whom; `names` are their hosts.
    Planned {
        /// The number it will have.
        number: u64,
        /// Segments of history.
        segments: u64,
        /// Sharded caches that are to hold each piece.
        copies: u8,
        /// In order of ids.
        shares: &'a [Share],
        /// Hosts by id.
        names: &'a BTreeMap<InstanceId, String>,
        /// Who has a share now and is not heard: he will have none.
        absent: &'a [InstanceId],
    },
    /// It is written, or another has just written the same.
    Begun(u64),
    /// Pieces that caches hold of those that they should.
    Filled {
        /// So many.
        held: u64,
        /// Of so many.
        of: u64,
    },
}

/// Writes the epoch and, if asked to, waits until the caches have filled.
pub async fn run(
    bus: &SharedBus,
    options: Options,
    mut tell: impl FnMut(Step<'_>),
) -> Result<(), ReinitializeError> {
    let cluster = || bus.cluster().to_string();
    let info = info(bus).await?.ok_or_else(|| ReinitializeError::NoCluster(cluster()))?;
    let epochs = Epochs::open(&**bus).await?;
    let before = find(&epochs).await?.0.map_or(0, |epoch| epoch.number);
    let listen = options.delay.max(HEARD_WITHIN);
    tell(Step::Listening(listen));
    let caches = caches(bus, listen).await?;
    let sharded = caches.values().filter(|entry| entry.role == Role::ShardedCache);
    let present: BTreeMap<_, _> = sharded.map(|entry| (entry.id, entry.capacity)).collect();
    let segments = info.protocol_info.history_size;
    let mut is_told = false;
    let epoch = loop {
        let (old, expect) = find(&epochs).await?;
        let next =
            reinitialized(old.as_ref(), &present).ok_or_else(|| ReinitializeError::NoCaches(cluster()))?;
        if !std::mem::replace(&mut is_told, true) {
            let names = caches.iter().map(|(id, entry)| (*id, entry.host.clone())).collect();
            let shares = shares(old.as_ref(), &next, segments);
            let absent = absent(old.as_ref(), &present);
            tell(Step::Planned {
                number: next.number,
                segments,
                copies: next.copies.max(1),
                shares: &shares,
                names: &names,
                absent: &absent,
            });
        }
        if options.dry_run {
            return Ok(());
        }
        // Somebody wanted the same, and was faster.
        if let Some(old) = old.filter(|old| old.number > before && old.members == next.members) {
            break old;
        }
        match epochs.write(&next, expect).await {
            Ok(Wrote::Done(_)) => break next,
            _ => sleep(STORE_PAUSE).await,
        }
    };
    tell(Step::Begun(epoch.number));
    if options.wait {
        wait(bus, &epochs, epoch, |epoch| Filling::new(&caches, epoch, &info), &mut tell).await?;
    }
    Ok(())
}

/// The present epoch, if there is one, and what must hold for the next to be written; waited for while the store cannot tell.
async fn find(epochs: &Epochs) -> Result<(Option<Epoch>, Expect), ReinitializeError> {
    loop {
        match epochs.find().await {
            Ok(Found::Nothing) => return Ok((None, Expect::Absent)),
            Ok(Found::Value(epoch, revision)) => return Ok((Some(epoch), Expect::Revision(revision))),
            Ok(Found::Unreadable(_)) => return Err(ReinitializeError::OtherRelease),
            Err(error @ BusError::Closed) => return Err(error.into()),
            Err(_) => sleep(STORE_PAUSE).await,
        }
    }
}

fn absent(old: Option<&Epoch>, present: &BTreeMap<InstanceId, u64>) -> Vec<InstanceId> {
    let members = old.into_iter().flat_map(|epoch| &epoch.members);
    let absent = members.filter(|member| member.weight > 0 && !present.contains_key(&member.id));
    absent.map(|member| member.id).collect()
}

/// Until the caches hold what they should by the epoch that then is: a controller may begin another meanwhile.
async fn wait(
    bus: &SharedBus,
    epochs: &Epochs,
    mut epoch: Epoch,
    filling_of: impl Fn(&Epoch) -> Filling,
    tell: &mut impl FnMut(Step<'_>),
) -> Result<(), ReinitializeError> {
    let mut filling = filling_of(&epoch);
    loop {
        filling.ask(bus).await;
        let left: u64 = filling.missing.values().map(count).sum();
        tell(Step::Filled { held: filling.of - left, of: filling.of });
        if left == 0 {
            let short = filling.short;
            return if short == 0 { Ok(()) } else { Err(ReinitializeError::NoRoom(short)) };
        }
        sleep(ASK_EVERY).await;
        let (now, _) = find(epochs).await?;
        if let Some(now) = now.filter(|now| *now != epoch) {
            tell(Step::Begun(now.number));
            filling = filling_of(&now);
            epoch = now;
        }
    }
}

/// What caches do not hold yet.
struct Filling {
    genesis_hash: [u8; 32],
    missing: BTreeMap<InstanceId, BTreeMap<u64, PieceSet>>,
    of: u64,
    /// Caches that cannot hold all that they should.
    short: usize,
}

impl Filling {
    /// What each cache should hold, as far as it has room.
    fn new(caches: &BTreeMap<InstanceId, MemberEntry>, epoch: &Epoch, info: &ClusterInfo) -> Self {
        let (owners, segments) = (Owners::new(epoch), info.protocol_info.history_size);
        let should = |entry: &MemberEntry, segment| match entry.role {
            Role::FullPieceCache => PieceSet::FULL,
            _ => owned(&owners, entry.id, segment),
        };
        let of = |entry: &MemberEntry| -> BTreeMap<_, _> {
            let sets = (0..segments).map(|segment| (segment, should(entry, segment)));
            sets.filter(|(_, set)| !set.is_empty()).collect()
        };
        let all = caches.values().map(|entry| (entry, of(entry)));
        let (fitting, short): (Vec<_>, Vec<_>) = all.partition(|(entry, its)| count(its) <= entry.capacity);
        let missing: BTreeMap<_, _> = fitting.into_iter().map(|(entry, its)| (entry.id, its)).collect();
        let (of, short) = (missing.values().map(count).sum(), short.len());
        Self { genesis_hash: info.genesis_hash, missing, of, short }
    }

    /// Asks all caches what they hold now.
    async fn ask(&mut self, bus: &SharedBus) {
        for (cache, missing) in &mut self.missing {
            ask_for(bus, *cache, self.genesis_hash, missing).await;
        }
    }
}

fn count(pieces: &BTreeMap<u64, PieceSet>) -> u64 {
    let of = |set: &PieceSet| (0..=u8::MAX).filter(|position| set.contains(*position)).count() as u64;
    pieces.values().map(of).sum()
}

/// Takes out what the cache holds now.
async fn ask_for(
    bus: &SharedBus,
    cache: InstanceId,
    genesis_hash: [u8; 32],
    missing: &mut BTreeMap<u64, PieceSet>,
) {
    let mut from = 0;
    while let Some((&from_segment, _)) = missing.range(from..).next() {
        let segments = MAX_HOLDINGS_SEGMENTS;
        from = from_segment + u64::from(segments);
        let request = HoldingsRequest { genesis_hash, from_segment, segments, lets_go_by: None };
        let asked = async {
            let answer =
                bus.request(&subjects::holdings(cache), request.to_bytes().ok()?, ANSWER_TIMEOUT).await;
            HoldingsAnswer::from_bytes(&answer.ok()?).ok()
        };
        let Some(HoldingsAnswer::Held { pieces, .. }) = asked.await else { continue };
        for (segment, bytes) in (from_segment..from).zip(pieces) {
            let held = PieceSet::from_bytes(bytes);
            if let Some(set) = missing.get_mut(&segment) {
                (0..=u8::MAX)
                    .filter(|position| held.contains(*position))
                    .for_each(|position| set.remove(position));
            }
        }
        missing.retain(|_, set| !set.is_empty());
    }
}
