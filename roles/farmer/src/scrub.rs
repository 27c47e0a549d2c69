//! `autonomys-farmer scrub`: every sector of the farms named is checked. Bad ones are marked for replotting, damaged records of whole sectors
//! are made anew, and what the disk does not give is left alone.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use engine::executor::{RemoteError, StartError};
use engine::farm::{
    self, FARM_SCRATCH_BYTES, FarmError, Finding, ScrubOptions, ScrubProgress, ScrubReport, Target,
};
use engine::pool::{AcquireError, Pool, PoolError};
use engine::{Executors, ExecutorsConfig, Limits, RingError, Spawner};
use indicatif::{ProgressBar, ProgressStyle};

/// Buffer memory: little enough for the usual limit of locked memory (8 MiB).
const POOL_SLABS: usize = 3;
const RING_DEPTH: usize = 16;
/// Time between two lines of progress where there is no terminal, unless a tenth is done sooner.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

const STATUS: &str = "Exit status: 0 when all farms are whole, or everything that was wrong is mended: records made anew, sectors marked for \
replotting. 1 when something is left: what the disk does not give, records that --target plot leaves, anything wrong in a --dry-run, or a farm \
that could not be checked. 2 for wrong arguments.";

/// Arguments of `autonomys-farmer scrub`.
#[derive(Debug, Args)]
#[command(after_help = STATUS)]
pub struct Arguments {
    /// Directories of farms; none of them may be in use
    #[arg(required_unless_present = "disk_farm", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same as PATH
    #[arg(long, value_name = "PATH")]
    disk_farm: Vec<PathBuf>,
    /// What is checked; records of sectors are read in any case
    #[arg(long, value_enum, default_value = "all")]
    target: What,
    /// Only tell what is bad, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Mark for replotting also what the disk refuses to read, which is left as it is otherwise: for bad blocks that will not come back
    #[arg(long)]
    mark_unreadable: bool,
}

/// What is checked.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Everything
    All,
    /// Records of sectors, against the contents maps of these; damaged ones are made anew where their sector is whole
    Metadata,
    /// The checksum over all bytes of every sector; damaged records are left as they are
    Plot,
}

impl Arguments {
    fn options(&self) -> ScrubOptions {
        let target = match self.target {
            What::All => Target::All,
            What::Metadata => Target::Metadata,
            What::Plot => Target::Plot,
        };
        ScrubOptions { target, dry_run: self.dry_run, mark_unreadable: self.mark_unreadable }
    }
}

/// Why a scrub fails.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// No memory for buffers.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No executor.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something is bad; what was told line by line.
    #[error(
        "{bad_sectors} bad sectors, {unreadable} that the disk does not give; {bad_farms} of {farms} farms are not clean, \
         {unchecked} could not be checked"
    )]
    Bad {
        /// Sectors, also those that are marked now.
        bad_sectors: usize,
        /// Sectors of which that is not known.
        unreadable: usize,
        /// Farms in which something is left as it was.
        bad_farms: usize,
        /// Farms that are in use, not there, or cannot be opened.
        unchecked: usize,
        /// Farms named.
        farms: usize,
    },
}

