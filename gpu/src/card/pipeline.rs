//! The way of a batch of records through a device: which kernels, in which order, on which memory.
//!
//! ```text
//!   slabs ─copy─▶ slots ─▶ clear, hash_spans, extend_*, table_*, choose_chunks, encode_chunks ─▶ the session's area
//!                                                     └─▶ results, bitfields ─copy─▶ host
//! ```
//! Owns: lanes, their memory, and the work under way on them. Never: waits for anything but its own work; allocates after it was made.
#![allow(unsafe_code)]

use super::lent::Lent;
use super::place::Place;
use super::plain::{Plain, bytes_of, read};
use crate::device::{Device, DeviceAddress, DeviceBuffer, DeviceError, Mark, Stream};
use crate::interface::{
    BITFIELD_WORDS, HashArgs, Kernel, RECORD_SPANS, RecordArgs, RecordInput, RecordResult,
};
use consensus::constants::{POS_PROOF_SIZE, RECORD_SIZE, S_BUCKET_BITFIELD_SIZE};
use consensus::pos::Seed;
use consensus::sector::Bitfield;
use engine::pool::{SLAB_BYTES, Slab, SlabMut};
use std::mem::offset_of;
use std::sync::Arc;

/// Batches under way on a device: one is computed while the other is brought up, or told of.
pub(super) const LANES: usize = 2;
/// Most records of a batch; what the host and a device tell each other about them fits one slab.
pub(super) const MAX_LANE_RECORDS: usize = 128;
/// A proof, a byte that is 1 if there is one, a byte of nothing, and the s-bucket.
pub(super) const PROOF_PART_BYTES: usize = POS_PROOF_SIZE + 4;
/// Of this, beside its slot, each record in flight takes so much on the device.
pub(super) const RECORD_CONTROL_BYTES: usize =
    size_of::<RecordInput>() + size_of::<RecordResult>() + S_BUCKET_BITFIELD_SIZE + PROOF_PART_BYTES;
const _: () = assert!(MAX_LANE_RECORDS * RECORD_CONTROL_BYTES <= SLAB_BYTES);
const _: () = assert!(BITFIELD_WORDS * 4 == S_BUCKET_BITFIELD_SIZE);

/// A device, and what all its lanes share.
pub(crate) struct Module {
    pub device: Arc<dyn Device>,
    pub roots: Arc<dyn DeviceBuffer>,
}

impl Module {
    /// Makes the shared tables.
    pub fn new(device: Arc<dyn Device>) -> Result<Arc<Self>, DeviceError> {
        let roots = device.allocate(device.layout().roots_bytes)?;
        let args = RecordArgs { roots: roots.address(), ..RecordArgs::default() };
        let stream = device.stream()?;
        let grid = (device.layout().grid(Kernel::PrepareRoots).0, 1);
        // SAFETY: the kernel writes `roots` alone, which is of the size that the module asks for, and outlives the wait.
        unsafe { launch(&*stream, Kernel::PrepareRoots, grid, &args)? };
        stream.wait()?;
        Ok(Arc::new(Self { device, roots }))
    }
}

/// Launches a kernel.
///
/// # Safety
/// As for [`Stream::launch`].
pub(crate) unsafe fn launch<A: Plain>(
    stream: &dyn Stream,
    kernel: Kernel,
    grid: (u32, u32),
    args: &A,
) -> Result<(), DeviceError> {
    // SAFETY: the caller's promise.
    unsafe { stream.launch(kernel, grid, bytes_of(args)) }
}

/// A stream, and memory for the records of one batch. `W` is what is kept of each record while it is under way.
///
/// Everything that a device reads or writes for a batch is the lane's own or kept in `under_way`, from before the first call until the
/// stream's wait returned: this is what all unsafe blocks here stand on.
pub(super) struct Lane<W> {
    module: Arc<Module>,
    stream: Box<dyn Stream>,
    slots: Arc<dyn DeviceBuffer>,
    /// Inputs, results, bitfields and proof parts of all records, in this order.
    control: Arc<dyn DeviceBuffer>,
    /// The same, on the host.
    staging: Lent<SlabMut>,
    capacity: usize,
    under_way: Vec<W>,
    done: Option<Box<dyn Mark>>,
}

