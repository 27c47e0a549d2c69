//! What a proof needs from a farm: the record off the disk, by two ways and by the one that the farm takes, and the proof.
//!
//! Owns: the figures and their report. Never: changing a farm, or telling anyone of a proof.

use super::farms::{FARM_SLABS, FarmFailed, FarmsError, Looked};
use super::latencies::{Latencies, ms};
use consensus::CpuLevel;
use consensus::kzg::{Kzg, insecure};
use consensus::sector::ContentsMap;
use engine::farm::{ReadCost, SectorError, StoredRecord};
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use engine::{Access, Class, Disk, Executors, ExecutorsConfig, Limits, Local};
use gpu::cpu::{CpuProver, CpuProverOptions};
use gpu::{ProofRequest, Prover};
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Slabs beside an open farm's: a contents map, a record, what is measured.
const PROOF_SLABS: usize = 4;
/// Time that a solution has.
const FARMING_TIMEOUT: Duration = Duration::from_secs(4);
/// Time that the prover is given, so that late proofs have a figure, too.
const PATIENCE: Duration = Duration::from_secs(600);
/// S-buckets of a sector that are tried until one holds an encoded chunk.
const TRIES: u32 = 1000;
/// For operations to end once all is measured.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directories of farms.
    pub paths: Vec<PathBuf>,
    /// Records of each farm.
    pub records: u16,
    /// Other seeds, other records.
    pub seed: u64,
    /// Instructions that proofs are made with.
    pub level: CpuLevel,
}

/// A way to read a record, and what it took.
struct Way {
    name: &'static str,
    times: Latencies,
    reads: u64,
    read_bytes: u64,
    /// Proofs that would have been in time.
    in_time: u64,
    /// Reading and proving.
    totals: Latencies,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            times: Latencies::default(),
            reads: 0,
            read_bytes: 0,
            in_time: 0,
            totals: Latencies::default(),
        }
    }
}

/// All figures of a farm.
pub struct FarmReport {
    path: PathBuf,
    is_in_use: bool,
    pieces_in_sector: u16,
    cost: ReadCost,
    ways: [Way; 3],
    maps: Latencies,
    proofs: Latencies,
    errors: u64,
    error: Option<String>,
}

/// What a farm came to, or why it has no figures.
pub type Measured = (PathBuf, Result<FarmReport, FarmFailed>);

/// Measures one farm after the other, as the proofs of a plot-client's thread are.
///
/// # Errors
/// The host gives no buffers, no rings or no threads.
pub fn measure(options: &Options) -> Result<Vec<Measured>, FarmsError> {
    let pool = Pool::new(FARM_SLABS + PROOF_SLABS, 64)?;
    let config =
        ExecutorsConfig { name: "proofs".into(), cores: vec![None], ring_depth: Limits::default().depth };
    let executors = Executors::start(&config, &pool)?;
    let kzg = Kzg::from_parameters_at(options.level, &insecure::parameters());
    // Whose secret it is makes no difference to the work.
    let kzg = Arc::new(kzg.expect("this program's own parameters are valid"));
    let threads = ThreadWorkers::unbound(1);
    let prover = CpuProver::new(&CpuProverOptions { threads, level: options.level, queue_limit: 1 }, kzg);
    let prover = Arc::new(prover.map_err(|error| FarmsError::Prover(error.to_string()))?);
    let measured = options.paths.iter().map(|path| {
        let (prover, options, of) = (prover.clone(), options.clone(), path.clone());
        let run = executors
            .spawner(0)
            .spawn(move |local| async move { farm(&local, &of, &options, &prover).await });
        (path.clone(), run.wait().map_err(FarmFailed::from).flatten())
    });
    let measured = measured.collect();
    // All reads have been waited for.
    let _ = executors.shutdown(SHUTDOWN_LIMIT);
    Ok(measured)
}

