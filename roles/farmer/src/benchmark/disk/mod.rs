//! What the disks of this host give to audits: random direct reads of the size of an s-bucket, at depths from 1 to 256.
//!
//! ```text
//!   paths ──▶ Target: which file, where is data ──▶ reading: so many at once, for a while ──▶ Point a depth ──▶ model
//! ```
//! Each disk is read alone, then all of them at the same time: what is lost then is lost on the way to them.
//!
//! Owns: the figures and their report. Never: writing to what is there already; a file of its own has no name, so that nothing
//! stays behind however this ends.

mod model;
mod reading;
mod target;

pub use self::target::USUAL_PIECES;

use self::model::{Point, carries, recommended_depth};
use self::reading::{FILL_SLABS, Reading, ReadingError, fill, read, slabs};
use self::target::{Stretches, Target, TargetError};
use super::chart::{Chart, Line, svg};
use consensus::constants::{RECORD_CHUNKS, SCALAR_BYTES};
use engine::executor::{RemoteError, StartError};
use engine::pool::{Pool, PoolError, SLAB_BYTES};
use engine::{BLOCK_BYTES, Executors, ExecutorsConfig};
use serde_json::{Value, json};
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Most reads at once.
pub const MAX_DEPTH: usize = 256;
/// S-buckets that a sector uses, about: the others are empty in every sector.
const USED_S_BUCKETS: usize = 54_000;
/// Times of a slot that are told.
const WITHIN: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(500), SLOT];
const SLOT: Duration = Duration::from_secs(1);
/// For operations to end once all is measured.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Farms, files, or directories for a file of its own.
    pub paths: Vec<PathBuf>,
    /// Reads at once, ascending, each 1 to [`MAX_DEPTH`]; spread over the threads.
    pub depths: Vec<usize>,
    /// Threads a path, at least 1.
    pub threads: usize,
    /// How long each depth is kept up.
    pub limit: Duration,
    /// Bytes of a read, whole blocks; none: those of an s-bucket.
    pub read_bytes: Option<usize>,
    /// Pieces in a sector; none: those of the farm.
    pub pieces: Option<u16>,
    /// Size of a file of its own in each path; none: what is there is read.
    pub own_bytes: Option<u64>,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum DiskBenchmarkError {
    /// No memory for buffers.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No executors.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Why one path has no figures.
#[derive(Debug, thiserror::Error)]
enum OneError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{}: {source}", path.display())]
    Reading { path: PathBuf, source: ReadingError },
    #[error("stopped: {0}")]
    Remote(#[from] RemoteError),
}

/// All figures.
pub struct Report {
    disks: Vec<DiskReport>,
    /// All disks at the same time, a point a depth; none of a single one.
    together: Vec<Point>,
    threads: usize,
    /// Paths without figures, and why; one line each.
    pub failed: Vec<String>,
}

struct DiskReport {
    path: PathBuf,
    file_bytes: u64,
    data_bytes: u64,
    is_own: bool,
    read_bytes: usize,
    points: Vec<Point>,
}

/// Bytes that the audit of a sector of so many pieces reads, about: whole blocks.
pub fn audit_bytes(pieces_in_sector: u16) -> usize {
    let chunks = usize::from(pieces_in_sector) * RECORD_CHUNKS / USED_S_BUCKETS;
    (chunks * SCALAR_BYTES).max(1).next_multiple_of(BLOCK_BYTES)
}

/// Measures all paths. A path that fails leaves the others alone. `progress` is told what comes next.
///
/// # Errors
/// The host gives no buffers or no rings.
pub fn measure(options: &Options, progress: &dyn Fn(&str)) -> Result<Report, DiskBenchmarkError> {
    let mut report = Report { disks: vec![], together: vec![], threads: options.threads, failed: vec![] };
    let mut targets = Vec::new();
    for path in &options.paths {
        match Target::open(path, options.own_bytes) {
            Ok(target) => targets.push(target),
            Err(error) => report.failed.push(error.to_string()),
        }
    }
    let bench = Bench::start(options, &targets)?;
    let mut good = Vec::new();
    for (index, target) in targets.into_iter().enumerate() {
        match bench.disk(index, target, progress) {
            Ok((job, disk)) => {
                good.push(job);
                report.disks.push(disk);
            }
            Err(error) => report.failed.push(error.to_string()),
        }
    }
    if good.len() > 1 {
        match options.depths.iter().map(|&depth| bench.together(&good, depth, progress)).collect() {
            Ok(together) => report.together = together,
            Err(error) => report.failed.push(format!("all at the same time: {error}")),
        }
    }
    // All reads have been waited for.
    let _ = bench.executors.shutdown(SHUTDOWN_LIMIT);
    Ok(report)
}

/// A disk that can be read.
struct Job {
    index: usize,
    target: Target,
    stretches: Arc<Stretches>,
    read_bytes: usize,
}

struct Bench<'a> {
    options: &'a Options,
    executors: Executors,
}

