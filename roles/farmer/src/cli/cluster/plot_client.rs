//! `cluster … plot-client --reward-address ADDRESS path=…,sectors=N …`.

use clap::{ArgAction, Args};
use cluster::host::HostConfig;
use cluster::placement::Work;
use cluster::plot_client::{self, Config, FarmSpec, MemoryChoice, Near, Wishes};
use cluster::role::RoleError;
use consensus::Workers;
use consensus::identity::{IdentityError, parse_reward_address};
use control::messages::Role;
use std::num::NonZeroU16;
use std::path::PathBuf;

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
    /// Whether a farm that is not there is made; with `false` one whose disk is not mounted is waited for
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    create: bool,
    /// End with an error as soon as any farm cannot be opened, or cannot go on, as one whose disk is gone for a minute; else such a farm is
    /// tried again, and the others are farmed
    #[arg(long)]
    exit_on_farm_error: bool,
    /// File of more farms, one on a line as here, `#` begins a comment; read at the start and again on SIGHUP: farms that it names anew
    /// are opened, those that it names no more are closed. What `cluster … farms add|remove` did holds until the line of that farm changes, and
    /// a SIGHUP tells of it
    #[arg(long, value_name = "FILE")]
    farms_file: Option<PathBuf>,
    /// Farms, one a disk: path=DIRECTORY,sectors=NUMBER or path=DIRECTORY,size=SIZE; a smaller size that would cost plotted sectors is
    /// refused without shrink=yes (path=DIRECTORY,sectors=NUMBER,shrink=yes)
    #[arg(value_name = "FARM", required_unless_present = "farms_file")]
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
        let farms = Wishes::with_file(self.farms, self.farms_file).map_err(RoleError::own)?;
        let (paths, placement) = (farms.paths(), start.placement.clone());
        start.placement.settle(Work { paths: paths.clone(), executors: paths.len(), ..Work::default() });
        let host = HostConfig { capacity: paths.len() as u64, ..HostConfig::new(Role::PlotClient) };
        let all = start.placement.compute(None).count();
        let proving = self.proving_threads.map_or(all.div_ceil(4), |threads| threads.get().into());
        let config = Config {
            host: self.member.apply(host, &start).await?,
            farms,
            create: self.create,
            exit_on_farm_error: self.exit_on_farm_error,
            near: Near::by(move |path| placement.near(path)),
            kzg_parameters: self.kzg_parameters,
            proving: start.placement.compute(Some(proving)),
            audit_memory: self.audit_memory,
            verify_writes: self.verify_writes,
            ..Config::new(Vec::new(), self.reward_address.0)
        };
        plot_client::run(config, start.bus, start.shutdown).await
    }
}
