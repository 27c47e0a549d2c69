//! `cluster … plot-client --reward-address ADDRESS path=…,sectors=N …`.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;

use clap::Args;
use consensus::identity::{IdentityError, parse_reward_address};
use roles::bus::SharedBus;
use roles::bus::messages::Role;
use roles::host::HostConfig;
use roles::plot_client::{self, Config, Counters, FarmSpec};
use roles::role::RoleError;
use roles::shutdown::Shutdown;

use super::{MemberArgs, NatsArgs};

#[derive(Debug, Args)]
pub struct PlotClientArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Account that is paid, as an SS58 address (st…, su…, 5…)
    #[arg(long, value_name = "ADDRESS", value_parser = reward_address)]
    reward_address: RewardAddress,
    /// Threads that prove when no proof-server does, about 128 MiB each [default: a quarter of the cores]
    #[arg(long, value_name = "N")]
    proving_threads: Option<NonZeroU16>,
    /// KZG parameters of the Ethereum ceremony, if not in the usual place
    #[arg(long, value_name = "FILE")]
    kzg_parameters: Option<PathBuf>,
    /// Farms, one a disk: path=DIRECTORY,sectors=NUMBER or path=DIRECTORY,size=SIZE
    #[arg(value_name = "FARM", required = true)]
    farms: Vec<FarmSpec>,
}

/// An account, so that clap does not take it for a list of bytes.
#[derive(Debug, Clone, Copy)]
struct RewardAddress([u8; 32]);

fn reward_address(text: &str) -> Result<RewardAddress, IdentityError> {
    parse_reward_address(text).map(RewardAddress)
}

impl PlotClientArgs {
    pub async fn run(self, nats: &NatsArgs, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
        let cores = available_parallelism().map_or(1, usize::from);
        let executors = vec![None; self.farms.len().clamp(1, cores)];
        let host = HostConfig {
            cores: executors,
            capacity: self.farms.len() as u64,
            ..HostConfig::new(Role::PlotClient)
        };
        let config = Config {
            host: self.member.apply(host, nats).await?,
            farms: self.farms,
            reward_address: self.reward_address.0,
            kzg_parameters: self.kzg_parameters,
            proving_threads: self.proving_threads.map_or(cores.div_ceil(4), |threads| threads.get().into()),
            counters: Arc::<Counters>::default(),
        };
        plot_client::run(config, bus, shutdown).await
    }
}
