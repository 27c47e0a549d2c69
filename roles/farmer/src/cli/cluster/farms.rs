//! `cluster … farms list|add|remove|pause-plotting|resume-plotting|scrub`: the farms of all plot-clients.

use bus::{Fresh, SharedBus};
use clap::{Args, Subcommand};
use cluster::plot_client::FarmSpec;
use cluster::sizes::human_size;
use cluster::tools::farms::{self, Client, HEARD_WITHIN, change, find, list};
use control::ids::InstanceId;
use control::messages::{DiskHealth, DiskTold, FarmStage, FarmTold, FarmsChange};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::nats::NatsArgs;
use crate::cli::CommandResult;

#[derive(Debug, Args)]
pub(super) struct FarmsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show every farm of the cluster, and what becomes of it; plot-clients that do not say at once that they are there are left out
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Have a plot-client open one more farm, or one that was removed. That holds until the line of its farms file for that farm changes, or it
    /// ends: its command line or farms file should name the farm too
    Add {
        /// Host of the plot-client, as `list` shows it, or its id
        host: String,
        /// path=DIRECTORY,sectors=NUMBER or path=DIRECTORY,size=SIZE, on that host, from its root; with shrink=yes plotted sectors that do not fit may go
        farm: String,
    },
    /// Have farms closed: their plot-client works with them no more, and others may. That holds, also over SIGHUP, until `farms add`, until the line
    /// of its farms file for that farm changes, or until it ends
    Remove {
        /// A farm's id, its folder, CLIENT:FOLDER, or CLIENT for all of its farms, where CLIENT is a plot-client's host or id
        farm: String,
    },
    /// Order and fetch no more sectors for farms, until that is resumed, they are removed, or their plot-client ends
    PausePlotting {
        /// A farm's id, its folder, CLIENT:FOLDER, or CLIENT for all of its farms, where CLIENT is a plot-client's host or id
        farm: String,
    },
    /// Order and fetch sectors for farms again
    ResumePlotting {
        /// A farm's id, its folder, CLIENT:FOLDER, or CLIENT for all of its farms, where CLIENT is a plot-client's host or id
        farm: String,
    },
    /// Have every sector of farms read and checked while they are farmed, with what the disk has to spare: damaged records are made anew,
    /// damaged sectors rebuilt of their pieces or plotted again. `list` shows how far it is
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
            FarmSpec::of_another_host(farm)?;
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
                    let (is_wanted, names) = (!stop, [farm, disk_farm].concat());
                    let (mut failed, all) = (0, names.len());
                    for name in names {
                        let scrub = |path| FarmsChange::Scrub { path, is_wanted };
                        if let Err(error) = change_all(&bus, &clients, &name, scrub).await {
                            failed += 1;
                            eprintln!("{name}: {error}");
                        }
                    }
                    if failed > 0 {
                        return Err(format!("{failed} of {all} names: not done").into());
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
    if let Some((client, _)) =
        found.iter().find(|(client, _)| client.is_called(name) && !client.has_told_all())
    {
        return Err(format!(
            "{}: not all of its farms were heard of in time, and none is changed: ask again",
            client.host
        )
        .into());
    }
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
    match &farm.disk {
        // A worse one is the reason why it is paused.
        Some(DiskTold { health: DiskHealth::Slow, .. }) => format!("{stage}, its disk is slow"),
        _ => stage,
    }
}

/// What becomes of a farm's plotting, for people: empty where nothing is in its way.
fn plotting(farm: &FarmTold) -> String {
    let mut words = Vec::new();
    if farm.is_plotting_paused {
        words.push("plotting is paused by request".to_owned());
    }
    if farm.failing > 0 {
        words.push(format!("plotting fails for {} sectors, {}", farm.failing, farm.failing_reason));
    }
    words.join("; ")
}

fn health(health: DiskHealth) -> &'static str {
    match health {
        DiskHealth::Healthy => "healthy",
        DiskHealth::Slow => "slow",
        DiskHealth::Sick => "sick",
        DiskHealth::Gone => "gone",
    }
}

/// Plotted sectors and room, and how much of the disk that is.
fn space(farm: &FarmTold) -> [String; 2] {
    if farm.sectors == 0 {
        return ["-".to_owned(), "-".to_owned()];
    }
    let size = |sectors: u16| human_size(u64::from(sectors) * farm.sector_bytes);
    [
        format!("{}/{}", farm.plotted, farm.sectors),
        format!("{} of {}", size(farm.plotted), size(farm.sectors)),
    ]
}

fn print(clients: &[Client]) {
    for client @ Client { id, host, farms_in_all, farms } in clients {
        println!("{host}  plot-client {id}  {farms_in_all} farms");
        if !client.has_told_all() {
            println!("  of its farms {} were not heard of in time", usize::from(*farms_in_all) - farms.len());
        }
        let width = farms.iter().map(|farm| farm.path.chars().count()).max().unwrap_or(0).max("FOLDER".len());
        if !farms.is_empty() {
            println!("  {:<26}  {:>11}  {:>19}  {:<width$}  STATE", "ID", "PLOTTED", "SIZE", "FOLDER");
        }
        for farm in farms {
            let id = farm.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            let [sectors, size] = space(farm);
            println!("  {id:<26}  {sectors:>11}  {size:>19}  {:<width$}  {}", farm.path, stage(farm));
            let plotting = plotting(farm);
            if !plotting.is_empty() {
                println!("  {:<26}  {plotting}", "");
            }
            if !farm.scrub.is_empty() {
                println!("  {:<26}  scrub: {}", "", farm.scrub);
            }
        }
    }
    println!("{}", summary(clients));
}

