//! What a GPU takes for plotting: sustained speed, single kernels, copies, and what part of the card's floor that is.
//!
//! Owns: what is measured, and the report of it. Never: figures of the kernel shim without saying so.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use clap::ValueEnum;
use consensus::CpuLevel;
use engine::threads::ThreadWorkers;
use gpu::card::{Budget, Wanted};
use gpu::device::Device;
use gpu::device::cuda::{Card, cards};
use gpu::measure::{Copies, Point, Stages, SweepOptions, best, copies, floor_ms, stages, sweep};
use serde_json::{Value, json};

use cluster::cards::{CardName, open_cards};

/// Threads that check records and put sectors out.
const THREADS: usize = 2;
/// Times that each stage is measured on a GPU.
const STAGE_RUNS: usize = 11;
const SECONDS_OF_DAY: u64 = 86_400;

/// What runs the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// A GPU
    Gpu,
    /// The processor, to see that the benchmark works: its figures say nothing of a GPU
    #[cfg(feature = "kernel-shim")]
    KernelShim,
}

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// What runs the kernels.
    pub backend: Backend,
    /// Which card; none: the first that can be used.
    pub card: Option<CardName>,
    /// Records in flight; none: the best of the sweep, or what a plot-server would take.
    pub concurrency: Option<usize>,
    /// Counts of records in flight that are compared first; may be empty.
    pub sweep: Vec<usize>,
    /// Sectors that the sustained speed is measured over.
    pub sectors: usize,
    /// Pieces of each.
    pub pieces_in_sector: u16,
    /// Instructions that records are checked with.
    pub level: CpuLevel,
}

/// Why a GPU cannot be measured; one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GpuBenchmarkError(String);

impl GpuBenchmarkError {
    fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// All figures of one device.
pub struct Report {
    backend: &'static str,
    device: String,
    /// None for the shim.
    card: Option<Card>,
    unix_s: u64,
    pieces_in_sector: u16,
    sweep: Vec<Point>,
    sustained: Point,
    stages: Stages,
    copies: Copies,
}

/// Measures a device. `progress` is told what comes next.
///
/// # Errors
/// There is no such card, or it fails.
pub fn measure(options: &Options, progress: &dyn Fn(&str)) -> Result<Report, GpuBenchmarkError> {
    let (device, card) = open(options)?;
    progress("copies");
    let copies = copies(&*device).map_err(GpuBenchmarkError::new)?;
    let sweep_options = SweepOptions {
        pieces_in_sector: options.pieces_in_sector,
        threads: ThreadWorkers::unbound(THREADS),
        level: options.level,
    };
    let points = |counts: &[usize], records: usize| {
        sweep(&device, counts, records, &sweep_options).map_err(GpuBenchmarkError::new)
    };
    let records_in_sector = usize::from(options.pieces_in_sector);
    let swept = if options.sweep.is_empty() {
        Vec::new()
    } else {
        progress("sweep of GPU_CONCURRENCY");
        points(&options.sweep, records_in_sector)?
    };
    let concurrency = match (options.concurrency, swept.is_empty()) {
        (Some(concurrency), _) => concurrency,
        (None, false) => best(&swept),
        (None, true) => usual_concurrency(&*device, options.pieces_in_sector)?,
    };
    progress("single kernels");
    let runs = if card.is_some() { STAGE_RUNS } else { 1 };
    let stages = stages(&device, concurrency, runs).map_err(GpuBenchmarkError::new)?;
    progress("sustained speed");
    let sustained = points(&[concurrency], options.sectors * records_in_sector)?[0];
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Ok(Report {
        backend: if card.is_some() { "gpu" } else { "shim" },
        device: device.name().to_owned(),
        card,
        unix_s: since_1970.map_or(0, |time| time.as_secs()),
        pieces_in_sector: options.pieces_in_sector,
        sweep: swept,
        sustained,
        stages,
        copies,
    })
}

/// The device, and the card that it is.
fn open(options: &Options) -> Result<(Arc<dyn Device>, Option<Card>), GpuBenchmarkError> {
    match options.backend {
        Backend::Gpu => {
            let named: Vec<_> = options.card.into_iter().collect();
            let opened = open_cards(&named).map_err(GpuBenchmarkError::new)?.swap_remove(0);
            let cards = cards().map_err(GpuBenchmarkError::new)?;
            let is_opened = |card: &Card| opened.pci_bus_id == Some(card.pci.to_string());
            let card = cards.into_iter().find(is_opened);
            let card = card.ok_or_else(|| GpuBenchmarkError(format!("{opened:?} has gone away")))?;
            Ok((opened.device, Some(card)))
        }
        #[cfg(feature = "kernel-shim")]
        Backend::KernelShim => Ok((crate::conformance::kernel_shim().map_err(GpuBenchmarkError)?, None)),
    }
}

/// What a plot-server takes unless it is told.
fn usual_concurrency(device: &dyn Device, pieces_in_sector: u16) -> Result<usize, GpuBenchmarkError> {
    let wanted = Wanted { concurrency: None, sessions: 2, pieces_in_sector, piece_slabs: 1 };
    let memory = device.memory().map_err(GpuBenchmarkError::new)?;
    let budget = Budget::plan(device.layout(), memory, &wanted).map_err(GpuBenchmarkError::new)?;
    Ok(budget.concurrency)
}

impl Report {
    /// Least milliseconds of a record, and the part of them in what it takes; none for the shim.
    fn floor(&self) -> Option<(f64, f64)> {
        let card = self.card.as_ref()?;
        let floor_ms = floor_ms(card.multiprocessors, card.clock_mhz);
        Some((floor_ms, floor_ms / self.sustained.record_ms()))
    }

