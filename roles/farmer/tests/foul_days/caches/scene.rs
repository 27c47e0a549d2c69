//! A cluster of caches as processes, and a member in this process that asks them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::SharedBus;
use bus::cluster::Cluster;
use bus::epochs::Epochs;
use bus::nats::{NatsBus, NatsOptions};
use cluster::host::{Host, HostConfig, ServesNothing};
use consensus::constants::PIECE_SIZE;
use consensus::piece::PieceIndex;
use consensus::piece_set::PieceSet;
use control::ids::InstanceId;
use control::messages::{Control, Epoch, HoldingsAnswer, HoldingsRequest, ItemKind, Role, subjects};
use control::rendezvous::Owners;
use devnet::GenesisParameters;
use engine::piece_store::ITEMS_FILE;
use futures::{StreamExt, stream};
use tokio::runtime::Runtime;
use transport::message::{Layout, Request, Response};

use crate::house::House;
use crate::stored_chain::stored_chain;

/// Segments of the chain, and their pieces.
pub const SEGMENTS: u64 = 3;
pub const PIECES: u64 = SEGMENTS * 256;
/// For what the scene itself asks.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Pieces that are read at once.
const READ_AT_ONCE: usize = 4;
/// Room for more than a sharded cache of these ever owns, and for all pieces: reserved, so no more than is of use.
const SIZES: [(&str, &str); 2] = [("shard", "512MiB"), ("full", "820MiB")];

/// Pieces of a sector: so many that 256 sectors are 2 GiB, which two cores move in four seconds.
pub const PIECES_IN_SECTOR: u16 = 8;

fn parameters() -> GenesisParameters {
    GenesisParameters {
        slot_ms: Some(2000),
        segments: Some(SEGMENTS),
        max_pieces_in_sector: Some(PIECES_IN_SECTOR),
        ..GenesisParameters::default()
    }
}

pub type Indices = BTreeSet<u64>;

/// The processes, and what is known of them.
pub struct Scene {
    pub house: House,
    pub runtime: Runtime,
    pub bus: SharedBus,
    pub host: Host,
    /// BLAKE3 of each piece, as the chain has it.
    pub hashes: Arc<Vec<[u8; 32]>>,
    /// Pieces that nobody has.
    pub lost: Indices,
    /// The node's address.
    pub node: String,
    genesis_hash: [u8; 32],
}

impl Scene {
    /// Three NATS servers, a node that gives all pieces, and a controller.
    pub fn start() -> Self {
        let chain = stored_chain("three-segments-chain", &parameters());
        let mut house = House::beside(3, chain.clone());
        let node = house.node("node", &[]);
        house.get("node").change(&[], &["--all-pieces"]);
        house.controller("controller", &node);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (bus, host, genesis_hash) = runtime.block_on(join(house.nats.urls()));
        let hashes = (0..SEGMENTS).flat_map(|segment| hashes_of(&chain, segment)).collect();
        Self { house, runtime, bus, host, hashes: Arc::new(hashes), lost: Indices::new(), node, genesis_hash }
    }

    /// Starts a cache, which is called after its kind.
    pub fn cache(&mut self, name: &'static str) {
        let (kind, size) = SIZES.into_iter().find(|(kind, _)| name.starts_with(kind)).unwrap();
        let role = if kind == "full" { "full-piece-sharded-cache" } else { "sharded-cache" };
        let path = format!("path={},size={size}", self.house.path(name));
        self.house.role(name, &[role, &path]);
    }

    /// Gives a cache that was not started yet its id: who owns what is then the same in each run.
    pub fn name_cache(&self, name: &str, id: u8) {
        fs::create_dir_all(self.house.path(name)).unwrap();
        fs::write(self.folder(name).join("id"), InstanceId([id; 16]).to_string()).unwrap();
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.house.path(name).into()
    }

    /// Who a cache is; none before it has started.
    pub fn id(&self, name: &str) -> Option<InstanceId> {
        fs::read_to_string(self.folder(name).join("id")).ok()?.trim().parse().ok()
    }

    pub fn epoch(&self) -> Option<Epoch> {
        let now = async { Epochs::open(&*self.bus).await?.current().await };
        self.runtime.block_on(now).unwrap().map(|(epoch, _)| epoch)
    }

    /// What a cache should hold by an epoch, of what there is.
    pub fn should(&self, name: &str, epoch: &Epoch) -> Indices {
        let (owners, id) = (Owners::new(epoch), self.id(name).unwrap());
        let is_its = |index: &u64| name.starts_with("full") || owners.of(ItemKind::Piece, *index, 1) == [id];
        (0..PIECES).filter(|index| !self.lost.contains(index)).filter(is_its).collect()
    }