impl<W> Lane<W> {
    /// For batches of at most `capacity` records. `staging` is a whole slab, known to the device.
    pub fn new(module: Arc<Module>, staging: SlabMut, capacity: usize) -> Result<Self, DeviceError> {
        assert!(
            (1..=MAX_LANE_RECORDS).contains(&capacity) && staging.len() == SLAB_BYTES,
            "a batch fits a slab"
        );
        let stream = module.device.stream()?;
        let slots = module.device.allocate(capacity * module.device.layout().slot_bytes)?;
        let control = module.device.allocate(capacity * RECORD_CONTROL_BYTES)?;
        let staging = Lent::new(staging);
        Ok(Self { module, stream, slots, control, staging, capacity, under_way: Vec::new(), done: None })
    }

    /// Records that a batch may have.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether a batch is under way.
    pub fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether the batch is done, so that waiting for it takes no time.
    pub fn is_done(&self) -> Result<bool, DeviceError> {
        self.done.as_ref().map_or(Ok(true), |mark| mark.is_reached())
    }

    pub fn stream(&self) -> &dyn Stream {
        &*self.stream
    }

    pub fn under_way(&self) -> &[W] {
        &self.under_way
    }

    pub fn under_way_mut(&mut self) -> &mut [W] {
        &mut self.under_way
    }

    /// Takes a batch in; it stays until [`Self::wait`].
    pub fn begin(&mut self, batch: Vec<W>) {
        assert!(
            !self.is_busy() && (1..=self.capacity).contains(&batch.len()),
            "a lane does one batch at a time"
        );
        self.under_way = batch;
    }

    /// Waits until the batch is done, and hands back what was kept of it. After an error the device keeps it.
    pub fn wait(&mut self) -> Result<Vec<W>, DeviceError> {
        self.done = None;
        self.stream.wait()?;
        Ok(std::mem::take(&mut self.under_way))
    }

    /// Sends what the kernels are told of each record.
    pub fn send_inputs(&mut self, inputs: &[RecordInput]) -> Result<(), DeviceError> {
        assert!(inputs.len() == self.under_way.len(), "an input for each record");
        self.send_parts::<{ size_of::<RecordInput>() }>(0, inputs.iter().map(bytes_of))
    }

    /// Sends the bitfields of all records.
    pub fn send_bitfields(&mut self, bitfields: &[Bitfield]) -> Result<(), DeviceError> {
        let parts = bitfields.iter().map(|bitfield| &bitfield.as_bytes()[..]);
        self.send_parts::<S_BUCKET_BITFIELD_SIZE>(self.bitfield_at(0), parts)
    }

    /// Sends the proof parts of all records.
    pub fn send_proof_parts(&mut self, parts: &[[u8; PROOF_PART_BYTES]]) -> Result<(), DeviceError> {
        self.send_parts::<PROOF_PART_BYTES>(self.proof_part_at(0), parts.iter().map(|part| &part[..]))
    }

    /// Sends parts of so many bytes, one a record, that lie one after another from `at` on.
    fn send_parts<'a, const BYTES: usize>(
        &mut self,
        at: usize,
        parts: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<(), DeviceError> {
        let bytes = parts.len() * BYTES;
        let staging = &mut self.staging[at..at + bytes];
        staging.chunks_exact_mut(BYTES).zip(parts).for_each(|(place, part)| place.copy_from_slice(part));
        // SAFETY: both ends are the lane's own and large enough, see `Lane`.
        unsafe { self.stream.copy_in(self.control.address() + at as u64, staging.as_ptr(), bytes) }
    }

    /// Sends the bytes of a record to where the kernels expect them.
    ///
    /// # Safety
    /// A handle to the same slab is in `under_way`.
    pub unsafe fn send_record(&self, number: usize, record: &Slab) -> Result<(), DeviceError> {
        // SAFETY: the caller's promise.
        unsafe { self.send_chunks(number, self.module.device.layout().source_at, record) }
    }

    /// Sends its parity chunks to where the extension would leave them.
    ///
    /// # Safety
    /// A handle to the same slab is in `under_way`.
    unsafe fn send_parity(&self, number: usize, parity: &Slab) -> Result<(), DeviceError> {
        // SAFETY: the caller's promise.
        unsafe { self.send_chunks(number, self.module.device.layout().parity_at, parity) }
    }

