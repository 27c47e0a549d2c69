//! `autonomys-farmer info`: what farms hold, and what to tell the network's own farmer so that it keeps every sector.

use std::path::{Path, PathBuf};

use clap::Args;
use cluster::sizes::human_size;
use engine::farm::{Elements, FarmError, PLOT_FILE, SectorCounts, Survey, size_for_network};
use serde::Serialize;

/// Shares of cache, in percent, that the network's farmer has by default: in a cluster, and by itself.
const CACHE_PERCENTS: [u8; 2] = [0, 1];

/// Arguments of `autonomys-farmer info`. Exit code 1 when a farm cannot be read or has a problem.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Directories of farms; they may be in use, and nothing is changed
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print JSON: an array with one object for each path
    #[arg(long)]
    json: bool,
}

/// Why `info` ends with an error; what was told farm by farm.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {farms} farms could not be read, or have a problem")]
pub struct InfoError {
    failed: usize,
    farms: usize,
}

/// One farm as JSON. Bytes and sectors; hashes and keys in hex.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    path: PathBuf,
    id: String,
    public_key: String,
    genesis_hash: String,
    pieces_in_sector: u16,
    allocated_bytes: u64,
    /// Room for so many.
    sectors: u16,
    /// By state; none when `problems` says why.
    sectors_by_state: Option<SectorCounts>,
    files: Vec<FileTold>,
    piece_cache: Elements,
    plot_cache: Elements,
    sizes_for_network: Vec<SizeTold>,
    /// None where the file system does not tell.
    in_use: Option<bool>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FileTold {
    name: &'static str,
    bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SizeTold {
    cache_percent: u8,
    size_bytes: u64,
}

/// What is told of a path at which no farm can be read.
#[derive(Debug, Serialize)]
struct Failed {
    path: PathBuf,
    error: String,
}

/// Looks at one farm after the other and prints each.
pub fn run(arguments: &Arguments) -> Result<(), InfoError> {
    let (mut all, mut failed) = (Vec::new(), 0);
    for path in &arguments.paths {
        match Survey::of(path) {
            Ok(survey) => {
                let told = told(path, survey);
                failed += usize::from(!told.problems.is_empty());
                if arguments.json {
                    all.push(json(&told));
                } else {
                    print!("{}", text(&told));
                }
            }
            Err(error) => {
                failed += 1;
                all.push(json(&Failed { path: path.clone(), error: error.to_string() }));
                eprintln!("{}: {error}", path.display());
            }
        }
    }
    if arguments.json {
        println!("[{}]", all.join(","));
    }
    let farms = arguments.paths.len();
    if failed == 0 { Ok(()) } else { Err(InfoError { failed, farms }) }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers are always JSON")
}

fn told(path: &Path, survey: Survey) -> Told {
    let Survey { info, identity, is_in_use, files, layout, sectors, piece_cache, plot_cache } = survey;
    let mut problems: Vec<_> = identity.err().iter().map(FarmError::to_string).collect();
    let sectors_by_state = sectors.map_err(|error| problems.push(error.to_string())).ok();
    if !files.iter().any(|(name, _)| *name == PLOT_FILE) {
        problems.push(format!(
            "{}: missing: restore it, or its sectors are lost",
            path.join(PLOT_FILE).display()
        ));
    }
    if let Some(damaged) = sectors_by_state.as_ref().map(|by| by.damaged).filter(|damaged| *damaged > 0) {
        problems.push(format!(
            "the records of {damaged} sectors are damaged: `autonomys-farmer scrub`, or the plot-client in the background, makes those anew \
             whose sectors are whole"
        ));
    }
    let size_bytes = |percent| size_for_network(info.pieces_in_sector, layout.sectors(), percent);
    let sizes =
        CACHE_PERCENTS.map(|cache_percent| SizeTold { cache_percent, size_bytes: size_bytes(cache_percent) });
    Told {
        path: path.to_owned(),
        id: info.id.to_string(),
        public_key: hex::encode(info.public_key),
        genesis_hash: hex::encode(info.genesis_hash),
        pieces_in_sector: info.pieces_in_sector,
        allocated_bytes: info.allocated_bytes,
        sectors: layout.sectors(),
        sectors_by_state,
        files: files.into_iter().map(|(name, bytes)| FileTold { name, bytes }).collect(),
        piece_cache,
        plot_cache,
        sizes_for_network: sizes.into(),
        in_use: is_in_use,
        problems,
    }
}

/// A farm in lines, each with its name in front.
fn text(told: &Told) -> String {
    let mut lines = vec![told.path.display().to_string()];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<24}{value}"));
    line("id", told.id.clone());
    line("public key", told.public_key.clone());
    line("genesis", told.genesis_hash.clone());
    line("pieces in sector", told.pieces_in_sector.to_string());
    line("allocated", format!("{}, noted in single_disk_farm.json", size(told.allocated_bytes)));
    line(
        "sectors",
        told.sectors_by_state.as_ref().map_or_else(|| told.sectors.to_string(), |by| states(told, by)),
    );
    if let Some((low, high)) = told.sectors_by_state.as_ref().and_then(|counts| counts.history_sizes) {
        line("history sizes", format!("{low} to {high} segments"));
    }
    for FileTold { name, bytes } in &told.files {
        line(name, size(*bytes));
    }
    if told.piece_cache.capacity > 0 {
        let Elements { capacity, looked_at, valid } = told.piece_cache;
        line(
            "piece cache",
            format!(
                "of the network's farmer: room for {capacity} pieces; of {looked_at} looked at, {valid} are there (wipe --cache gives the space back)"
            ),
        );
    }
    if told.plot_cache.valid > 0 {
        let Elements { looked_at, valid, .. } = told.plot_cache;
        let at_least = if valid == looked_at { "at least " } else { "" };
        line(
            "plot cache",
            format!(
                "of the network's farmer: {at_least}{valid} pieces in the not yet plotted end of plot.bin"
            ),
        );
    }
    for SizeTold { cache_percent, size_bytes } in &told.sizes_for_network {
        line(
            "network's farmer",
            format!(
                "give it at least size={size_bytes} where {cache_percent} % is for its cache: with less it cuts plot.bin"
            ),
        );
    }
    line("in use", in_use(told.in_use).to_owned());
    told.problems.iter().for_each(|problem| line("problem", problem.clone()));
    lines.join("\n") + "\n"
}

/// For people, and exactly, as `size=` takes it.
fn size(bytes: u64) -> String {
    format!("{}, {bytes} bytes", human_size(bytes))
}

fn states(told: &Told, by: &SectorCounts) -> String {
    let mut text = format!("{}: {} plotted, {} not plotted", told.sectors, by.plotted, by.not_plotted);
    for (count, state) in [
        (by.marked, "marked for replotting"),
        (by.damaged, "with damaged metadata"),
        (by.cut_off, "beyond the end of plot.bin"),
        (by.unreadable, "whose metadata the disk does not give"),
    ] {
        if count > 0 {
            text += &format!(", {count} {state}");
        }
    }
    text
}

fn in_use(in_use: Option<bool>) -> &'static str {
    match in_use {
        Some(true) => "by a process now: the figures are those of this moment",
        Some(false) => "by no process",
        None => "unknown: this file system has no locks",
    }
}
