//! A sector's way out of a device.
//!
//! ```text
//!   host: contents map, metadata ─copy─▶ window ◀─ assemble ◀─ records of the session
//!                                          │ hash_spans ─▶ chaining values ─▶ host: checksum
//!                                          └─copy─▶ slabs, as the consumer takes them
//! ```
//! While one window leaves, the other is filled. Owns: the sector's bytes in on-disk order (PROTOCOL 5.3). Never: blocks a feeder.
#![allow(unsafe_code)]

use super::area::{Area, Exit, WINDOWS};
use super::card::Card;
use super::pipeline::launch;
use super::place::Place;
use super::rooms::Lease;
use super::spans::SpanHasher;
use super::windows::{Gather, Part, SectorBytes, WINDOW_BYTES, WINDOW_SPANS};
use crate::SectorPlan;
use crate::device::{DeviceAddress, DeviceError};
use crate::finished::{Output, OutputSlab};
use crate::interface::{AssembleArgs, HashArgs, Kernel, SPAN_BYTES};
use crate::session::EncodedRecord;
use blake3::CHUNK_LEN;
use consensus::constants::HASH_SIZE;
use consensus::sector::{ContentsMap, SectorMetadata};
use engine::pool::SLAB_BYTES;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

/// Bytes of the chaining values of a window.
const VALUES_BYTES: usize = WINDOW_SPANS * HASH_SIZE;

/// Makes the sector's bytes, for as long as the device is in service.
pub(super) fn put_together(
    card: &Card,
    lease: &Arc<Lease>,
    plan: SectorPlan,
    records: &[EncodedRecord<Place>],
    output: &mut Output,
) {
    let map = ContentsMap::new(records.iter().map(|record| record.bitfield.clone()).collect());
    let s_bucket_sizes = map.s_bucket_sizes();
    let host = HostParts {
        map: map.encode(),
        metadata: records.iter().flat_map(|record| record.metadata.to_bytes()).collect(),
        starts: starts(&s_bucket_sizes),
    };
    let SectorPlan { sector_index, history_size, pieces_in_sector, .. } = plan;
    output.tell(SectorMetadata { sector_index, pieces_in_sector, s_bucket_sizes, history_size });
    let area = lease.area();
    let exit = area.exit.lock().expect("nothing panics while a sector leaves");
    let mut leaving = Leaving { exit, card, area, sector: SectorBytes::new(pieces_in_sector), host };
    if let Err(error) = leaving.run(output) {
        card.retire(error);
    }
}

/// Chunks of the sector before each s-bucket, and in all.
pub(crate) fn starts(s_bucket_sizes: &[u16]) -> Vec<u32> {
    let mut start = 0;
    let after = s_bucket_sizes.iter().map(|size| {
        start += u32::from(*size);
        start
    });
    std::iter::once(0).chain(after).collect()
}

/// What the host knows of a sector.
#[derive(Default)]
struct HostParts {
    /// Contents map and its hash.
    map: Vec<u8>,
    /// Record metadata.
    metadata: Vec<u8>,
    starts: Vec<u32>,
}

/// A sector on its way out. Its parts, the area and the exit stay as they are until both streams were waited for: this is what all unsafe
/// blocks here stand on.
struct Leaving<'a> {
    exit: MutexGuard<'a, Exit>,
    card: &'a Card,
    area: &'a Area,
    sector: SectorBytes,
    host: HostParts,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Exit { streams, staging } = &mut *self.exit;
        // A device that does not say that it is done may still use them.
        if streams.iter().map(|stream| stream.wait()).fold(false, |failed, waited| failed | waited.is_err()) {
            staging.leave();
            std::mem::forget(std::mem::take(&mut self.host));
        }
    }
}