    /// Sends the chunks in a slab, of which a handle is in `under_way`, to a place of a slot.
    unsafe fn send_chunks(&self, number: usize, at: usize, chunks: &Slab) -> Result<(), DeviceError> {
        assert!(chunks.len() == RECORD_SIZE && number < self.capacity, "a record, in a slot that there is");
        // SAFETY: the slab stays as it is while a handle to it lives, and such a one is kept; the slot is the lane's own.
        unsafe { self.stream.copy_in(self.slot(number) + at as u64, chunks.as_ptr(), RECORD_SIZE) }
    }

    /// Runs a kernel on all records of the batch.
    ///
    /// # Safety
    /// The inputs that were sent name memory that is good for what the kernel does until the batch is done.
    pub unsafe fn run(&self, kernel: Kernel) -> Result<(), DeviceError> {
        let args = RecordArgs {
            slots: self.slots.address(),
            inputs: self.control.address(),
            results: self.control.address() + self.result_at(0) as u64,
            roots: self.module.roots.address(),
        };
        let grid = (self.module.device.layout().grid(kernel).0, self.batch_u32());
        // SAFETY: slots, inputs and results of the batch are the lane's own; for the inputs' addresses the caller promises.
        unsafe { launch(&*self.stream, kernel, grid, &args) }
    }

    /// Brings results back to the host.
    pub fn fetch_results(&mut self) -> Result<(), DeviceError> {
        self.fetch_part(self.result_at(0), self.under_way.len() * size_of::<RecordResult>())
    }

    /// Brings bitfields back to the host.
    pub fn fetch_bitfields(&mut self) -> Result<(), DeviceError> {
        self.fetch_part(self.bitfield_at(0), self.under_way.len() * S_BUCKET_BITFIELD_SIZE)
    }

    /// Brings proof parts back to the host.
    pub fn fetch_proof_parts(&mut self) -> Result<(), DeviceError> {
        self.fetch_part(self.proof_part_at(0), self.under_way.len() * PROOF_PART_BYTES)
    }

    /// Marks the end of the batch.
    pub fn mark_end(&mut self) -> Result<(), DeviceError> {
        self.done = Some(self.stream.mark()?);
        Ok(())
    }

    fn fetch_part(&mut self, at: usize, bytes: usize) -> Result<(), DeviceError> {
        let (to, from) = (self.staging[at..at + bytes].as_mut_ptr(), self.control.address() + at as u64);
        // SAFETY: both ends are the lane's own and large enough, and the staging is not looked at before the wait, see `Lane`.
        unsafe { self.stream.copy_out(to, from, bytes) }
    }

    /// What was said of a record of the batch that was waited for.
    pub fn result(&self, number: usize) -> RecordResult {
        read(&self.staging[self.result_at(number)..][..size_of::<RecordResult>()])
    }

    /// The bitfield of a record of the batch that was waited for; none if it has too many bits.
    fn fetched_bitfield(&self, number: usize) -> Option<Bitfield> {
        let bytes = self.staging[self.bitfield_at(number)..].first_chunk();
        Bitfield::from_bytes(bytes.expect("the staging has all bitfields"))
    }

    /// The proof part of a record of the batch that was waited for.
    pub fn fetched_proof_part(&self, number: usize) -> &[u8; PROOF_PART_BYTES] {
        self.staging[self.proof_part_at(number)..].first_chunk().expect("the staging has all proof parts")
    }

    /// Where a record's proof part is on the device.
    pub fn proof_part(&self, number: usize) -> DeviceAddress {
        self.control.address() + self.proof_part_at(number) as u64
    }

    /// Where a record's bitfield is on the device.
    pub fn bitfield(&self, number: usize) -> DeviceAddress {
        self.control.address() + self.bitfield_at(number) as u64
    }

    /// Where a record's slot is on the device.
    pub fn slot(&self, number: usize) -> DeviceAddress {
        self.slots.address() + (number * self.module.device.layout().slot_bytes) as u64
    }

    fn source(&self, number: usize) -> DeviceAddress {
        self.slot(number) + self.module.device.layout().source_at as u64
    }

