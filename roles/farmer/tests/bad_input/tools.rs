//! `info` and `wipe`: farms are looked at, and removed.

use crate::cluster::{self, GENESIS, info};
use crate::farm::{PIECES, PLOTTED, SECTORS, flip, make};
use crate::process::{Running, contents, farmer, member, refused};
use engine::farm::{INFO_FILE, METADATA_FILE, PIECE_CACHE_FILE, PLOT_FILE, size_for_network};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

fn tool(name: &str, flags: &[&str], farm: &Path) -> Command {
    let mut command = farmer();
    command.arg(name).args(flags).arg(farm);
    command
}

fn plot_client(nats_url: &str, farm: &Path, size: &str) -> Command {
    let farm = format!("path={},{size}", farm.display());
    member(nats_url, &["plot-client", "--reward-address", ADDRESS, &farm])
}

/// The first farm of what `info --json` says.
fn looked_at(farm: &Path) -> serde_json::Value {
    let before = contents(farm);
    let output = tool("info", &["--json"], farm).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(contents(farm) == before, "a file has changed");
    serde_json::from_slice::<Vec<_>>(&output.stdout).unwrap().remove(0)
}

#[tokio::test]
async fn info_tells_what_a_farm_has_also_while_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let farm = folder.path();
    make(farm);
    fs::write(farm.join(PIECE_CACHE_FILE), vec![0; 2 << 20]).unwrap();
    let told = looked_at(farm);
    let noted: serde_json::Value = serde_json::from_slice(&fs::read(farm.join(INFO_FILE)).unwrap()).unwrap();
    for (ours, theirs) in [
        ("id", "id"),
        ("publicKey", "publicKey"),
        ("piecesInSector", "piecesInSector"),
        ("allocatedBytes", "allocatedSpace"),
    ] {
        assert_eq!(told[ours], noted["v0"][theirs]);
    }
    assert_eq!(told["genesisHash"], hex::encode(GENESIS));
    let states = &told["sectorsByState"];
    assert_eq!((&told["sectors"], &states["plotted"]), (&SECTORS.into(), &PLOTTED.into()), "{told}");
    assert_eq!((&told["inUse"], &told["pieceCache"]["capacity"]), (&false.into(), &1.into()), "{told}");
    for (at, percent) in [(0, 0), (1, 1)] {
        let size = &told["sizesForNetwork"][at];
        let bytes = size_for_network(PIECES, SECTORS, percent);
        assert_eq!((&size["cachePercent"], &size["sizeBytes"]), (&percent.into(), &bytes.into()), "{told}");
    }
    let (nats, _bus) = cluster::start(&info()).await;
    let mut client = Running::start(&mut plot_client(&nats.url(), farm, &format!("sectors={SECTORS}")));
    client.hear(&["2097152 bytes of the network's farmer", "wipe --cache"]);
    client.hear(&["farm open"]);
    assert_eq!(looked_at(farm)["inUse"], true);
    client.terminate();
    flip(&farm.join(METADATA_FILE), 0);
    let output = tool("info", &[], farm).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("by no process") && text.contains("version 64"), "{text}");
}

#[test]
fn info_of_what_is_no_farm_tells_the_others_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, nothing) = (folder.path().join("farm"), folder.path().join("nothing"));
    make(&farm);
    let output = tool("info", &[nothing.to_str().unwrap()], &farm).output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(said[0].contains("3: 2 plotted, 1 not plotted"), "{said:?}");
    assert!(said[1].contains("there is no farm") && said[1].contains("1 of 2 farms"), "{said:?}");
    refused(&mut tool("info", &["--json"], &nothing), &["there is no farm"]);
}

#[tokio::test]
async fn wipe_asks_refuses_what_is_in_use_and_leaves_what_is_no_farms() {
    let folder = tempfile::tempdir().unwrap();
    let farm = folder.path();
    make(farm);
    fs::write(farm.join("notes.txt"), "not of a farm").unwrap();
    fs::write(farm.join(PIECE_CACHE_FILE), "of the network's farmer").unwrap();
    let whole = contents(farm);
    let unasked = &mut tool("wipe", &[], farm);
    refused(unasked.stdin(Stdio::null()), &["--yes"]);
    let (nats, _bus) = cluster::start(&info()).await;
    let mut client = Running::start(&mut plot_client(&nats.url(), farm, &format!("sectors={SECTORS}")));
    client.hear(&["farm open"]);
    for flags in [&["--yes"][..], &["--yes", "--cache"]] {
        refused(&mut tool("wipe", flags, farm), &[INFO_FILE, "already locked by a process"]);
    }
    client.terminate();
    assert!(whole.iter().all(|(path, bytes)| fs::read(path).unwrap() == *bytes));
    let output = tool("wipe", &["--yes", "--cache"], farm).output().unwrap();
    assert!(output.status.success() && !farm.join(PIECE_CACHE_FILE).exists());
    assert_eq!(looked_at(farm)["sectorsByState"]["plotted"], PLOTTED);
    let output = tool("wipe", &["--yes"], farm).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(PLOT_FILE) && said.contains("the farm is gone"), "{said}");
    let left: Vec<_> = contents(farm).into_keys().collect();
    assert_eq!(left, [farm.join("notes.txt")]);
    refused(&mut tool("wipe", &["--yes"], farm), &["there is no farm"]);
}

/// Answers a command on a terminal.
fn on_terminal(command: &Command, answer: &str) -> Output {
    let spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let mut python = Command::new("python3");
    python.args(["-c", spawn]).arg(command.get_program()).args(command.get_args());
    let child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_ref().unwrap().write_all(answer.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn wipe_on_a_terminal_takes_nothing_but_yes() {
    let folder = tempfile::tempdir().unwrap();
    let farm = folder.path();
    make(farm);
    let whole = contents(farm);
    for answer in ["\n", "no\n", "y\n"] {
        let output = on_terminal(&tool("wipe", &[], farm), answer);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("2 plotted sectors") && said.contains("left as it is"), "{said}");
        assert!(contents(farm) == whole);
    }
    assert!(on_terminal(&tool("wipe", &[], farm), "yes\n").status.success());
    assert!(contents(farm).is_empty());
}

#[tokio::test]
async fn a_farm_is_made_smaller_only_by_who_says_that_plotted_sectors_may_go() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let (nats, _bus) = cluster::start(&info()).await;
    let words = ["sectors=1 has no room for 1 plotted sectors", "sectors=1,shrink=yes"];
    refused(&mut plot_client(&nats.url(), folder.path(), "sectors=1"), &words);
    assert_eq!(looked_at(folder.path())["sectors"], SECTORS);
    let mut client = Running::start(&mut plot_client(&nats.url(), folder.path(), "sectors=1,shrink=yes"));
    client.hear(&["made smaller", "sectors=1", "plotted=1", "given up"]);
    client.hear(&["farm open"]);
    client.terminate();
    assert_eq!(looked_at(folder.path())["sectors"], 1);
}
