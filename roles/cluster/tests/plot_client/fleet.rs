//! Farms that come and go while their plot-client runs.

use crate::farming::{farm, sign, take, win};
use crate::house::{Client, PATIENCE, REWARD_ADDRESS, cluster, host_config, kzg};
use crate::staging::{make, stage};
use bus::{Fresh, SharedBus};
use cluster::plot_client::{Config, SIGNATURES_FILE};
use cluster::tools::farms::{self, change, list};
use control::ids::InstanceId;
use control::messages::{DiskHealth, FarmStage, FarmsChange, PlotJob, PlotPhase, Role};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Each farm of the cluster by its folder, and what becomes of it; asked again until that pleases.
pub async fn until(bus: &SharedBus, pleases: impl Fn(&[(String, FarmStage)]) -> bool) -> Vec<farms::Client> {
    let ask = async {
        loop {
            let told =
                list(bus, InstanceId::generate(), Duration::from_millis(300)).await.unwrap_or_default();
            let farms = told.iter().flat_map(|client| &client.farms);
            let stages: Vec<_> = farms.map(|farm| (farm.path.clone(), farm.stage.clone())).collect();
            if pleases(&stages) {
                return told;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ask).await.expect("it does not come to that")
}

fn is(path: &Path, stage: FarmStage) -> (String, FarmStage) {
    (path.display().to_string(), stage)
}

/// Asks the plot-client; its words, good or bad.
pub async fn ask(bus: &SharedBus, client: &farms::Client, what: FarmsChange) -> Result<String, String> {
    change(bus, client, what).await.map_err(|error| error.to_string())
}

fn add(path: &Path, sectors: u16) -> FarmsChange {
    FarmsChange::Add { farm: format!("path={},sectors={sectors}", path.display()) }
}

fn remove(path: &Path) -> FarmsChange {
    FarmsChange::Remove { path: path.display().to_string() }
}

/// The next job that is not of this farm.
async fn take_other(bus: &SharedBus, first: &PlotJob) -> PlotJob {
    loop {
        let job = take(bus, PATIENCE).await.unwrap();
        if job.sector.farm != first.sector.farm {
            return job;
        }
    }
}

#[tokio::test]
async fn a_farm_that_comes_is_plotted_and_wins_and_one_that_goes_is_anothers() {
    let (bus, kzg, dir) = (cluster().await, kzg(), tempfile::tempdir().unwrap());
    let [first, second, copy] = ["first", "second", "copy"].map(|name| dir.path().join(name));
    let client = Client::start(&bus, vec![farm(&first, 1)]);
    let job = take(&bus, PATIENCE).await.unwrap();
    until(&bus, |farms| farms == [is(&first, FarmStage::Farming)]).await;
    // Who asks is done when all have told of their farms, however long he would listen.
    let asked = list(&bus, InstanceId::generate(), 4 * PATIENCE);
    let told = tokio::time::timeout(PATIENCE, asked).await.expect("it goes on listening").unwrap();
    let its = &told[0].farms[0];
    assert_eq!((told.len(), its.plotted, its.sectors, its.failing), (1, 0, 1, 0));
    assert!(its.sector_bytes > 0 && its.disk.as_ref().unwrap().health == DiskHealth::Healthy);

    // Bad wishes change nothing.
    let refused = ask(&bus, &told[0], FarmsChange::Add { farm: "path=/x".into() }).await.unwrap_err();
    assert!(refused.contains("neither size="), "{refused}");
    let relative = FarmsChange::Add { farm: "path=x,sectors=1".into() };
    let refused = ask(&bus, &told[0], relative).await.unwrap_err();
    assert!(refused.contains("from its root"), "{refused}");
    let refused = ask(&bus, &told[0], remove(&second)).await.unwrap_err();
    assert!(refused.contains("there is no farm"), "{refused}");

    // One that is added is plotted and farmed, while slots run; added again, it stays as it is.
    let added = ask(&bus, &told[0], add(&second, 1)).await.unwrap();
    assert!(
        added.starts_with("open, until this plot-client ends") && added.contains("does not name it"),
        "{added}"
    );
    // Of one that is named in its place nothing is remarked.
    assert_eq!(ask(&bus, &told[0], add(&first, 1)).await.unwrap(), "open");
    let other = take_other(&bus, &job).await;
    let made = make(&other, &kzg);
    let checksum = *made.bytes.last_chunk().unwrap();
    assert_eq!(stage(&bus, &other, made, checksum, 0).await, PlotPhase::Stored);
    assert!(ask(&bus, &told[0], add(&second, 1)).await.unwrap().contains("open"));
    let (_, controller) = win(&bus, &other, &kzg).await;
    assert!(sign(&bus, controller, other.public_key).await.is_some());

    // A copy of it is refused, and costs neither.
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(&second).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let refused = ask(&bus, &told[0], add(&copy, 1)).await.unwrap_err();
    assert!(refused.contains("the same farm as") && refused.contains("second"), "{refused}");
    assert_eq!(ask(&bus, &told[0], remove(&copy)).await.unwrap(), "closed");

    // A size that cannot be changes nothing.
    let impossible = FarmsChange::Add { farm: format!("path={},size=1", second.display()) };
    let refused = ask(&bus, &told[0], impossible).await.unwrap_err();
    assert!(refused.contains("not one sector") && refused.contains("the size that it had"), "{refused}");
    until(&bus, |farms| farms.contains(&is(&second, FarmStage::Farming))).await;

    // Removed, it is closed, and nothing of it is open here: another plot-client has it at once, and takes it to be plotted.
    assert_eq!(ask(&bus, &told[0], remove(&second)).await.unwrap(), "closed");
    let has_open =
        |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|open| open.starts_with(&second));
    let is_open = || fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap).any(has_open);
    let given_back = async {
        while is_open() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("its file system cannot be unmounted");
    let next = Config {
        host: host_config(Role::PlotClient),
        exit_on_farm_error: true,
        ..Config::new(vec![farm(&second, 1)], REWARD_ADDRESS)
    };
    let next = Client::with(&bus, next);
    let both = [is(&first, FarmStage::Farming), is(&second, FarmStage::Farming)];
    let told = until(&bus, |farms| farms.len() == 2 && both.iter().all(|farm| farms.contains(farm))).await;
    let its = told.iter().flat_map(|client| &client.farms).find(|farm| farm.plotted == 1).unwrap();
    assert_eq!((told.len(), its.id), (2, Some(other.sector.farm)));
    let slots = next.counters.slots.get();
    let (won, _) = win(&bus, &other, &kzg).await;
    assert!(next.counters.slots.get() > slots && won.public_key == other.public_key);
    assert_eq!(client.counters.farms().open, 1);
    client.stop().await;
    next.stop().await;
}

#[tokio::test]
async fn a_farm_whose_disk_comes_later_is_waited_for_and_none_is_made_in_its_place() {
    let (bus, dir) = (cluster().await, tempfile::tempdir().unwrap());
    let (disk, mount) = (dir.path().join("disk"), dir.path().join("mount"));
    let client = Client::start(&bus, vec![farm(&disk, 1)]);
    until(&bus, |farms| farms == [is(&disk, FarmStage::Farming)]).await;
    client.stop().await;
    let config = Config::new(vec![farm(&mount, 1)], REWARD_ADDRESS);
    let config = Config { host: host_config(Role::PlotClient), create: false, ..config };
    let client = Client::with(&bus, config);
    let is_waiting = |farms: &[(String, FarmStage)]| matches!(farms, [(_, FarmStage::Failed { reason, again_in_s: Some(1..=10) })] if reason.contains("mounted"));
    until(&bus, is_waiting).await;
    assert!(!mount.exists(), "nothing is made");
    // What it signs could not be remembered: a farm that would earn nothing is not open.
    let (signatures, aside) = (mount.join(SIGNATURES_FILE), dir.path().join("aside"));
    fs::rename(disk.join(SIGNATURES_FILE), &aside).unwrap();
    fs::create_dir(disk.join(SIGNATURES_FILE)).unwrap();
    fs::rename(&disk, &mount).unwrap();
    let cannot_sign = |farms: &[(String, FarmStage)]| matches!(farms, [(_, FarmStage::Failed { reason, again_in_s: Some(_) })] if reason.contains("reward signatures"));
    until(&bus, cannot_sign).await;
    fs::remove_dir(&signatures).unwrap();
    fs::rename(&aside, &signatures).unwrap();
    let told = until(&bus, |farms| farms == [is(&mount, FarmStage::Farming)]).await;
    // Its plotting is paused, and goes on.
    for is_paused in [true, false] {
        let path = mount.display().to_string();
        let done = ask(&bus, &told[0], FarmsChange::PausePlotting { path, is_paused }).await.unwrap();
        assert_eq!(done.contains("paused"), is_paused, "{done}");
        let told = until(&bus, |farms| farms.len() == 1).await;
        assert_eq!(told[0].farms[0].is_plotting_paused, is_paused);
    }
    // The last one may go: it is waited for others.
    let removed = ask(&bus, &told[0], remove(&mount)).await.unwrap();
    assert!(removed.starts_with("closed; its command line names it still"), "{removed}");
    assert_eq!(ask(&bus, &told[0], add(&mount, 1)).await.unwrap(), "open");
    client.stop().await;
}

/// As when a disk is unmounted and another is mounted there: the farm that was open is waited for, and the operator's pause with it.
#[tokio::test]
async fn a_farm_that_is_not_where_it_was_is_waited_for_and_no_other_is_taken_for_it() {
    let (bus, dir) = (cluster().await, tempfile::tempdir().unwrap());
    let [mount, away, other] = ["mount", "away", "other"].map(|name| dir.path().join(name));
    let client = Client::start(&bus, vec![farm(&mount, 1)]);
    let told = until(&bus, |farms| farms == [is(&mount, FarmStage::Farming)]).await;
    let (client_told, id) = (&told[0], told[0].farms[0].id.unwrap());
    assert!(ask(&bus, client_told, add(&other, 1)).await.is_ok());
    let both = until(&bus, |farms| farms.contains(&is(&other, FarmStage::Farming))).await;
    let other_id = both[0].farms.iter().find(|farm| farm.id != Some(id)).unwrap().id.unwrap();
    assert_eq!(ask(&bus, client_told, remove(&other)).await.unwrap(), "closed");
    let path = mount.display().to_string();
    ask(&bus, client_told, FarmsChange::PausePlotting { path, is_paused: true }).await.unwrap();

    // Opened anew for another size, it is not there: an empty folder gets no farm.
    fs::rename(&mount, &away).unwrap();
    fs::create_dir(&mount).unwrap();
    let refused = ask(&bus, client_told, add(&mount, 2)).await.unwrap_err();
    assert!(refused.contains(&format!("farm {id} was open here and is not there")), "{refused}");
    assert!(fs::read_dir(&mount).unwrap().next().is_none(), "nothing is made");

    // Another farm is not touched.
    fs::remove_dir(&mount).unwrap();
    fs::rename(&other, &mount).unwrap();
    let contents = || {
        let mut files: Vec<_> = fs::read_dir(&mount).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (fs::read(&file).unwrap(), file)).collect::<Vec<_>>()
    };
    let before = contents();
    let is_other = |farms: &[(String, FarmStage)]| matches!(farms, [(_, FarmStage::Failed { reason, again_in_s: Some(0..=10) })] if reason.contains(&format!("farm {other_id} is there now")));
    until(&bus, is_other).await;
    assert!(contents() == before, "it is as it was");

    // The right one is there again.
    fs::rename(&mount, &other).unwrap();
    fs::rename(&away, &mount).unwrap();
    let told = until(&bus, |farms| farms == [is(&mount, FarmStage::Farming)]).await;
    let its = &told[0].farms[0];
    assert!(its.id == Some(id) && its.is_plotting_paused, "{its:?}");
    assert_eq!(client.counters.farms().plotting_paused, 1);

    // Removed, it is remembered no more: what is added there then is a farm like any.
    ask(&bus, client_told, remove(&mount)).await.unwrap();
    fs::rename(&mount, &away).unwrap();
    assert_eq!(ask(&bus, client_told, add(&mount, 1)).await.unwrap(), "open");
    let told = until(&bus, |farms| farms == [is(&mount, FarmStage::Farming)]).await;
    assert!(told[0].farms[0].id != Some(id) && !told[0].farms[0].is_plotting_paused);
    client.stop().await;
}

#[tokio::test]
async fn by_exit_on_farm_error_any_farm_that_fails_is_the_end() {
    let (bus, dir) = (cluster().await, tempfile::tempdir().unwrap());
    fs::write(dir.path().join("file"), "not a folder").unwrap();
    let farms = vec![farm(&dir.path().join("good"), 1), farm(&dir.path().join("file/farm"), 1)];
    let config = Config {
        host: host_config(Role::PlotClient),
        exit_on_farm_error: true,
        ..Config::new(farms, REWARD_ADDRESS)
    };
    let error = Client::with(&bus, config).ended().await.unwrap_err().to_string();
    assert!(error.contains("file/farm"), "{error}");
}