/// All of the cluster in a line.
fn summary(clients: &[Client]) -> String {
    let farms: Vec<_> = clients.iter().flat_map(|client| &client.farms).collect();
    let count = |is: &dyn Fn(&FarmTold) -> bool| farms.iter().filter(|farm| is(farm)).count();
    let mut words = vec![
        format!("{} farms on {} plot-clients", farms.len(), clients.len()),
        format!("{} farming", count(&|farm| farm.stage == FarmStage::Farming)),
    ];
    for (count, what) in [
        (count(&|farm| matches!(farm.stage, FarmStage::Failed { .. })), "failed"),
        (count(&|farm| matches!(farm.stage, FarmStage::Paused { .. })), "paused since their disk is ill"),
        (count(&|farm| farm.is_plotting_paused), "with plotting paused by request"),
        (count(&|farm| farm.failing > 0), "with sectors that fail"),
    ] {
        if count > 0 {
            words.push(format!("{count} {what}"));
        }
    }
    words.extend(disks(clients));
    words.join(", ")
}

/// Disks that are not healthy. Farms of a plot-client on one device are on one disk.
fn disks(clients: &[Client]) -> Vec<String> {
    let mut disks = BTreeMap::new();
    for client in clients {
        for farm in &client.farms {
            if let Some(disk) = &farm.disk {
                // Where the device is not known, each farm counts for itself.
                let name = if disk.device.is_empty() { &farm.path } else { &disk.device };
                disks.insert((client.id, name), disk.health);
            }
        }
    }
    [DiskHealth::Slow, DiskHealth::Sick, DiskHealth::Gone]
        .into_iter()
        .map(|ill| (disks.values().filter(|health| **health == ill).count(), health(ill)))
        .filter(|(count, _)| *count > 0)
        .map(|(count, health)| format!("{count} {health} disks"))
        .collect()
}

fn disk_as_json(disk: &DiskTold) -> Value {
    json!({
        "device": disk.device,
        "health": health(disk.health),
        "changes": disk.changes,
        "late_operations": disk.late,
        "failed_operations": disk.failed,
        "refused_operations": disk.refused,
    })
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
            "sector_bytes": farm.sector_bytes,
            "plotting_paused": farm.is_plotting_paused,
            "failing_sectors": farm.failing,
            "failing_reason": (!farm.failing_reason.is_empty()).then_some(&farm.failing_reason),
            "disk": farm.disk.as_ref().map(disk_as_json),
            "scrub": (!farm.scrub.is_empty()).then_some(&farm.scrub),
        })
    };
    let client = |client: &Client| {
        let farms: Vec<_> = client.farms.iter().map(farm).collect();
        json!({
            "host": client.host,
            "plot_client": client.id.to_string(),
            "farms_in_all": client.farms_in_all,
            "farms": farms,
        })
    };
    clients.iter().map(client).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::ids::FarmId;

    fn farm(path: &str, stage: FarmStage, health: DiskHealth) -> FarmTold {
        let disk = DiskTold { device: "sdb".into(), health, changes: 1, late: 2, failed: 3, refused: 4 };
        FarmTold {
            path: path.into(),
            id: Some(FarmId([1; 16])),
            stage,
            plotted: 500,
            sectors: 1000,
            sector_bytes: 1_000_000_000,
            is_plotting_paused: false,
            failing: 0,
            failing_reason: String::new(),
            disk: Some(disk),
            scrub: String::new(),
        }
    }

    #[test]
    fn a_cluster_in_a_line_says_what_an_operator_must_look_at() {
        let well = farm("/a", FarmStage::Farming, DiskHealth::Healthy);
        let paused = FarmStage::Paused { reason: "its disk is sick".into() };
        let ill = farm("/b", paused, DiskHealth::Sick);
        let beside = FarmTold { path: "/c".into(), is_plotting_paused: true, ..ill.clone() };
        let (failing, failing_reason) = (7, "sector 3: no piece".to_owned());
        let failing = FarmTold { failing, failing_reason, ..well.clone() };
        let client = |number: u8, farms: Vec<FarmTold>| Client {
            id: InstanceId([number; 16]),
            host: "storage".into(),
            farms_in_all: farms.len() as u16,
            farms,
        };
        let words = "1 farms on 1 plot-clients, 1 farming";
        assert_eq!(summary(&[client(1, vec![well.clone()])]), words, "nothing else is said");
        let clients =
            [client(1, vec![well.clone(), ill.clone(), beside.clone()]), client(2, vec![failing.clone()])];
        let said = summary(&clients);
        for part in [
            "4 farms on 2 plot-clients",
            "2 farming",
            "2 paused since their disk is ill",
            "1 with plotting paused by request",
            "1 with sectors that fail",
            "1 sick disks",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(plotting(&well), "");
        assert_eq!(plotting(&beside), "plotting is paused by request");
        assert_eq!(plotting(&failing), "plotting fails for 7 sectors, sector 3: no piece");
        assert_eq!(stage(&ill), "paused: its disk is sick");
        assert_eq!(space(&well), ["500/1000", "500 GB of 1.00 TB"]);
        let json = as_json(&clients);
        let disk = &json[0]["farms"][1]["disk"];
        assert_eq!((&disk["health"], &disk["late_operations"]), (&json!("sick"), &json!(2)));
        assert_eq!(json[1]["farms"][0]["failing_reason"], json!("sector 3: no piece"));
    }
}
