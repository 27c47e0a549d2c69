//! Farms that do not belong here, are in use, or are damaged.

use crate::cluster::{self, info};
use crate::farm::{PLOTTED, RECORD_BYTES, RECORDS_AT, SECTOR_BYTES, SECTORS, cut, flip, make, sector};
use crate::process::{Running, contents, farmer, member, refused};
use control::messages::{ClusterInfo, ProtocolInfo};
use engine::farm::{IDENTITY_FILE, INFO_FILE, METADATA_FILE, PLOT_FILE};
use std::fs;
use std::path::Path;
use std::process::Command;

const ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

fn plot_client(nats_url: &str, farm: &Path) -> Command {
    let farm = format!("path={},sectors={SECTORS}", farm.display());
    member(nats_url, &["plot-client", "--reward-address", ADDRESS, &farm])
}

fn scrub(farm: &Path) -> Command {
    let mut command = farmer();
    command.arg("scrub").arg(farm);
    command
}

/// What scrub says of a farm in which nothing is bad that is not marked already.
fn scrubbed(farm: &Path) -> String {
    let output = scrub(farm).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// A command that must fail with these words and change no file of the farm.
fn refuses(command: &mut Command, farm: &Path, parts: &[&str]) {
    let before = contents(farm);
    refused(command, parts);
    assert!(contents(farm) == before, "a file has changed");
}

#[tokio::test]
async fn farms_of_other_chains_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let (ours, theirs) = ("02".repeat(32), "09".repeat(32));
    let (nats, _bus) = cluster::start(&ClusterInfo { genesis_hash: [9; 32], ..info() }).await;
    let parts = [INFO_FILE, &ours, &theirs, "connect to the right node"];
    refuses(&mut plot_client(&nats.url(), folder.path()), folder.path(), &parts);
    let protocol_info = ProtocolInfo { max_pieces_in_sector: 1, ..info().protocol_info };
    let (nats, _bus) = cluster::start(&ClusterInfo { protocol_info, ..info() }).await;
    let parts = [INFO_FILE, "2 pieces in a sector", "at most 1"];
    refuses(&mut plot_client(&nats.url(), folder.path()), folder.path(), &parts);
}

#[tokio::test]
async fn a_farm_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let (nats, _bus) = cluster::start(&info()).await;
    let mut first = Running::start(&mut plot_client(&nats.url(), folder.path()));
    first.hear(&["farm open"]);
    let words = [INFO_FILE, "already locked by a process"];
    refused(plot_client(&nats.url(), folder.path()).arg("--exit-on-farm-error"), &words);
    refused(&mut scrub(folder.path()), &words);
    // Without that flag it is waited for, and has the farm when the other has ended.
    let mut second = Running::start(&mut plot_client(&nats.url(), folder.path()));
    second.hear(&["this farm takes no part", words[0], words[1], "tried again in 10 s"]);
    second.hear(&["no farm is open"]);
    assert!(first.is_running());
    first.terminate();
    second.hear(&["farm open"]);
    second.terminate();
    assert!(scrubbed(folder.path()).contains("2 good, 0 expired"));
}

#[tokio::test]
async fn one_bad_farm_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    make(&good);
    make(&bad);
    fs::write(bad.join(INFO_FILE), "{").unwrap();
    let (nats, _bus) = cluster::start(&info()).await;
    let good = format!("path={},sectors={SECTORS}", good.display());
    let mut client = Running::start(plot_client(&nats.url(), &bad).arg(good));
    client.hear(&["this farm takes no part", INFO_FILE, "damaged"]);
    // Either may be first.
    if !client.has_said("farm open") {
        client.hear(&["farm open"]);
    }
    client.terminate();
}

#[tokio::test]
async fn a_farms_file_is_read_again_on_sighup_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, file] = ["first", "second", "farms"].map(|name| folder.path().join(name));
    make(&first);
    make(&second);
    let line = |farm: &Path| format!("path={},sectors={SECTORS}\n", farm.display());
    let (nats, _bus) = cluster::start(&info()).await;
    let client = || {
        let mut client =
            member(&nats.url(), &["plot-client", "--reward-address", ADDRESS, "--create", "false"]);
        client.arg("--farms-file").arg(&file);
        client
    };
    refused(&mut client(), &["farms", "cannot be read"]);
    fs::write(&file, "path=/mnt/farm\n").unwrap();
    refused(&mut client(), &["farms line 1", "neither size="]);
    fs::write(&file, line(&first)).unwrap();
    let mut client = Running::start(&mut client());
    client.hear(&["farm open", "first"]);
    fs::write(&file, format!("# the new one\n{}{}", line(&second), line(&second))).unwrap();
    client.hang_up();
    client.hear(&["SIGHUP", "farms line 3", "named before", "nothing changes"]);
    fs::write(&file, line(&second)).unwrap();
    client.hang_up();
    client.hear(&["farm closed", "first"]);
    assert!(scrubbed(&first).contains("2 good, 0 expired"), "its lock is free");
    refused(&mut scrub(&second), &["already locked by a process"]);
    let listed = member(&nats.url(), &["farms", "list"]).output().unwrap();
    let said = String::from_utf8(listed.stdout).unwrap();
    for part in ["PLOTTED", "FOLDER", "2/3", second.to_str().unwrap(), "1 farms on 1 plot-clients"] {
        assert!(listed.status.success() && said.contains(part), "{part}: {said}");
    }
    // What a request removed stays so, and that is told, until its line is another one.
    let mut remove = member(&nats.url(), &["farms", "remove", second.to_str().unwrap()]);
    let removed = remove.output().unwrap();
    let said = String::from_utf8(removed.stdout).unwrap();
    assert!(removed.status.success() && said.contains("farms names it still"), "{said}");
    client.hear(&["farm closed", "second"]);
    client.hang_up();
    client.hear(&["SIGHUP", "second stays removed", "farms add"]);
    fs::write(&file, line(&second).replace('\n', ",shrink=yes\n")).unwrap();
    client.hang_up();
    client.hear(&["farm open", "second"]);
    client.terminate();
    assert!(scrubbed(&second).contains("2 good, 0 expired"));
    let mut client = Running::start(&mut plot_client(&nats.url(), &first));
    client.hear(&["farm open"]);
    client.hang_up();
    client.hear(&["SIGHUP", "--farms-file", "nothing changes"]);
    client.terminate();
}

