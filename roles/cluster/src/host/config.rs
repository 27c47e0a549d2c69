//! What a host is told when it starts.

use bus::Fresh;
use bus::members::Liveness;
use control::ids::InstanceId;
use control::messages::{MAX_ADDRESSES, MemberEntry, Role};
use engine::threads::CoreSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use transport::tls::Fingerprint;

/// Group of members that were given none.
const DEFAULT_GROUP: &str = "default";
/// Slabs of 2 MiB a host has unless told otherwise.
const DEFAULT_SLABS: usize = 64;
/// Of these, those that serving others takes at most; the rest is for what the member itself asks and does.
const DEFAULT_SERVING_SLABS: usize = 48;

/// How a member presents itself and what it may use.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// What it does.
    pub role: Role,
    /// Who it is. A cache keeps its id with its items, so that it owns them again after a restart.
    pub id: InstanceId,
    /// Its group, one token of `[A-Za-z0-9_-]`.
    pub group: String,
    /// Where it listens; 0 = a free port.
    pub listen_port: u16,
    /// Addresses others reach it at, best first; none = this machine only. At most [`MAX_ADDRESSES`] are announced.
    pub advertise: Vec<IpAddr>,
    /// How much it can hold or do, in the role's own unit.
    pub capacity: u64,
    /// One executor each: on a set of CPUs that may be moved, or free. Executor 0 serves.
    pub cores: Vec<Option<CoreSet>>,
    /// Slabs of 2 MiB for all its payloads.
    pub slabs: usize,
    /// Of these, those that requests of others and their answers hold at once; no one peer has more than half of them.
    pub serving_slabs: usize,
    /// The cluster's times.
    pub liveness: Liveness,
}

/// This machine's name, for people.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl HostConfig {
    /// A fresh id, any port, this machine only, one executor that is not pinned, 128 MiB of slabs.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            id: InstanceId::generate(),
            group: DEFAULT_GROUP.into(),
            listen_port: 0,
            advertise: Vec::new(),
            capacity: 0,
            cores: vec![None],
            slabs: DEFAULT_SLABS,
            serving_slabs: DEFAULT_SERVING_SLABS,
            liveness: Liveness::default(),
        }
    }

    /// Name for the logs of peers.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.role.token(), self.id)
    }

    /// The narrowest address that serves all that are advertised.
    pub(super) fn listen(&self) -> SocketAddr {
        let local = self.advertise.iter().all(IpAddr::is_loopback);
        let ip: IpAddr = match (local, self.advertise.iter().any(IpAddr::is_ipv6)) {
            (true, _) => self.advertise.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into()),
            (false, false) => Ipv4Addr::UNSPECIFIED.into(),
            // On Linux this takes IPv4 too.
            (false, true) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(ip, self.listen_port)
    }

    /// What the member tells of itself when it listens on `port`.
    pub(super) fn entry(&self, port: u16, fingerprint: Fingerprint) -> MemberEntry {
        let listen = [self.listen().ip()];
        let advertise = if self.advertise.is_empty() { &listen[..] } else { &self.advertise[..] };
        let address = |ip: &IpAddr| SocketAddr::new(*ip, port).to_string();
        MemberEntry {
            role: self.role,
            id: self.id,
            addresses: advertise.iter().take(MAX_ADDRESSES).map(address).collect(),
            certificate_sha256: fingerprint.0,
            group: self.group.clone(),
            host: host_name(),
            capacity: self.capacity,
            version: env!("CARGO_PKG_VERSION").into(),
            is_full: false,
        }
    }
}

/// The role as the transport names it; the numbers of the two differ.
pub(super) fn wire_role(role: Role) -> transport::message::Role {
    use transport::message::Role as Wire;
    match role {
        Role::Controller => Wire::Controller,
        Role::ShardedCache => Wire::ShardedCache,
        Role::FullPieceCache => Wire::FullPieceCache,
        Role::ProofServer => Wire::ProofServer,
        Role::PlotServer => Wire::PlotServer,
        Role::PlotClient => Wire::PlotClient,
        Role::TOOL => Wire::Tool,
        Role::Other(number) => Wire::Other(number),
    }
}