    /// What a cache says that it holds; none if it does not say.
    pub fn holds(&self, name: &str) -> Option<Indices> {
        let segments = SEGMENTS as u16;
        let genesis_hash = self.genesis_hash;
        let request = HoldingsRequest { genesis_hash, from_segment: 0, segments, lets_go_by: None };
        let subject = subjects::holdings(self.id(name)?);
        let asked = self.bus.request(&subject, request.to_bytes().unwrap(), PATIENCE);
        let answer = self.runtime.block_on(asked).ok()?;
        let HoldingsAnswer::Held { pieces, .. } = HoldingsAnswer::from_bytes(&answer).unwrap() else {
            return None;
        };
        let sets: Vec<_> = pieces.into_iter().map(PieceSet::from_bytes).collect();
        let has = |index: &u64| {
            let index = PieceIndex(*index);
            let set = usize::try_from(index.segment_index()).ok().and_then(|segment| sets.get(segment));
            set.is_some_and(|set| set.contains(index.position()))
        };
        Some((0..PIECES).filter(has).collect())
    }

    /// Waits until each of these caches holds exactly what it should by the epoch, which has these members.
    pub fn settle(&mut self, what: &str, within: Duration, caches: &[&str], members: usize) -> Epoch {
        let is_right = |scene: &Self, epoch: &Epoch| {
            caches.iter().all(|name| scene.holds(name) == Some(scene.should(name, epoch)))
        };
        let look = |scene: &Self| {
            scene.epoch().filter(|epoch| epoch.members.len() == members && is_right(scene, epoch))
        };
        self.until(what, within, look).unwrap_or_else(|| {
            let epoch = self.epoch();
            caches.iter().for_each(|name| self.tell(name, epoch.as_ref()));
            panic!("waited too long for {what}");
        })
    }

    /// What `look` finds within this time, if anything. Nobody ends meanwhile.
    pub fn until<T>(&mut self, what: &str, within: Duration, look: impl Fn(&Self) -> Option<T>) -> Option<T> {
        let started = Instant::now();
        while started.elapsed() < within {
            if let Some(found) = look(self) {
                eprintln!("{what}: after {:.1} s", started.elapsed().as_secs_f32());
                return Some(found);
            }
            self.house.all_alive();
            std::thread::sleep(LOOK_INTERVAL);
        }
        None
    }

    fn tell(&self, name: &str, epoch: Option<&Epoch>) {
        let should = epoch.map(|epoch| self.should(name, epoch)).unwrap_or_default();
        match self.holds(name) {
            Some(held) => {
                let (lacks, more) = (should.difference(&held).count(), held.difference(&should).count());
                eprintln!("{name} lacks {lacks} and has {more} others, of {}", should.len());
            }
            None => eprintln!("{name} does not say what it holds"),
        }
    }

    /// Each of these caches gives each of these pieces that it has as the chain has it.
    pub fn read_all(&self, caches: &[&str], pieces: &Indices) {
        let began = Instant::now();
        let mut read = 0;
        for name in caches {
            let id = self.id(name).unwrap();
            let held: Indices = self.holds(name).unwrap().intersection(pieces).copied().collect();
            let reads =
                stream::iter(held.clone()).map(|index| self.read(id, index)).buffer_unordered(READ_AT_ONCE);
            let given: BTreeMap<_, _> = self.runtime.block_on(reads.collect());
            let expected = held.iter().map(|index| (*index, self.hashes[*index as usize]));
            assert!(given == expected.collect(), "{name} gives other bytes");
            read += given.len();
        }
        eprintln!("{read} pieces read bit for bit in {:.1} s", began.elapsed().as_secs_f32());
    }

    async fn read(&self, cache: InstanceId, index: u64) -> (u64, [u8; 32]) {
        let request = Request::GetItem { index, kind: transport::message::ItemKind::Piece };
        let nothing = Layout::Run { phase: 0 };
        let reply = self.host.request(cache, request, Vec::new(), nothing, PATIENCE).await.unwrap();
        // Checked against the bytes by the transport.
        let Response::Item { blake3 } = reply.response else { panic!("no piece") };
        (index, blake3)
    }
}

impl Drop for Scene {
    /// The logs of a failed test stay, but not gigabytes of pieces.
    fn drop(&mut self) {
        for name in self.house.processes.keys() {
            let _ = fs::remove_file(self.folder(name).join(ITEMS_FILE));
        }
    }
}

/// A member that serves nothing, as soon as there is a cluster, and the chain that this follows.
async fn join(urls: Vec<String>) -> (SharedBus, Host, [u8; 32]) {
    let options = NatsOptions { patience: Some(PATIENCE), ..NatsOptions::new(urls, "test") };
    let bus: SharedBus = Arc::new(NatsBus::connect(&options).await.unwrap());
    let mut infos = Cluster::open(&*bus).await.unwrap().watch_info().await.unwrap();
    let info = infos.next().await;
    let config = HostConfig::new(Role::TOOL);
    let host = Host::start(config, bus.clone(), |_| Rc::new(ServesNothing)).await.unwrap();
    (bus, host, info.genesis_hash)
}

/// BLAKE3 of the pieces of a segment, as the node keeps them.
fn hashes_of(chain: &std::path::Path, segment: u64) -> Vec<[u8; 32]> {
    let pieces = fs::read(chain.join(format!("segments/{segment}.bin"))).unwrap();
    pieces.chunks_exact(PIECE_SIZE).map(|piece| *blake3::hash(piece).as_bytes()).collect()
}
