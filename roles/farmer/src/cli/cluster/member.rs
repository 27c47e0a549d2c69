//! What every member of a cluster is given: its flags, and what it starts with.

use std::net::IpAddr;
use std::sync::Arc;

use bus::nats::local_address;
use bus::{BusError, SharedBus};
use clap::Args;
use cluster::host::HostConfig;
use cluster::placement::Placement;
use cluster::shutdown::Shutdown;

use super::nats::NatsArgs;

/// Executors that a server has use for: one serves, both ask.
pub(super) const SERVER_EXECUTORS: usize = 2;

/// How a member is reached by the others.
#[derive(Debug, Args)]
pub(super) struct MemberArgs {
    /// Port for other members; 0 = any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    listen_port: u16,
    /// Address at which other members reach this one; repeatable, best first [default: the one NATS is reached from]
    #[arg(long, value_name = "ADDR")]
    advertise: Vec<IpAddr>,
    /// Group of members that lie near each other, as in a rack: plot-servers with --priority-cache ask the caches of their own group before others,
    /// and every plot-server takes the jobs of its own group first
    #[arg(long, visible_alias = "cache-group", value_name = "NAME", default_value = "default", value_parser = parse_group)]
    group: String,
}

impl MemberArgs {
    /// `host` with what the operator said, on the executors of the placement, which is settled.
    pub(super) async fn apply(self, host: HostConfig, start: &Start<'_>) -> Result<HostConfig, BusError> {
        let advertise = match self.advertise {
            none if none.is_empty() => vec![local_address(start.nats.servers()).await?],
            named => named,
        };
        let cores = start.placement.executors();
        Ok(HostConfig { listen_port: self.listen_port, advertise, group: self.group, cores, ..host })
    }
}

fn parse_group(text: &str) -> Result<String, String> {
    if control::names::valid_token(text) {
        Ok(text.to_owned())
    } else {
        Err("a group is named by one word of letters, digits, - and _".into())
    }
}

/// What every role starts with.
pub(super) struct Start<'a> {
    pub(super) nats: &'a NatsArgs,
    pub(super) placement: &'a Arc<Placement>,
    pub(super) bus: SharedBus,
    pub(super) shutdown: Shutdown,
}