impl<'a> Bench<'a> {
    fn start(options: &'a Options, targets: &[Target]) -> Result<Self, DiskBenchmarkError> {
        let depth = options.depths.iter().copied().max().unwrap_or(1);
        let (count, threads) = (targets.len().max(1), options.threads);
        let most_bytes =
            targets.iter().map(|target| read_bytes(options, target)).max().unwrap_or(BLOCK_BYTES);
        let each = slabs(depth.div_ceil(threads), most_bytes) * threads;
        let pool = Pool::new((each * count).max(FILL_SLABS), each * count)?;
        let cores = vec![None; count * threads];
        let config = ExecutorsConfig { name: "disk".into(), cores, ring_depth: depth.max(FILL_SLABS) };
        Ok(Self { options, executors: Executors::start(&config, &pool)? })
    }

    /// One disk alone, at every depth.
    fn disk(
        &self,
        index: usize,
        target: Target,
        progress: &dyn Fn(&str),
    ) -> Result<(Job, DiskReport), OneError> {
        let shown = target.path.display().to_string();
        if target.is_own {
            progress(&format!("{shown}: a file of {} MiB is written", target.file_bytes >> 20));
            let of = target.clone();
            let filled =
                self.executors.spawner(index * self.options.threads).spawn(|local| fill(local, of)).wait()?;
            filled.map_err(|source| OneError::Reading { path: target.path.clone(), source })?;
        }
        let read_bytes = read_bytes(self.options, &target);
        let stretches = Arc::new(target.stretches(read_bytes as u64)?);
        let job = Job { index, target, stretches, read_bytes };
        let mut points = Vec::new();
        for &depth in &self.options.depths {
            progress(&format!("{shown}: reads of {read_bytes} bytes, {depth} at once"));
            points.push(self.read(&[&job], depth)?);
        }
        let report = DiskReport {
            path: job.target.path.clone(),
            file_bytes: job.target.file_bytes,
            data_bytes: job.stretches.data_bytes,
            is_own: job.target.is_own,
            read_bytes,
            points,
        };
        Ok((job, report))
    }

    fn together(&self, jobs: &[Job], depth: usize, progress: &dyn Fn(&str)) -> Result<Point, OneError> {
        progress(&format!("{} paths at the same time, {depth} reads at once each", jobs.len()));
        self.read(&jobs.iter().collect::<Vec<_>>(), depth)
    }

    /// Reads all of them at the same time, at the depth each.
    fn read(&self, jobs: &[&Job], depth: usize) -> Result<Point, OneError> {
        let mut running = Vec::new();
        for job in jobs {
            for thread in 0..self.options.threads.min(depth) {
                let reading = Reading {
                    target: job.target.clone(),
                    stretches: job.stretches.clone(),
                    read_bytes: job.read_bytes,
                    depth: share(depth, thread, self.options.threads.min(depth)),
                    limit: self.options.limit,
                    seed: (depth << 16 | job.index << 8 | thread) as u64,
                };
                let spawner = self.executors.spawner(job.index * self.options.threads + thread);
                running.push((&job.target.path, spawner.spawn(move |local| read(local, reading))));
            }
        }
        let mut points = Vec::new();
        for (path, read) in running {
            let read = read.wait()?;
            points.push(read.map_err(|source| OneError::Reading { path: path.clone(), source })?);
        }
        let sum = Point::together(&points).expect("something was read");
        Ok(Point { depth, ..sum })
    }
}

/// The part of `total` that falls to one of `threads`.
fn share(total: usize, thread: usize, threads: usize) -> usize {
    total * (thread + 1) / threads - total * thread / threads
}

fn read_bytes(options: &Options, target: &Target) -> usize {
    let pieces = options.pieces.or(target.pieces_in_sector).unwrap_or(USUAL_PIECES);
    options.read_bytes.unwrap_or_else(|| audit_bytes(pieces)).min(SLAB_BYTES)
}