    fn stages_ms(&self) -> f64 {
        self.stages.stages.iter().map(|stage| stage.record_ms).sum()
    }

    /// `2026-11-24 02:50 UTC`.
    fn date(&self) -> String {
        let (year, month, day) = civil(self.unix_s / SECONDS_OF_DAY);
        let minutes = self.unix_s % SECONDS_OF_DAY / 60;
        format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
    }

    /// All of it as JSON; what the shim has not is null.
    pub fn to_json(&self) -> Value {
        let stage = |stage: &gpu::measure::Stage| json!({ "name": stage.name, "record_ms": stage.record_ms });
        let sweep: Vec<_> = self.sweep.iter().map(point_json).collect();
        json!({
            "backend": self.backend,
            "device": self.device,
            "card": self.card.as_ref().map(card_json),
            "date": self.date(),
            "unix_s": self.unix_s,
            "pieces_in_sector": self.pieces_in_sector,
            "sustained": point_json(&self.sustained),
            "floor_ms": self.floor().map(|(floor_ms, _)| floor_ms),
            "floor_share": self.floor().map(|(_, share)| share),
            "best_concurrency": (!sweep.is_empty()).then(|| best(&self.sweep)),
            "sweep": sweep,
            "stages": {
                "records_a_launch": self.stages.records,
                "stages": self.stages.stages.iter().map(stage).collect::<Vec<_>>(),
                "sum_ms": self.stages_ms(),
            },
            "proof_table_ms": self.stages.table_ms,
            "pcie": {
                "up_gb_s": self.copies.up_gb_s,
                "down_gb_s": self.copies.down_gb_s,
                "registered": self.copies.registered,
            },
        })
    }
}

fn point_json(point: &Point) -> Value {
    json!({
        "gpu_concurrency": point.concurrency,
        "records": point.records,
        "records_per_s": point.records_per_s,
        "record_ms": point.record_ms(),
        "sectors_of_1000_per_min": point.sectors_per_min(),
        "idle_share": point.idle_share,
    })
}

fn card_json(card: &Card) -> Value {
    json!({
        "name": card.name,
        "pci": card.pci.to_string(),
        "compute_capability": format!("{}.{}", card.capability.0, card.capability.1),
        "multiprocessors": card.multiprocessors,
        "clock_mhz": card.clock_mhz,
        "memory_bytes": card.memory_bytes,
        "driver": card.driver_version,
        "cuda": format!("{}.{}", card.cuda_version.0, card.cuda_version.1),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}", self.device, self.date())?;
        match &self.card {
            None => {
                writeln!(f, "SHIM: the processor ran the kernels. These are not the figures of any GPU.")?;
            }
            Some(card) => writeln!(
                f,
                "{} multiprocessors at {} MHz, driver {}, CUDA {}.{}",
                card.multiprocessors,
                card.clock_mhz,
                card.driver_version.as_deref().unwrap_or("unknown"),
                card.cuda_version.0,
                card.cuda_version.1
            )?,
        }
        writeln!(f, "\nGPU_CONCURRENCY  records/s  ms a record  sectors of 1000/min   idle")?;
        self.sweep.iter().try_for_each(|point| write_point(f, point, "sweep"))?;
        write_point(f, &self.sustained, "sustained")?;
        if let Some((floor_ms, share)) = self.floor() {
            writeln!(
                f,
                "floor of this card {floor_ms:.3} ms a record: {:.0} % of it reached",
                share * 100.0
            )?;
        }
        writeln!(f, "\nstage          ms a record ({} records a launch)", self.stages.records)?;
        for stage in &self.stages.stages {
            writeln!(f, "{:<13} {:>9.4}", stage.name, stage.record_ms)?;
        }
        writeln!(f, "{:<13} {:>9.4}", "together", self.stages_ms())?;
        writeln!(f, "\ntables of one proof {:.2} ms", self.stages.table_ms)?;
        let Copies { up_gb_s, down_gb_s, registered } = self.copies;
        let memory = if registered { "registered" } else { "not registered: slow" };
        write!(f, "PCIe {up_gb_s:.1} GB/s up, {down_gb_s:.1} GB/s down ({memory})")
    }
}

fn write_point(f: &mut fmt::Formatter<'_>, point: &Point, kind: &str) -> fmt::Result {
    let Point { concurrency, records, records_per_s, idle_share } = *point;
    let (record_ms, sectors, idle) = (point.record_ms(), point.sectors_per_min(), idle_share * 100.0);
    writeln!(
        f,
        "{concurrency:>15} {records_per_s:>10.2} {record_ms:>12.3} {sectors:>20.3} {idle:>5.1} %  {kind}, {records} records"
    )
}

/// Year, month and day of a day since 1970-01-01.
fn civil(day: u64) -> (u64, u64, u64) {
    let (mut year, mut day) = (1970, day);
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    (year, month as u64 + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpu::measure::Stage;

    fn report(card: Option<Card>) -> Report {
        let point = Point { concurrency: 16, records: 20_000, records_per_s: 2000.0, idle_share: 0.04 };
        let stages =
            vec![Stage { name: "table 1", record_ms: 0.125 }, Stage { name: "table 2", record_ms: 0.25 }];
        Report {
            backend: if card.is_some() { "gpu" } else { "shim" },
            device: "Test card".to_owned(),
            card,
            unix_s: 1_795_488_600,
            pieces_in_sector: 1000,
            sweep: vec![Point { concurrency: 8, ..point }, point],
            sustained: point,
            stages: Stages { records: 16, stages, table_ms: 2.5 },
            copies: Copies { up_gb_s: 50.0, down_gb_s: 49.0, registered: true },
        }
    }

    fn card() -> Card {
        Card {
            pci: "3b:00.0".parse().unwrap(),
            ordinal: 0,
            uuid: "GPU-1".to_owned(),
            name: "NVIDIA H200".to_owned(),
            capability: (9, 0),
            multiprocessors: 132,
            clock_mhz: 1980,
            memory_bytes: 150_000_000_000,
            cuda_version: (12, 4),
            driver_version: None,
        }
    }

    #[test]
    fn a_report_of_a_card_has_its_floor() {
        let json = report(Some(card())).to_json();
        assert_eq!((&json["backend"], &json["best_concurrency"]), (&json!("gpu"), &json!(8)));
        assert_eq!(
            (&json["stages"]["sum_ms"], &json["card"]["pci"]),
            (&json!(0.375), &json!("0000:3b:00.0"))
        );
        assert_eq!(json["sustained"]["sectors_of_1000_per_min"], json!(120.0));
        let share = json["floor_share"].as_f64().unwrap();
        assert!((share - 0.753).abs() < 0.001, "{share}");
        let text = report(Some(card())).to_string();
        assert!(text.contains("75 % of it reached") && !text.contains("SHIM"), "{text}");
    }

    #[test]
    fn a_report_of_the_shim_says_so_and_has_no_floor() {
        let json = report(None).to_json();
        assert_eq!((&json["backend"], &json["card"]), (&json!("shim"), &Value::Null));
        assert_eq!((&json["floor_ms"], &json["floor_share"]), (&Value::Null, &Value::Null));
        let text = report(None).to_string();
        assert!(text.contains("SHIM") && !text.contains("floor"), "{text}");
    }

    #[test]
    fn dates() {
        assert_eq!(report(None).date(), "2026-11-24 02:50 UTC");
        let days =
            [(0, (1970, 1, 1)), (11_016, (2000, 2, 29)), (11_017, (2000, 3, 1)), (20_818, (2026, 12, 31))];
        days.into_iter().for_each(|(day, date)| assert_eq!(civil(day), date));
    }
}
