//! `cluster … farms list|add|remove|pause-plotting|resume-plotting|scrub`: the farms of all plot-clients.

use bus::{Fresh, SharedBus};
use clap::{Args, Subcommand};
use cluster::plot_client::FarmSpec;
use cluster::tools::farms::{self, Client, HEARD_WITHIN, change, find, list};
use control::ids::InstanceId;
use control::messages::{FarmStage, FarmTold, FarmsChange};
use serde_json::{Value, json};

use super::nats::NatsArgs;
use crate::cli::CommandResult;

#[derive(Debug, Args)]
pub(super) struct FarmsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show every farm of the cluster, and what becomes of it
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Have a plot-client open one more farm, until that plot-client ends: its command line or farms file should name it too
    Add {
        /// Host of the plot-client, as `list` shows it, or its id
        host: String,
        /// path=DIRECTORY,sectors=NUMBER or path=DIRECTORY,size=SIZE, on that host; with shrink=yes plotted sectors that do not fit may go
        farm: String,
    },
    /// Have farms closed: their plot-client works with them no more, and others may
    Remove {
        /// A farm's id, its folder, HOST:FOLDER, or a host for all of its farms
        farm: String,
    },
    /// Order and fetch no more sectors for farms, until that is resumed or their plot-client ends
    PausePlotting {
        /// A farm's id, its folder, HOST:FOLDER, or a host for all of its farms
        farm: String,
    },
    /// Order and fetch sectors for farms again
    ResumePlotting {
        /// A farm's id, its folder, HOST:FOLDER, or a host for all of its farms
        farm: String,
    },
    /// Have every sector of farms read and checked while they are farmed, with what the disk has to spare: damaged records are made anew,
    /// damaged sectors plotted again. `list` shows how far it is
    Scrub {
        /// Farms' ids, their folders, HOST:FOLDER, or a host for all of its farms
        #[arg(required_unless_present = "disk_farm")]
        farm: Vec<String>,
        /// The same as FARM
        #[arg(long, value_name = "FARM")]
        disk_farm: Vec<String>,
        /// Stop it instead
        #[arg(long)]
        stop: bool,
    },
}

impl FarmsArgs {
    pub(super) fn run(self, nats: &NatsArgs) -> CommandResult {
        if let What::Add { farm, .. } = &self.what {
            farm.parse::<FarmSpec>()?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let bus = nats.connect_now("farms").await?;
            let me = InstanceId::generate();
            let clients = list(&bus, me, HEARD_WITHIN).await?;
            match self.what {
                What::List { json: true } => println!("{}", as_json(&clients)),
                What::List { json: false } => print(&clients),
                What::Add { host, farm } => {
                    let done =
                        change(&bus, farms::client(&clients, &host)?, FarmsChange::Add { farm }).await?;
                    println!("{host}: {done}");
                }
                What::Remove { farm } => {
                    change_all(&bus, &clients, &farm, |path| FarmsChange::Remove { path }).await?;
                }
                What::PausePlotting { farm } => pause_plotting(&bus, &clients, &farm, true).await?,
                What::Scrub { farm, disk_farm, stop } => {
                    let is_wanted = !stop;
                    for farm in [farm, disk_farm].concat() {
                        change_all(&bus, &clients, &farm, |path| FarmsChange::Scrub { path, is_wanted })
                            .await?;
                    }
                }
                What::ResumePlotting { farm } => pause_plotting(&bus, &clients, &farm, false).await?,
            }
            Ok(())
        })
    }
}

async fn pause_plotting(bus: &SharedBus, clients: &[Client], farm: &str, is_paused: bool) -> CommandResult {
    change_all(bus, clients, farm, |path| FarmsChange::PausePlotting { path, is_paused }).await
}

/// Asks for the same for all farms of that name. What is refused is told, and the others are asked for.
async fn change_all(
    bus: &SharedBus,
    clients: &[Client],
    name: &str,
    what: impl Fn(String) -> FarmsChange,
) -> CommandResult {
    let (mut failed, found) = (0, find(clients, name)?);
    for (client, farm) in &found {
        match change(bus, client, what(farm.path.clone())).await {
            Ok(done) => println!("{}:{}: {done}", client.host, farm.path),
            Err(error) => {
                failed += 1;
                eprintln!("{}:{}: {error}", client.host, farm.path);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} farms: not done", found.len()).into()) }
}

/// What becomes of a farm, for people.
fn stage(farm: &FarmTold) -> String {
    let stage = match &farm.stage {
        FarmStage::Opening => "opening".to_owned(),
        FarmStage::Claimed => "open, waits whether it is used elsewhere".to_owned(),
        FarmStage::Farming => "farming".to_owned(),
        FarmStage::Paused { reason } => format!("paused: {reason}"),
        FarmStage::Failed { reason, again_in_s: Some(pause) } => {
            format!("failed, tried again in {pause} s: {reason}")
        }
        FarmStage::Failed { reason, again_in_s: None } => format!("failed: {reason}"),
        FarmStage::Closing => "closing".to_owned(),
    };
    if farm.is_plotting_paused { format!("{stage}, plotting paused") } else { stage }
}

fn print(clients: &[Client]) {
    for Client { id, host, farms_in_all, farms } in clients {
        println!("{host}  plot-client {id}  {farms_in_all} farms");
        for farm in farms {
            let id = farm.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            let plotted = format!("{}/{}", farm.plotted, farm.sectors);
            let disk = if farm.disk.is_empty() { String::new() } else { format!("  disk {}", farm.disk) };
            let scrub = if farm.scrub.is_empty() { String::new() } else { format!("  scrub {}", farm.scrub) };
            println!("  {id:<26}  {plotted:>11}  {}  {}{disk}{scrub}", farm.path, stage(farm));
        }
    }
}

fn as_json(clients: &[Client]) -> Value {
    let farm = |farm: &FarmTold| {
        let state = match farm.stage {
            FarmStage::Opening => "opening",
            FarmStage::Claimed => "claimed",
            FarmStage::Farming => "farming",
            FarmStage::Paused { .. } => "paused",
            FarmStage::Failed { .. } => "failed",
            FarmStage::Closing => "closing",
        };
        let (reason, again_in_s) = match &farm.stage {
            FarmStage::Paused { reason } => (Some(reason), None),
            FarmStage::Failed { reason, again_in_s } => (Some(reason), *again_in_s),
            _ => (None, None),
        };
        json!({
            "path": farm.path,
            "id": farm.id.map(|id| id.to_string()),
            "state": state,
            "reason": reason,
            "again_in_s": again_in_s,
            "plotted": farm.plotted,
            "sectors": farm.sectors,
            "plotting_paused": farm.is_plotting_paused,
            "disk": (!farm.disk.is_empty()).then_some(&farm.disk),
            "scrub": (!farm.scrub.is_empty()).then_some(&farm.scrub),
        })
    };
    let client = |client: &Client| {
        let farms: Vec<_> = client.farms.iter().map(farm).collect();
        json!({ "host": client.host, "plot_client": client.id.to_string(), "farms": farms })
    };
    clients.iter().map(client).collect()
}