impl DiskReport {
    /// Whether part of what is there was never written, and so not read.
    fn is_sparse(&self) -> bool {
        let block = BLOCK_BYTES as u64;
        self.data_bytes / block < self.file_bytes / block
    }

    fn to_json(&self) -> Value {
        let carries: Vec<_> = WITHIN
            .iter()
            .filter_map(|&within| carries(&self.points, within))
            .map(|it| json!({ "p99_ms": it.within.as_millis() as u64, "sectors": it.sectors, "depth": it.depth }))
            .collect();
        json!({
            "path": self.path,
            "own_file": self.is_own,
            "file_bytes": self.file_bytes,
            "data_bytes": self.data_bytes,
            "sparse": self.is_sparse(),
            "read_bytes": self.read_bytes,
            "depths": self.points.iter().map(|point| point_json(point, self.read_bytes)).collect::<Vec<_>>(),
            "carries": carries,
            "recommended_depth": recommended_depth(&self.points, SLOT),
        })
    }
}

fn point_json(point: &Point, read_bytes: usize) -> Value {
    json!({
        "depth": point.depth,
        "reads": point.latencies.count(),
        "reads_per_s": point.reads_per_s(),
        "slow_reads_per_s": point.slow_reads_per_s(),
        "mib_per_s": mib(point.reads_per_s() * read_bytes as f64),
        "p50_ms": point.latencies.percentile_ms(50),
        "p99_ms": point.latencies.percentile_ms(99),
        "max_ms": point.latencies.max_ms(),
    })
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

impl Report {
    /// Whether there are any figures.
    pub fn is_empty(&self) -> bool {
        self.disks.is_empty()
    }

    /// Of all disks alone, added.
    fn sum_at(&self, index: usize) -> f64 {
        self.disks.iter().map(|disk| disk.points[index].reads_per_s()).sum()
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let together = self.together.iter().enumerate().map(|(index, point)| {
            json!({
                "depth": point.depth,
                "reads_per_s": point.reads_per_s(),
                "p50_ms": point.latencies.percentile_ms(50),
                "p99_ms": point.latencies.percentile_ms(99),
                "max_ms": point.latencies.max_ms(),
                "of_each_alone": point.reads_per_s() / self.sum_at(index),
            })
        });
        json!({
            "threads_a_path": self.threads,
            "paths": self.disks.iter().map(DiskReport::to_json).collect::<Vec<_>>(),
            "together": together.collect::<Vec<_>>(),
            "failed": self.failed,
        })
    }

    /// Reads a second and their p99 over the depths.
    pub fn to_svg(&self) -> String {
        let chart = |title: &str, y_name, value: &dyn Fn(&Point) -> f64| {
            let line = |name: String, points: &[Point]| Line {
                name,
                points: points.iter().map(|point| (point.depth as f64, value(point))).collect(),
            };
            let mut lines: Vec<_> =
                self.disks.iter().map(|disk| line(disk.path.display().to_string(), &disk.points)).collect();
            if !self.together.is_empty() {
                lines.push(line("all at the same time".to_owned(), &self.together));
            }
            Chart { title: title.to_owned(), x_name: "reads at once", y_name, lines }
        };
        let bytes = self.disks.first().map_or(0, |disk| disk.read_bytes);
        svg(&[
            chart(&format!("Random reads of {bytes} bytes"), "reads/s", &Point::reads_per_s),
            chart("99 of 100 reads take no longer", "ms", &|point| point.latencies.percentile_ms(99)),
            chart("Sectors audited within a second in 99 slots of 100", "sectors", &|point| {
                point.sectors_within(SLOT) as f64
            }),
        ])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disks.iter().try_for_each(|disk| write_disk(f, disk))?;
        if self.together.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "{} paths at the same time\n{:>6}{:>12}{:>16}",
            self.disks.len(),
            "depth",
            "reads/s",
            "of each alone"
        )?;
        for (index, point) in self.together.iter().enumerate() {
            let (reads, part) = (point.reads_per_s(), point.reads_per_s() * 100.0 / self.sum_at(index));
            writeln!(f, "{:>6}{reads:>12.0}{part:>14.0} %", point.depth)?;
        }
        Ok(())
    }
}