    fn result_at(&self, number: usize) -> usize {
        self.capacity * size_of::<RecordInput>() + number * size_of::<RecordResult>()
    }

    fn bitfield_at(&self, number: usize) -> usize {
        self.result_at(self.capacity) + number * S_BUCKET_BITFIELD_SIZE
    }

    fn proof_part_at(&self, number: usize) -> usize {
        self.bitfield_at(self.capacity) + number * PROOF_PART_BYTES
    }

    fn batch_u32(&self) -> u32 {
        u32::try_from(self.under_way.len()).expect("a batch has at most 128 records")
    }
}

impl<W> Drop for Lane<W> {
    fn drop(&mut self) {
        // What is under way stays until the device is done with it; one that does not say so keeps it.
        if self.stream.wait().is_err() {
            self.staging.leave();
            std::mem::forget(std::mem::take(&mut self.under_way));
        }
    }
}

/// A record on its way into a sector.
pub(super) struct Encoding {
    pub seed: Seed,
    pub record: Slab,
    /// Its parity chunks, if they came with it.
    pub parity: Option<Slab>,
    pub place: Place,
}

/// What a device says of a record.
pub(super) struct Encoded {
    pub result: RecordResult,
    /// None if it has more bits than a record has chunks.
    pub bitfield: Option<Bitfield>,
}

impl Lane<Encoding> {
    /// Starts a batch. After an error the device is of no more use.
    pub fn start(&mut self, batch: Vec<Encoding>) -> Result<(), DeviceError> {
        self.begin(batch);
        let input = |(number, record): (usize, &Encoding)| RecordInput {
            seed: record.seed,
            chunks: record.place.chunks(),
            bitfield: self.bitfield(number),
            words: record.place.words(),
            ranks: record.place.ranks(),
            column_stride: record.place.column_stride(),
        };
        let inputs: Vec<_> = self.under_way.iter().enumerate().map(input).collect();
        self.send_inputs(&inputs)?;
        for (number, record) in self.under_way.iter().enumerate() {
            // SAFETY: the slab is in `under_way`.
            unsafe { self.send_record(number, &record.record)? };
        }
        let is_extended = self.send_parities()?;
        let extension = Kernel::EXTENSION.into_iter().filter(|_| !is_extended);
        let encode = extension.chain(Kernel::TABLES).chain([Kernel::ChooseChunks, Kernel::EncodeChunks]);
        // SAFETY: the inputs name bitfields of the lane, and places in a session's area that belong to these records alone and
        // are kept in `under_way`.
        unsafe {
            self.run(Kernel::Clear)?;
            self.hash_records()?;
            encode.into_iter().try_for_each(|kernel| self.run(kernel))?;
        }
        self.fetch_results()?;
        self.fetch_bitfields()?;
        self.mark_end()
    }

    /// Sends the parity of all records, if all came with it: else the device extends all of them at once.
    fn send_parities(&self) -> Result<bool, DeviceError> {
        let parities: Option<Vec<_>> = self.under_way.iter().map(|record| record.parity.as_ref()).collect();
        for (number, parity) in parities.iter().flatten().enumerate() {
            // SAFETY: the slab is in `under_way`.
            unsafe { self.send_parity(number, parity)? };
        }
        Ok(parities.is_some())
    }

    /// Waits for the batch and hands back what the device says of each record.
    pub fn finish(&mut self) -> Result<Vec<Encoded>, DeviceError> {
        let batch = self.wait()?;
        let encoded =
            |number| Encoded { result: self.result(number), bitfield: self.fetched_bitfield(number) };
        Ok((0..batch.len()).map(encoded).collect())
    }

    /// Hashes the spans of the records that were sent, into their results.
    fn hash_records(&self) -> Result<(), DeviceError> {
        let args = HashArgs {
            data: self.source(0),
            stride: self.module.device.layout().slot_bytes as u64,
            first_chunk: 0,
            values: self.control.address() + (self.result_at(0) + offset_of!(RecordResult, spans)) as u64,
            values_stride: size_of::<RecordResult>() as u64,
        };
        // SAFETY: it reads records in slots and writes into results, all of them the lane's own.
        unsafe { launch(&*self.stream, Kernel::HashSpans, (RECORD_SPANS as u32, self.batch_u32()), &args) }
    }
}
