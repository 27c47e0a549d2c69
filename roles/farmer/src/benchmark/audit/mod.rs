//! Audits of farms as a plot-client makes them, at several depths, past the page cache and through it.
//!
//! Each farm is on an executor of its own and all are audited at the same time, as in a slot. The challenges are drawn by the
//! network's rule; that they come from no slot makes no difference to the work.
//!
//! Owns: the figures and their report. Never: changing a farm. Only where writing beside audits is asked for, a file without a
//! name is written in the farm's directory.

mod compare;
mod load;
mod options;
mod report;
mod slots;

pub use self::options::{Options, challenge};
pub use self::report::{FarmReport, Way};

use self::compare::{HashNs, plain_ns};
use self::load::{LOAD_SLABS, Load};
use self::slots::{Slots, audit_slots};
use super::farms::{FARM_SLABS, FarmFailed, FarmsError, Looked};
use cluster::plot_client::{MAX_READS, sectors_at_once};
use consensus::constants::MAX_PIECES_IN_SECTOR;
use engine::farm::s_bucket_buf_bytes;
use engine::pool::{Pool, SLAB_BYTES};
use engine::{Access, Disk, Executors, ExecutorsConfig, Limits, Local};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most reads of a farm at once.
pub const MAX_DEPTH: usize = 1024;
/// For operations to end once all is measured.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// What a farm came to, or why it has no figures.
pub type Measured = (PathBuf, Result<FarmReport, FarmFailed>);

/// Audits all farms at the same time. One that fails leaves the others alone.
///
/// # Errors
/// The host gives no buffers or no rings.
pub fn measure(options: &Options) -> Result<Vec<Measured>, FarmsError> {
    let depth = options.depths.iter().copied().max().unwrap_or(1);
    let part_bytes = s_bucket_buf_bytes(MAX_PIECES_IN_SECTOR);
    let load_slabs = if options.written_bytes.is_some() { LOAD_SLABS } else { 0 };
    let each = FARM_SLABS + at_once(depth).div_ceil(SLAB_BYTES / part_bytes) + load_slabs;
    let slabs = each * options.paths.len().max(1);
    let pool = Pool::new(slabs, slabs + at_once(depth) * options.paths.len())?;
    let cores = vec![None; options.paths.len().max(1)];
    let executors =
        Executors::start(&ExecutorsConfig { name: "audit".into(), cores, ring_depth: depth.max(64) }, &pool)?;
    let running: Vec<_> = (0..)
        .zip(&options.paths)
        .map(|(index, path)| {
            let (path, options) = (path.clone(), options.clone());
            executors.spawner(index).spawn(move |local| async move { farm(&local, &path, &options).await })
        })
        .collect();
    let measured = running
        .into_iter()
        .zip(&options.paths)
        .map(|(run, path)| (path.clone(), run.wait().map_err(FarmFailed::from).flatten()));
    let mut measured: Vec<_> = measured.collect();
    // All audits have been waited for.
    let _ = executors.shutdown(SHUTDOWN_LIMIT);
    let hash_ns = HashNs::measure(options.level);
    measured
        .iter_mut()
        .filter_map(|(_, report)| report.as_mut().ok())
        .for_each(|report| report.hash_ns = hash_ns);
    Ok(measured)
}

/// As a plot-client does it, also at depths that it does not use.
fn at_once(depth: usize) -> usize {
    depth.max(sectors_at_once(depth))
}

/// One farm, one way after the other.
async fn farm(local: &Local, path: &Path, options: &Options) -> Result<FarmReport, FarmFailed> {
    let depth = options.depths.iter().copied().max().unwrap_or(1);
    let limits = Limits { depth: depth.max(Limits::default().depth), ..Limits::default() };
    let accesses = if options.cached { &[Access::Read, Access::ReadCached][..] } else { &[Access::Read] };
    let mut report: Option<FarmReport> = None;
    for &access in accesses {
        let disk = Disk::new(local.ring().clone(), limits);
        let looked = Looked::open(local, &disk, path, access).await?;
        let buffers = looked.audit_buffers(local, at_once(depth)).await?;
        let mut ways = Vec::new();
        let mut run = async |depth: usize, load: Option<&Load>| {
            let way =
                Way { access, depth, is_written: load.is_some(), written_bytes: 0, slots: Slots::default() };
            tracing::info!("{}: {way}", path.display());
            let before = load.map_or(0, Load::written_bytes);
            disk.set_depth(depth);
            let slots = audit_slots(&looked, &buffers, at_once(depth), options).await;
            let written_bytes = load.map_or(0, Load::written_bytes) - before;
            ways.push(Way { slots, written_bytes, ..way });
        };
        if let (Access::ReadCached, Some(challenges)) = (access, options.challenges) {
            // What is in the cache is compared, not how it comes there.
            let warm = Options { slots: u32::try_from(challenges).ok(), interval: None, ..options.clone() };
            audit_slots(&looked, &buffers, at_once(depth), &warm).await;
        }
        for &depth in &options.depths {
            run(depth, None).await;
        }
        let cached_plain_ns = match access {
            Access::ReadCached => plain_ns(&looked, &buffers, options).await?,
            _ => None,
        };
        if let (Access::Read, Some(bytes)) = (access, options.written_bytes) {
            let load = Load::start(local, &disk, path, bytes).await?;
            for &depth in &options.depths {
                run(depth, Some(&load)).await;
            }
            load.stop().await?;
        }
        let of_farm = report.get_or_insert_with(|| FarmReport {
            path: path.to_owned(),
            is_in_use: looked.farm.is_in_use(),
            pieces_in_sector: looked.farm.layout().pieces_in_sector(),
            sectors: looked.plotted.len() as u64,
            faults: looked.faults as u64,
            farmer_depth: MAX_READS,
            hash_ns: HashNs::default(),
            cached_plain_ns: None,
            ways: Vec::new(),
        });
        of_farm.cached_plain_ns = of_farm.cached_plain_ns.or(cached_plain_ns);
        of_farm.ways.append(&mut ways);
    }
    report.ok_or(FarmFailed::Empty)
}
