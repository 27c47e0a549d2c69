//! How many reads at once a farm's disk is worth: measured once, on the bytes of its sectors, and kept in `disk_depth.bin`.
//!
//! Reads of what was never written would not reach the device, so a farm without sectors measures nothing; the first opening that finds
//! one does. Some 0.4 s, two at most however slow the device is. The note is of no other use: one that is damaged, of another
//! device, or cannot be written, costs another measurement.

use super::format::DEPTH_FILE;
use super::{Farm, SectorError, SectorStatus};
use crate::BLOCK_BYTES;
use crate::disk::{Class, DEPTHS, MAX_NOTE_BYTES, enough, note, noted};
use crate::parts::Parts;
use crate::pool::SLAB_BYTES;
use crate::task;
use consensus::constants::{RECORD_CHUNKS, SCALAR_BYTES};
use futures::{StreamExt, TryStreamExt, future, stream};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// About what an audit reads of a sector of full size. All that are under way fit a slab.
const READ_BYTES: usize = 16 * 1024;
const _: () = assert!(READ_BYTES * DEPTHS[DEPTHS.len() - 1] <= SLAB_BYTES);
/// Each depth is tried so often, in turn, and its best time counts: others may use the device now and then.
const ROUNDS: usize = 2;
/// Reads are begun for so long at each depth, and none at all later than this.
const STEP: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(2);

impl Farm {
    /// Lets the farm's disk have as many reads at once as it is worth, as kept or else as measured now. The caller holds no memory of the
    /// pool that it could do without.
    pub async fn settle_depth(&self) {
        self.0.files.disk.settle_depth(self.kept_or_measured()).await;
    }

    async fn kept_or_measured(&self) -> Option<usize> {
        let (path, device) = (self.dir().join(DEPTH_FILE), self.0.files.disk.device_name().to_owned());
        let (of, named) = (path.clone(), device.clone());
        let kept = task::off_executor("farm-depth", move || noted(&read(&of)?, &named)).await.ok().flatten();
        if kept.is_some() {
            return kept;
        }
        let depth = match self.measure_depth().await {
            Ok(measured) => measured?,
            Err(error) => {
                let dir = self.dir().display();
                tracing::debug!("{dir}: how many reads at once its disk is worth is not known yet: {error}");
                return None;
            }
        };
        tracing::info!("{}: its disk gains nothing by more than {depth} reads at once", self.dir().display());
        let note = note(depth, &device);
        let kept = task::off_executor("farm-depth", move || write(&path, &note)).await.flatten();
        if let Err(error) = kept {
            tracing::debug!("{DEPTH_FILE} is not kept: {error}");
        }
        Some(depth)
    }

    /// Reads at random in all sectors, so many at once; none where there are none, or where the device is too slow to be compared.
    async fn measure_depth(&self) -> Result<Option<usize>, SectorError> {
        let of = |(sector, status)| matches!(status, SectorStatus::Plotted { .. }).then_some(sector);
        let plotted: Vec<u16> = (0..).zip(self.statuses()).filter_map(of).collect();
        if plotted.is_empty() {
            return Ok(None);
        }
        let chunks = u32::from(self.layout().pieces_in_sector()) * RECORD_CHUNKS as u32;
        let places = u64::from(chunks) * SCALAR_BYTES as u64 / READ_BYTES as u64 - 1;
        let mut random = blake3::Hasher::new().update(&self.info().public_key).finalize_xof();
        let offsets = std::iter::repeat_with(|| {
            let (mut sector, mut place) = ([0; 4], [0; 8]);
            random.fill(&mut sector);
            random.fill(&mut place);
            let sector = plotted[u32::from_le_bytes(sector) as usize % plotted.len()];
            let start = self.chunk_offset(sector, 0).next_multiple_of(BLOCK_BYTES as u64);
            start + u64::from_le_bytes(place) % places * READ_BYTES as u64
        });
        let parts = Parts::new(&self.0.files.pool, READ_BYTES);
        let (mut offsets, mut rates, started) = (offsets, [0.0f64; DEPTHS.len()], Instant::now());
        for _ in 0..ROUNDS {
            for (rate, depth) in rates.iter_mut().zip(DEPTHS) {
                if started.elapsed() < LIMIT {
                    *rate = rate.max(self.reads_per_s(&parts, &mut offsets, depth).await?);
                }
            }
        }
        Ok(enough(&rates))
    }

    async fn reads_per_s(
        &self,
        parts: &Parts,
        offsets: &mut impl Iterator<Item = u64>,
        depth: usize,
    ) -> Result<f64, SectorError> {
        let (files, started) = (&self.0.files, Instant::now());
        let read = |offset| async move {
            let buf = parts.take().await?;
            let buf =
                files.disk.read(Class::AuditRead, files.plot_file(), offset, buf, 0..READ_BYTES).await?;
            parts.give(buf);
            Ok::<_, SectorError>(())
        };
        let in_time = stream::iter(offsets).take_while(|_| future::ready(started.elapsed() < STEP));
        let reads = in_time.map(read).buffer_unordered(depth);
        let reads = reads.try_fold(0u32, |done, ()| future::ready(Ok(done + 1))).await?;
        // A clock that does not move makes no rate.
        Ok(f64::from(reads) / started.elapsed().as_secs_f64())
    }
}

/// What is there, as far as it can be a note. Blocks.
fn read(path: &Path) -> Option<Vec<u8>> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut note = Vec::new();
    let most = MAX_NOTE_BYTES as u64 + 1;
    fs::File::open(path).ok()?.take(most).read_to_end(&mut note).ok()?;
    Some(note)
}

/// In place of what is there, whole or not at all. Blocks.
fn write(path: &Path, note: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("bin.new");
    fs::write(&new, note)?;
    fs::rename(&new, path)
}