impl Leaving<'_> {
    /// Ends early when nobody wants the sector any more, or the device is out of service.
    fn run(&mut self, output: &Output) -> Result<(), DeviceError> {
        self.send_starts()?;
        let windows: Vec<_> = self.sector.windows().collect();
        let mut checksum = SpanHasher::default();
        self.fill(0, &windows[0])?;
        for (number, window) in windows.iter().enumerate() {
            if let Some(next) = windows.get(number + 1) {
                self.fill((number + 1) % WINDOWS, next)?;
            }
            self.exit.streams[number % WINDOWS].wait()?;
            self.take_values(number % WINDOWS, window, &mut checksum);
            if !self.empty(number % WINDOWS, window, &mut checksum, output)? {
                return Ok(());
            }
        }
        self.card.sectors.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn send_starts(&self) -> Result<(), DeviceError> {
        let (stream, starts) = (&self.exit.streams[0], &self.host.starts);
        let bytes = size_of_val(&starts[..]);
        // SAFETY: the starts stay as they are until the wait, and the area has room for as many.
        unsafe { stream.copy_in(self.area.starts(), starts.as_ptr().cast(), bytes)? };
        stream.wait()
    }

    /// Begins to make the bytes of a window and the chaining values of its spans.
    fn fill(&mut self, slot: usize, window: &Range<usize>) -> Result<(), DeviceError> {
        if let Some(part) = self.sector.contents_map(window) {
            self.send(slot, &part, &self.host.map)?;
        }
        if let Some(part) = self.sector.metadata(window) {
            self.send(slot, &part, &self.host.metadata)?;
        }
        if let Some(part) = self.sector.chunks(window) {
            self.assemble(slot, &part)?;
        }
        let spans = window.len() / SPAN_BYTES;
        if spans > 0 { self.hash(slot, window, spans) } else { Ok(()) }
    }

    fn send(&self, slot: usize, Part { at, range }: &Part, bytes: &[u8]) -> Result<(), DeviceError> {
        let bytes = &bytes[range.clone()];
        let to = self.in_window(slot, *at, bytes.len());
        // SAFETY: the host's parts stay as they are, see `Leaving`; the range lies in the window, which is used on this stream only.
        unsafe { self.exit.streams[slot].copy_in(to, bytes.as_ptr(), bytes.len()) }
    }

    fn assemble(&self, slot: usize, Part { at, range }: &Part) -> Result<(), DeviceError> {
        let gather = Gather::new(range, &self.host.starts);
        let args = AssembleArgs {
            records: self.area.records(),
            words: self.area.words(),
            ranks: self.area.ranks(),
            starts: self.area.starts(),
            out: self.in_window(slot, *at, range.len()),
            column_stride: self.area.column_stride() as u64,
            records_count: u32::try_from(self.host.map.len() / 8192)
                .expect("a sector has at most 1000 records"),
            first_s_bucket: gather.first_s_bucket,
            first_chunk: gather.first_chunk,
            chunks: gather.chunks,
        };
        // SAFETY: all records of the sector are encoded and their columns written; the starts fit their bitfields; the chunks fit the window.
        unsafe { launch(&*self.exit.streams[slot], Kernel::Assemble, (gather.blocks, 1), &args) }
    }

    fn hash(&mut self, slot: usize, window: &Range<usize>, spans: usize) -> Result<(), DeviceError> {
        let args = HashArgs {
            data: self.area.window(slot),
            stride: 0,
            first_chunk: (window.start / CHUNK_LEN) as u64,
            values: self.area.values(slot),
            values_stride: 0,
        };
        let blocks = u32::try_from(spans).expect("a window has 64 spans");
        let Exit { streams, staging } = &mut *self.exit;
        let to = staging[slot * VALUES_BYTES..][..spans * HASH_SIZE].as_mut_ptr();
        // SAFETY: spans lie in the window and values in the area; the staging of this window is not looked at before the wait.
        unsafe {
            launch(&*streams[slot], Kernel::HashSpans, (blocks, 1), &args)?;
            streams[slot].copy_out(to, self.area.values(slot), spans * HASH_SIZE)
        }
    }

    fn take_values(&self, slot: usize, window: &Range<usize>, checksum: &mut SpanHasher) {
        let values = self.exit.staging[slot * VALUES_BYTES..].as_chunks::<HASH_SIZE>().0;
        values[..window.len() / SPAN_BYTES].iter().for_each(|value| checksum.push(*value));
    }

    /// Brings a window out, slab by slab, and after the last the checksum; false when it is wanted no more.
    fn empty(
        &self,
        slot: usize,
        window: &Range<usize>,
        checksum: &mut SpanHasher,
        output: &Output,
    ) -> Result<bool, DeviceError> {
        let (stream, hashed) = (&self.exit.streams[slot], self.sector.hashed());
        let last_slab = hashed / SLAB_BYTES * SLAB_BYTES;
        let end = if window.end == hashed { self.sector.size() } else { window.end };
        for start in (window.start..end).step_by(SLAB_BYTES) {
            let Some(mut place) = output.slab() else { return Ok(false) };
            let bytes = window.end.saturating_sub(start).min(SLAB_BYTES);
            if bytes > 0 {
                let from = self.in_window(slot, start - window.start, bytes);
                // SAFETY: the slab is ours and not looked at before the wait; the range lies in the window.
                let copied = unsafe { stream.copy_out(place.slab.as_mut_ptr(), from, bytes) };
                if let Err(error) = copied.and_then(|()| stream.wait()) {
                    // The device may still write there. (Whoever waits for the slab is told all the same.)
                    let OutputSlab { slab, .. } = place;
                    std::mem::forget(slab);
                    return Err(error);
                }
            }
            // A device that is found out meanwhile must not end a sector well.
            if !self.card.is_in_service() {
                return Ok(false);
            }
            if start < last_slab {
                place.send(bytes);
                continue;
            }
            let rest = &place.slab[bytes / SPAN_BYTES * SPAN_BYTES..bytes];
            let hash = std::mem::take(checksum).finish(rest);
            place.slab[bytes..bytes + HASH_SIZE].copy_from_slice(&hash);
            place.send(bytes + HASH_SIZE);
        }
        Ok(true)
    }

    fn in_window(&self, slot: usize, at: usize, bytes: usize) -> DeviceAddress {
        assert!(at + bytes <= WINDOW_BYTES, "a part of a window lies in it");
        self.area.window(slot) + at as u64
    }
}

#[cfg(all(test, feature = "kernel-shim"))]
#[path = "finish_tests.rs"]
mod on_the_shim;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_sums() {
        assert_eq!(starts(&[3, 0, 2]), [0, 3, 3, 5]);
    }
}
