//! `autonomys-farmer wipe`: farms are removed, or only the piece cache that the network's farmer has left beside one.

use std::io::{self, BufRead, IsTerminal, Write, stdin};
use std::path::{Path, PathBuf};

use clap::Args;
use cluster::plot_client::{SENT_FILE, SIGNATURES_FILE};
use engine::farm::{self, FarmError, Survey};

/// Arguments of `autonomys-farmer wipe`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Directories of farms; none of them may be in use
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Remove only piece_cache.bin, which the network's farmer makes; every sector stays
    #[arg(long)]
    cache: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Why a wipe fails.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    /// Nobody can be asked.
    #[error(
        "this cannot be undone, and there is no terminal to ask whether it is meant: give --yes if it is"
    )]
    NobodyToAsk,
    /// The answer could not be read.
    #[error("the answer cannot be read: {0}")]
    Answer(io::Error),
    /// Some farms are still there; what was told farm by farm.
    #[error("{left} of {farms} farms are as they were, or not wholly removed")]
    Left {
        /// Farms not removed.
        left: usize,
        /// Farms named.
        farms: usize,
    },
}

/// Why one farm is not removed.
#[derive(Debug, thiserror::Error)]
enum OneError {
    #[error(transparent)]
    Farm(#[from] FarmError),
    #[error("left as it is")]
    NotMeant,
}

/// Asks for and removes one farm after the other.
pub fn run(arguments: &Arguments) -> Result<(), WipeError> {
    if !arguments.yes && !stdin().is_terminal() {
        return Err(WipeError::NobodyToAsk);
    }
    let (mut left, farms) = (0, arguments.paths.len());
    for path in &arguments.paths {
        let is_meant = arguments.yes || is_meant(path, arguments.cache).map_err(WipeError::Answer)?;
        let wiped = match is_meant {
            false => Err(OneError::NotMeant),
            true if arguments.cache => wipe_cache(path),
            true => wipe(path),
        };
        if let Err(error) = wiped {
            left += 1;
            eprintln!("{}: {error}", path.display());
        }
    }
    if left == 0 { Ok(()) } else { Err(WipeError::Left { left, farms }) }
}

fn wipe(path: &Path) -> Result<(), OneError> {
    let (mut files, mut freed_bytes) = (0, 0);
    farm::wipe(path, &[SIGNATURES_FILE, SENT_FILE], |file, bytes| {
        (files, freed_bytes) = (files + 1, freed_bytes + bytes);
        println!("{}: {bytes} bytes", file.display());
    })?;
    println!("{}: the farm is gone: {files} files, {freed_bytes} bytes", path.display());
    Ok(())
}

fn wipe_cache(path: &Path) -> Result<(), OneError> {
    match farm::wipe_cache(path)? {
        Some(bytes) => println!("{}: piece_cache.bin is gone: {bytes} bytes", path.display()),
        None => println!("{}: there is no piece_cache.bin", path.display()),
    }
    Ok(())
}

/// Says what would be lost, and waits for a yes.
fn is_meant(path: &Path, cache: bool) -> io::Result<bool> {
    let what = match Survey::of(path) {
        _ if cache => "piece_cache.bin is removed; every sector stays".to_owned(),
        Ok(Survey { sectors: Ok(counts), .. }) => {
            format!("the farm with its key and {} plotted sectors is removed for good", counts.plotted)
        }
        Ok(_) | Err(_) => "the farm with its key and all of its sectors is removed for good".to_owned(),
    };
    print!("{}: {what}. Type yes: ", path.display());
    io::stdout().flush()?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