#[tokio::test]
async fn a_farm_on_a_disk_that_is_not_mounted_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, disk) = (folder.path().join("farm"), folder.path().join("disk"));
    make(&disk);
    let (nats, _bus) = cluster::start(&info()).await;
    let client = |flag: &str| {
        let mut client = plot_client(&nats.url(), &farm);
        client.arg(flag);
        client
    };
    refused(
        client("--create=false").arg("--exit-on-farm-error"),
        &["farm: there is no farm here", "mounted"],
    );
    let mut waits = Running::start(&mut client("--create=false"));
    waits.hear(&["this farm takes no part", "there is no farm here", "tried again in 10 s"]);
    assert!(!farm.exists());
    fs::rename(&disk, &farm).unwrap();
    waits.hear(&["farm open", "plotted=2"]);
    waits.terminate();
}

/// Damage of a small file, and the words that name it.
type Damage<'a> = (&'a dyn Fn(&Path), &'a [&'a str]);

#[tokio::test]
async fn damaged_small_files_are_named_and_nothing_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let farm = folder.path();
    make(farm);
    let (nats, _bus) = cluster::start(&info()).await;
    let (identity, metadata) = (farm.join(IDENTITY_FILE), farm.join(METADATA_FILE));
    let damages: [Damage<'_>; 6] = [
        (&|_| cut(&identity, 20), &[IDENTITY_FILE, "20 bytes", "backup"]),
        (&|_| flip(&identity, 0), &[IDENTITY_FILE, "damaged", "backup"]),
        (&|_| flip(&identity, 20), &[IDENTITY_FILE, INFO_FILE, "backup"]),
        (&|_| fs::remove_file(&identity).unwrap(), &[IDENTITY_FILE, "missing", "backup"]),
        (&|_| flip(&metadata, 0), &[METADATA_FILE, "version 64", "backup"]),
        (&|_| cut(&metadata, 2), &[METADATA_FILE, "backup"]),
    ];
    let whole = contents(farm);
    for (damage, parts) in damages {
        damage(farm);
        refuses(&mut plot_client(&nats.url(), farm), farm, parts);
        refuses(&mut scrub(farm), farm, parts);
        whole.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
    let mut client = Running::start(&mut plot_client(&nats.url(), farm));
    client.hear(&["farm open"]);
    client.terminate();
    assert!(scrubbed(farm).contains("2 good, 0 expired"), "both sectors are as they were");
}

#[tokio::test]
async fn damaged_records_and_cut_off_plots_cost_their_own_sectors() {
    let (nats, _bus) = cluster::start(&info()).await;
    let record = |sector: u64| RECORDS_AT + sector * RECORD_BYTES;
    let damages: [Damage<'_>; 3] = [
        (&|farm| flip(&farm.join(METADATA_FILE), record(1) + 70_000), &["checksum"]),
        (&|farm| cut(&farm.join(METADATA_FILE), record(1) + 50), &["sector=1"]),
        (&|farm| cut(&farm.join(PLOT_FILE), SECTOR_BYTES + 5000), &["plot.bin has only"]),
    ];
    for (damage, parts) in damages {
        let folder = tempfile::tempdir().unwrap();
        let farm = folder.path();
        make(farm);
        let first = sector(farm, 0);
        damage(farm);
        let mut client = Running::start(&mut plot_client(&nats.url(), farm));
        let line = client.hear(&["sector=1", "will be plotted again"]);
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        client.terminate();
        assert!(sector(farm, 0) == first, "the other sector is as it was");
        assert!(scrubbed(farm).contains("1 good, 1 expired"), "and what is bad is marked");
    }
}

#[test]
fn a_flipped_bit_of_a_plot_is_found_by_scrub_and_its_sector_marked() {
    for at in [5, 10_000, SECTOR_BYTES - 1] {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let first = sector(folder.path(), 0);
        flip(&folder.path().join(PLOT_FILE), SECTOR_BYTES * u64::from(PLOTTED - 1) + at);
        assert!(scrubbed(folder.path()).contains("1 bad that are marked"));
        assert!(scrubbed(folder.path()).contains("1 good, 1 expired"), "it is marked");
        assert!(sector(folder.path(), 0) == first);
    }
}