/// One farm, record after record.
async fn farm(
    local: &Local,
    path: &Path,
    options: &Options,
    prover: &CpuProver,
) -> Result<FarmReport, FarmFailed> {
    let disk = Disk::new(local.ring().clone(), Limits::default());
    let looked = Looked::open(local, &disk, path, Access::Read).await?;
    let mut random = Random::new(options.seed, path);
    let cost = looked.farm.read_cost(Class::ProofRead, looked.plotted[0].0).await?;
    let mut report = FarmReport {
        path: path.to_owned(),
        is_in_use: looked.farm.is_in_use(),
        pieces_in_sector: looked.farm.layout().pieces_in_sector(),
        cost,
        ways: ["chunks, near ones together", "whole sector in order", "as this farm reads"].map(Way::new),
        maps: Latencies::default(),
        proofs: Latencies::default(),
        errors: 0,
        error: None,
    };
    for number in 0..options.records {
        tracing::info!("{}: record {} of {}", path.display(), number + 1, options.records);
        if let Err(error) = report.measure_record(&looked, &mut random, prover, number).await {
            report.errors += 1;
            report.error.get_or_insert(error);
        }
    }
    Ok(report)
}

impl FarmReport {
    /// Reads a record by every way and proves one of its chunks.
    async fn measure_record(
        &mut self,
        looked: &Looked,
        random: &mut Random,
        prover: &CpuProver,
        number: u16,
    ) -> Result<(), String> {
        let text = |error: SectorError| error.to_string();
        let (sector, history_size) = looked.plotted[(random.next() % looked.plotted.len() as u64) as usize];
        let (farm, begun) = (&looked.farm, Instant::now());
        let map = farm.read_contents_map(Class::ProofRead, sector).await.map_err(text)?;
        let (piece_offset, s_bucket) = chunk(&map, random).ok_or("the contents map has no encoded chunks")?;
        drop(map);
        farm.read_record_metadata(Class::ProofRead, sector, piece_offset).await.map_err(text)?;
        let found = begun.elapsed();
        let mut record: Option<StoredRecord> = None;
        let costs = [ReadCost::CHUNKS, ReadCost::WHOLE, self.cost];
        let mut took = [Duration::ZERO; 3];
        // No way is always the first, for which a drive's own cache is empty.
        for nth in 0..costs.len() {
            let way = (nth + usize::from(number)) % costs.len();
            drop(record.take());
            let begun = Instant::now();
            let read = farm.read_record_at(Class::ProofRead, sector, piece_offset, costs[way]).await;
            let (stored, reads) = read.map_err(text)?;
            took[way] = begun.elapsed();
            self.ways[way].reads += reads.reads as u64;
            self.ways[way].read_bytes += reads.bytes;
            record = Some(stored);
        }
        let record = record.ok_or("no way to read")?;
        let seed = farm.sector_id(sector, history_size).evaluation_seed(piece_offset);
        let (record, bitfield, begun) = (record.chunks.freeze(), record.bitfield, Instant::now());
        let request = ProofRequest { seed, record, bitfield, s_bucket, deadline: begun + PATIENCE };
        let proved = prover.prove(request).await.map_err(|error| error.to_string());
        let proving = begun.elapsed();
        self.maps.add(found);
        for (way, took) in self.ways.iter_mut().zip(took) {
            way.times.add(took);
            // A proof that fails has no time.
            if proved.is_ok() {
                let total = found + took + proving;
                way.totals.add(total);
                way.in_time += u64::from(total <= FARMING_TIMEOUT);
            }
        }
        proved.map(|_| self.proofs.add(proving))
    }