/// Why one farm could not be scrubbed.
#[derive(Debug, thiserror::Error)]
enum OneError {
    #[error(transparent)]
    Farm(#[from] FarmError),
    #[error(transparent)]
    Buffers(#[from] AcquireError),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("stopped: {0}")]
    Remote(#[from] RemoteError),
}

/// Scrubs one farm after the other, and prints what is bad.
pub fn run(arguments: Arguments) -> Result<(), ScrubError> {
    let pool = Pool::new(POOL_SLABS, POOL_SLABS)?;
    let config = ExecutorsConfig { name: "scrub".into(), cores: vec![None], ring_depth: RING_DEPTH };
    let executors = Executors::start(&config, &pool)?;
    let options = arguments.options();
    let paths = [arguments.paths, arguments.disk_farm].concat();
    let (farms, mut bad_sectors, mut unreadable, mut bad_farms, mut unchecked) = (paths.len(), 0, 0, 0, 0);
    for path in paths {
        let shown = path.display().to_string();
        match scrub_one(&executors.spawner(0), path, options) {
            Ok(report) => {
                println!("{shown}: {}", summary(&report, options));
                bad_sectors += report.bad.len();
                unreadable += report.unreadable.len();
                bad_farms += usize::from(is_something_left(&report, options));
            }
            Err(error) => {
                eprintln!("{shown}: {error}");
                unchecked += 1;
            }
        }
    }
    match bad_farms + unchecked {
        0 => Ok(()),
        _ => Err(ScrubError::Bad { bad_sectors, unreadable, bad_farms, unchecked, farms }),
    }
}

/// Whether something is wrong that was not mended.
fn is_something_left(report: &ScrubReport, options: ScrubOptions) -> bool {
    match options.dry_run {
        true => !report.is_clean(),
        false => !report.left.is_empty() || (!report.unreadable.is_empty() && !options.mark_unreadable),
    }
}

fn scrub_one(spawner: &Spawner, path: PathBuf, options: ScrubOptions) -> Result<ScrubReport, OneError> {
    let scrub = spawner.spawn(move |local| async move {
        let disk = local.disk(&path, Limits::default())?;
        let scratch = local.pool().acquire().await?.narrow(..FARM_SCRATCH_BYTES);
        let mut progress = Progress::new(&path);
        let report = farm::scrub(disk, scratch, &path, options, |now| progress.show(now)).await;
        progress.bar.finish_and_clear();
        Ok::<_, OneError>(report?)
    });
    scrub.wait()?
}

fn summary(report: &ScrubReport, options: ScrubOptions) -> String {
    let ScrubReport { sectors, good, expired, bad, unreadable, rebuilt, left, adopted, dropped } = report;
    let done = if options.dry_run { "would be" } else { "are" };
    let mut text = format!("{sectors} sectors: {good} good, {expired} expired before, {} bad", bad.len());
    if !bad.is_empty() {
        text += &format!(" that {done} marked for replotting");
    }
    if !unreadable.is_empty() {
        let fate =
            if options.mark_unreadable { format!("{done} marked") } else { "are left as they are".into() };
        text += &format!("; {} that the disk does not give {fate}", unreadable.len());
    }
    if !rebuilt.is_empty() {
        text += &format!("; the records of {} whole ones {done} rebuilt", rebuilt.len());
    }
    if !left.is_empty() {
        let left = left.len();
        text +=
            &format!("; {left} with a damaged record are left as they are: `--target all` looks into them");
    }
    if !adopted.is_empty() {
        text += &format!(
            "; {} good ones that the header of metadata.bin does not count {done} added",
            adopted.len()
        );
    }
    if *dropped > 0 {
        text += &format!("; {dropped} that the header counts beyond the farm's space {done} taken off");
    }
    text
}

/// A bar on a terminal, else a line now and then; bad sectors have a line each in both cases.
struct Progress {
    path: String,
    bar: ProgressBar,
    last_line: Instant,
    /// Tenths of the sectors that were told.
    tenths: u32,
}

impl Progress {
    fn new(path: &Path) -> Self {
        let bar = if stdout().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} sectors, {eta} left")
            .expect("the template is valid");
        bar.set_style(style);
        let path = path.display().to_string();
        bar.set_prefix(path.clone());
        Self { path, bar, last_line: Instant::now(), tenths: 0 }
    }

    fn show(&mut self, now: &ScrubProgress) {
        self.bar.set_length(u64::from(now.sectors));
        self.bar.set_position(u64::from(now.done));
        if let Some((sector, finding)) = &now.found {
            let path = &self.path;
            let text = match finding {
                Finding::Bad(fault) => fault.to_string(),
                Finding::Unreadable(error) => format!("unreadable: {error}"),
                Finding::Rebuilt => {
                    "its record is damaged or a mark, and can be rebuilt: the sector is whole".to_owned()
                }
                Finding::Left(fault) => format!("{fault}; left as it is"),
            };
            self.bar.suspend(|| println!("{path}: sector {sector}: {text}"));
        }
        let tenths = u32::from(now.done) * 10 / u32::from(now.sectors.max(1));
        let is_due = tenths > self.tenths || self.last_line.elapsed() >= LINE_INTERVAL;
        if !stdout().is_terminal() && is_due {
            (self.last_line, self.tenths) = (Instant::now(), tenths);
            println!("{}: {} of {} sectors", self.path, now.done, now.sectors);
        }
    }
}