fn write_disk(f: &mut fmt::Formatter<'_>, disk: &DiskReport) -> fmt::Result {
    let what = if disk.is_own { "a file of its own" } else { "what is there" };
    writeln!(f, "{}: random direct reads of {} bytes from {what}", disk.path.display(), disk.read_bytes)?;
    if disk.is_sparse() {
        writeln!(
            f,
            "only {:.0} of {:.0} MiB were ever written: only these are read, the rest would not come from the disk",
            mib(disk.data_bytes as f64),
            mib(disk.file_bytes as f64)
        )?;
    }
    writeln!(
        f,
        "{:>6}{:>12}{:>10}{:>11}{:>11}{:>11}{:>14}",
        "depth", "reads/s", "MiB/s", "p50 ms", "p99 ms", "max ms", "slow reads/s"
    )?;
    for point in &disk.points {
        let (reads, times) = (point.reads_per_s(), &point.latencies);
        let (p50, p99, max) = (times.percentile_ms(50), times.percentile_ms(99), times.max_ms());
        let mib = mib(reads * disk.read_bytes as f64);
        let slow = point.slow_reads_per_s();
        writeln!(
            f,
            "{:>6}{reads:>12.0}{mib:>10.0}{p50:>11.3}{p99:>11.3}{max:>11.3}{slow:>14.0}",
            point.depth
        )?;
    }
    for carried in WITHIN.iter().filter_map(|&within| carries(&disk.points, within)) {
        let (sectors, depth) = (carried.sectors, carried.depth);
        writeln!(
            f,
            "audits of {sectors} sectors end within {} ms (p99), at depth {depth}",
            carried.within.as_millis()
        )?;
    }
    match recommended_depth(&disk.points, SLOT) {
        Some(depth) => writeln!(f, "recommended depth: {depth}\n"),
        None => writeln!(f),
    }
}

/// Where a drawing goes.
pub fn write_svg(report: &Report, path: &Path) -> std::io::Result<()> {
    std::fs::write(path, report.to_svg())
}

/// Whether a drawing can be written there, before hours are spent on what it shows; leaves things as they are.
pub fn check_svg(path: &Path) -> std::io::Result<()> {
    match File::create_new(path) {
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            File::options().append(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::chart::tests::check_well_formed;
    use super::super::latencies::Latencies;
    use super::*;

    #[test]
    fn a_place_for_the_drawing_is_known_before_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new.svg"), dir.path().join("old.svg"));
        std::fs::write(&old, "as it was").unwrap();
        check_svg(&new).unwrap();
        check_svg(&old).unwrap();
        assert!(!new.exists() && std::fs::read(&old).unwrap() == b"as it was");
        assert!(check_svg(&dir.path().join("not there/new.svg")).is_err());
        assert!(check_svg(dir.path()).is_err());
    }

    fn report(disks: usize) -> Report {
        let point = |depth| {
            let mut latencies = Latencies::default();
            (0..2000 * depth as u64).for_each(|_| latencies.add(Duration::from_micros(500)));
            Point { depth, latencies, took: Duration::from_secs(1), windows: vec![200 * depth as u64; 10] }
        };
        let points = || vec![point(1), point(8)];
        let disk = |n| DiskReport {
            path: format!("/mnt/<{n}>").into(),
            file_bytes: 1 << 30,
            data_bytes: 1 << 29,
            is_own: false,
            read_bytes: 20_480,
            points: points(),
        };
        Report { disks: (0..disks).map(disk).collect(), together: points(), threads: 1, failed: vec![] }
    }

    #[test]
    fn a_report_has_all_figures_in_each_form() {
        let report = report(2);
        let json = report.to_json();
        assert_eq!(
            (&json["paths"][1]["recommended_depth"], &json["paths"][0]["carries"][2]["sectors"]),
            (&json!(8), &json!(15_992))
        );
        assert_eq!(
            (&json["together"][0]["of_each_alone"], &json["paths"][0]["depths"][0]["p99_ms"]),
            (&json!(0.5), &json!(0.5))
        );
        let text = report.to_string();
        for part in [
            "only 512 of 1024 MiB",
            "recommended depth: 8",
            "within 200 ms (p99)",
            "50 %",
            "at the same time",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let drawing = report.to_svg();
        check_well_formed(&drawing);
        assert!(drawing.contains("all at the same time") && drawing.contains("/mnt/&lt;1&gt;"));
        check_well_formed(&Report { disks: vec![], together: vec![], ..report }.to_svg());
    }

    #[test]
    fn an_audit_reads_whole_blocks() {
        assert_eq!([1, 100, 250, 1000].map(audit_bytes), [4096, 4096, 8192, 20_480]);
    }
}