    /// The faster of the two ways.
    fn best(&self) -> Option<&Way> {
        let two = self.ways[..2].iter().filter(|way| way.times.count() > 0);
        two.min_by_key(|way| way.times.percentile(50))
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let way = |way: &Way| {
            let records = way.times.count().max(1);
            json!({
                "way": way.name,
                "p50_ms": way.times.percentile_ms(50),
                "max_ms": way.times.max_ms(),
                "reads_a_record": way.reads / records,
                "read_bytes_a_record": way.read_bytes / records,
                "total_p50_ms": way.totals.percentile_ms(50),
                "total_max_ms": way.totals.max_ms(),
                "in_time": way.in_time,
            })
        };
        json!({
            "path": self.path,
            "in_use": self.is_in_use,
            "pieces_in_sector": self.pieces_in_sector,
            "records": self.maps.count(),
            "read_us": self.cost.read_us,
            "mb_per_s": self.cost.bytes_per_us,
            "gap_bytes": self.cost.worth_bytes(),
            "map_p50_ms": self.maps.percentile_ms(50),
            "map_max_ms": self.maps.max_ms(),
            "ways": self.ways.iter().map(way).collect::<Vec<_>>(),
            "best": self.best().map(|way| way.name),
            "proofs": self.proofs.count(),
            "proof_p50_ms": self.proofs.percentile_ms(50),
            "proof_max_ms": self.proofs.max_ms(),
            "farming_timeout_ms": ms(FARMING_TIMEOUT),
            "errors": self.errors,
            "first_error": self.error,
        })
    }
}

impl fmt::Display for FarmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, records, pieces) = (self.path.display(), self.maps.count(), self.pieces_in_sector);
        writeln!(f, "{path}: {records} records of sectors of {pieces} pieces")?;
        if self.is_in_use {
            writeln!(
                f,
                "in use by another process, which reads and writes meanwhile: the figures are what it leaves"
            )?;
        }
        let ReadCost { read_us, bytes_per_us } = self.cost;
        let gap = self.cost.worth_bytes();
        writeln!(
            f,
            "a read takes {read_us:.0} us, {bytes_per_us:.0} MB/s: gaps up to {gap} bytes are read over"
        )?;
        writeln!(
            f,
            "contents map and metadata: {:.1} ms (p50), {:.1} ms (max)",
            self.maps.percentile_ms(50),
            self.maps.max_ms()
        )?;
        writeln!(
            f,
            "{:<28}{:>10}{:>10}{:>9}{:>9}{:>16}{:>10}",
            "record", "p50 ms", "max ms", "reads", "MiB", "with proof ms", "in time"
        )?;
        for way in &self.ways {
            let each = way.times.count().max(1);
            let (p50, max) = (way.times.percentile_ms(50), way.times.max_ms());
            let mib = (way.read_bytes / each) as f64 / f64::from(1 << 20);
            let in_time = format!("{} of {}", way.in_time, way.totals.count());
            let total = way.totals.percentile_ms(50);
            writeln!(
                f,
                "{:<28}{p50:>10.1}{max:>10.1}{:>9}{mib:>9.1}{total:>16.1}{in_time:>10}",
                way.name,
                way.reads / each
            )?;
        }
        if self.proofs.count() > 0 {
            writeln!(
                f,
                "proof on one thread: {:.1} ms (p50), {:.1} ms (max)",
                self.proofs.percentile_ms(50),
                self.proofs.max_ms()
            )?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "{} records came to nothing, the first: {error}", self.errors)?;
        }
        if let Some(best) = self.best() {
            writeln!(f, "best of the two: {}", best.name)?;
        }
        Ok(())
    }
}

/// An encoded chunk of an s-bucket that holds any: whose it is, and which s-bucket.
fn chunk(map: &ContentsMap, random: &mut Random) -> Option<(u16, u16)> {
    let pieces = map.records().len() as u64;
    (0..TRIES).find_map(|_| {
        let s_bucket = random.next() as u16;
        // As an audit would find it: any chunk there is.
        let first = (random.next() % pieces) as usize;
        let (piece_offset, is_encoded) =
            map.record_at(s_bucket, first).or_else(|| map.record_at(s_bucket, 0))?;
        is_encoded.then_some((piece_offset, s_bucket))
    })
}

/// Numbers from a seed and the farm's path.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: u64, path: &Path) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(b"benchmark prove")
            .update(&seed.to_le_bytes())
            .update(path.as_os_str().as_encoded_bytes());
        Self(hasher.finalize_xof())
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
