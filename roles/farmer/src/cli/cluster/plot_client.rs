//! `cluster … plot-client --reward-address ADDRESS path=…,sectors=N …`.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use cluster::host::HostConfig;
use cluster::placement::Work;
use cluster::plot_client::{self, Config, Counters, FarmSpec, MemoryChoice};
use cluster::role::RoleError;
use consensus::Workers;
use consensus::identity::{IdentityError, parse_reward_address};
use control::messages::Role;

use super::{MemberArgs, Start};

#[derive(Debug, Args)]
pub struct PlotClientArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Account that is paid, as an SS58 address (st…, su…, 5…)
    #[arg(long, value_name = "ADDRESS", value_parser = reward_address)]
    reward_address: RewardAddress,
    /// Threads that prove when no proof-server does, about 128 MiB each [default: one for every four CPUs that the plan has for them]
    #[arg(long, value_name = "N")]
    proving_threads: Option<NonZeroU16>,
    /// KZG parameters of the Ethereum ceremony, if not in the usual place
    #[arg(long, value_name = "FILE")]
    kzg_parameters: Option<PathBuf>,
    /// Memory for each sector: exact, about 65 KiB, and an audit is one read of the disk; lean, 1 KiB, and it reads twice, one after the
    /// other; auto, exact where all sectors fit half of the memory that is available
    #[arg(long, value_name = "exact|lean|auto", default_value = "auto")]
    audit_memory: MemoryChoice,
    /// Reads each new sector back from disk before it counts. It costs a read of all that is written, and hashing it a second time
    #[arg(long)]
    verify_writes: bool,
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
    pub async fn run(self, start: Start<'_>) -> Result<(), RoleError> {
        let paths: Vec<_> = self.farms.iter().map(|farm| farm.path.clone()).collect();
        start.placement.settle(Work { paths: paths.clone(), executors: paths.len(), ..Work::default() });
        let host = HostConfig { capacity: self.farms.len() as u64, ..HostConfig::new(Role::PlotClient) };
        let all = start.placement.compute(None).count();
        let proving = self.proving_threads.map_or(all.div_ceil(4), |threads| threads.get().into());
        let config = Config {
            host: self.member.apply(host, &start).await?,
            farms: self.farms,
            near: paths.iter().map(|path| start.placement.near(path)).collect(),
            reward_address: self.reward_address.0,
            kzg_parameters: self.kzg_parameters,
            proving: start.placement.compute(Some(proving)),
            audit_memory: self.audit_memory,
            verify_writes: self.verify_writes,
            counters: Arc::<Counters>::default(),
        };
        plot_client::run(config, start.bus, start.shutdown).await
    }
}
