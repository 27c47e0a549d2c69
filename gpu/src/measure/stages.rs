//! Times of single kernels, from marks before and after them in a stream, on several records a launch as an encoder does.
//!
//! Owns: the order of stages and device memory of its own. Never: more than one stream, so that no stage shares the device with another.
#![allow(unsafe_code)]

use super::MeasureError;
use crate::card::{Module, bytes_of, launch, read, starts};
use crate::device::{Device, DeviceAddress, DeviceBuffer, DeviceError, Mark, Stream};
use crate::interface::{ASSEMBLE_S_BUCKETS, AssembleArgs, HashArgs, Kernel, RANK_ROWS, RECORD_SPANS};
use crate::interface::{BITFIELD_WORDS, RecordArgs, RecordInput, RecordResult, SPAN_BYTES};
use consensus::constants::{HASH_SIZE, RECORD_SIZE, S_BUCKET_BITFIELD_SIZE, S_BUCKETS};
use consensus::sector::{Bitfield, ContentsMap};
use std::mem::offset_of;
use std::sync::Arc;

/// Most records of a launch: their finished chunks are one window of a sector.
const MAX_RECORDS: usize = 16;
/// Device memory that is left alone.
const RESERVE_BYTES: usize = 256 << 20;

/// What is timed together.
const STAGES: [(&str, Work); 14] = [
    ("clear", Work::Records(&[Kernel::Clear])),
    ("hash records", Work::HashRecords),
    ("extension", Work::Records(&Kernel::EXTENSION)),
    ("table 1", Work::Records(&[Kernel::Table1])),
    ("table 2", Work::Records(&[Kernel::Table2])),
    ("table 3", Work::Records(&[Kernel::Table3])),
    ("table 4", Work::Records(&[Kernel::Table4])),
    ("table 5", Work::Records(&[Kernel::Table5])),
    ("table 6", Work::Records(&[Kernel::Table6])),
    ("table 7", Work::Records(&[Kernel::Table7])),
    ("choose chunks", Work::Records(&[Kernel::ChooseChunks])),
    ("encode chunks", Work::Records(&[Kernel::EncodeChunks])),
    ("assemble", Work::Assemble),
    ("hash sector", Work::HashSector),
];
/// Those before work on records, the others on the sector that they make.
const SECTOR_STAGES: usize = 12;

#[derive(Clone, Copy)]
enum Work {
    Records(&'static [Kernel]),
    HashRecords,
    Assemble,
    HashSector,
}

/// Time of one stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// What it does.
    pub name: &'static str,
    /// Milliseconds of a record.
    pub record_ms: f64,
}

/// Times of all stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// Records of a launch.
    pub records: usize,
    /// In order; together, a record with the device to itself.
    pub stages: Vec<Stage>,
    /// Milliseconds of the tables of one seed alone, as for one proof.
    pub table_ms: f64,
}

/// Times every stage `runs` times, after once that does not count, on at most `records` records a launch, fewer where memory is short. Median.
///
/// # Errors
/// The device fails, or has no memory for one record.
pub fn stages(device: &Arc<dyn Device>, records: usize, runs: usize) -> Result<Stages, MeasureError> {
    let each = device.layout().slot_bytes + 3 * RECORD_SIZE;
    let fitting = device.memory()?.free_bytes.saturating_sub(RESERVE_BYTES) / each;
    let records = records.min(fitting).clamp(1, MAX_RECORDS);
    let mut batch = Batch::new(device, records)?;
    batch.prepare()?;
    let timed: Vec<_> = (0..runs.max(1)).map(|_| batch.run(&STAGES)).collect::<Result<_, _>>()?;
    let stage = |(number, (name, _)): (usize, &(&'static str, Work))| Stage {
        name,
        record_ms: median(timed.iter().map(|times| times[number])) / records as f64,
    };
    let stages = STAGES.iter().enumerate().map(stage).collect();
    batch.records = 1;
    let table = [("table", Work::Records(&[Kernel::Clear])), ("tables", Work::Records(&Kernel::TABLES))];
    let tables: Vec<_> = (0..=runs.max(1)).map(|_| batch.run(&table)).collect::<Result<_, _>>()?;
    let table_ms = median(tables[1..].iter().map(|times| times[0] + times[1]));
    Ok(Stages { records, stages, table_ms })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Device memory of some records and of the sector that they are, and a stream.
///
/// All addresses in arguments are of its buffers, which are of the sizes that kernels need and stay until the last work was waited for: this is
/// what all unsafe blocks here stand on.
struct Batch {
    module: Arc<Module>,
    stream: Box<dyn Stream>,
    records: usize,
    slots: Arc<dyn DeviceBuffer>,
    _memory: Arc<dyn DeviceBuffer>,
    places: Places,
    /// Chunks of the sector.
    chunks: u32,
}

/// Where things lie in the memory; each of all records.
struct Places {
    inputs: DeviceAddress,
    results: DeviceAddress,
    bitfields: DeviceAddress,
    chunks: DeviceAddress,
    words: DeviceAddress,
    ranks: DeviceAddress,
    starts: DeviceAddress,
    sector: DeviceAddress,
    values: DeviceAddress,
    end: DeviceAddress,
}

impl Places {
    fn new(start: DeviceAddress, records: usize) -> Self {
        let mut next = start;
        let mut place = |bytes: usize| {
            let at = next;
            next += bytes.next_multiple_of(256) as u64;
            at
        };
        Self {
            inputs: place(records * size_of::<RecordInput>()),
            results: place(records * size_of::<RecordResult>()),
            bitfields: place(records * S_BUCKET_BITFIELD_SIZE),
            chunks: place(records * RECORD_SIZE),
            words: place(records * BITFIELD_WORDS * size_of::<u32>()),
            ranks: place(records * RANK_ROWS * size_of::<u16>()),
            starts: place((S_BUCKETS + 1) * size_of::<u32>()),
            sector: place(records * RECORD_SIZE),
            values: place(records * RECORD_SPANS * HASH_SIZE),
            end: place(0),
        }
    }
}

impl Batch {
    fn new(device: &Arc<dyn Device>, records: usize) -> Result<Self, DeviceError> {
        let module = Module::new(device.clone())?;
        let slots = device.allocate(records * device.layout().slot_bytes)?;
        let memory = device.allocate(Places::new(0, records).end as usize)?;
        let places = Places::new(memory.address(), records);
        let stream = device.stream()?;
        Ok(Self { module, stream, records, slots, _memory: memory, places, chunks: 0 })
    }

    /// Brings records up and encodes them once, which tells the shape of the sector.
    fn prepare(&mut self) -> Result<(), MeasureError> {
        for number in 0..self.records {
            let mut random = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
            let (mut seed, mut record) = ([0; 32], vec![0; RECORD_SIZE]);
            random.fill(&mut seed);
            random.fill(&mut record);
            // Below the modulus.
            record.iter_mut().step_by(32).for_each(|byte| *byte &= 0x3f);
            let slot = self.slots.address() + (number * self.slot_bytes()) as u64;
            self.put(slot + self.module.device.layout().source_at as u64, &record)?;
            let at = number as u64;
            let input = RecordInput {
                seed,
                chunks: self.places.chunks + at * RECORD_SIZE as u64,
                bitfield: self.places.bitfields + at * S_BUCKET_BITFIELD_SIZE as u64,
                words: self.places.words + at * size_of::<u32>() as u64,
                ranks: self.places.ranks + at * size_of::<u16>() as u64,
                column_stride: self.records as u64,
            };
            self.put(self.places.inputs + at * size_of::<RecordInput>() as u64, bytes_of(&input))?;
        }
        self.run(&STAGES[..SECTOR_STAGES])?;
        self.shape()
    }

    /// Where the sector's s-buckets begin, from the records' bitfields.
    fn shape(&mut self) -> Result<(), MeasureError> {
        let wrong = |what| MeasureError::Wrong { device: self.module.device.name().into(), what };
        let results = self.get(self.places.results, self.records * size_of::<RecordResult>())?;
        let results = results.chunks(size_of::<RecordResult>()).map(read::<RecordResult>);
        let bitfields = self.get(self.places.bitfields, self.records * S_BUCKET_BITFIELD_SIZE)?;
        let bitfields = bitfields.as_chunks::<S_BUCKET_BITFIELD_SIZE>().0;
        let bitfields: Option<Vec<_>> = bitfields.iter().map(Bitfield::from_bytes).collect();
        let bitfields = bitfields.ok_or_else(|| wrong("a record has too many chunks"))?;
        let same = |(result, bitfield): (RecordResult, &Bitfield)| {
            result.invalid == 0
                && result.encoded_chunks > 0
                && result.encoded_chunks as usize == bitfield.count()
        };
        if !results.zip(&bitfields).all(same) {
            return Err(wrong("records are not encoded"));
        }
        let starts = starts(&ContentsMap::new(bitfields).s_bucket_sizes());
        self.chunks = starts[S_BUCKETS];
        let bytes: Vec<u8> = starts.iter().flat_map(|start| start.to_ne_bytes()).collect();
        Ok(self.put(self.places.starts, &bytes)?)
    }

    /// Milliseconds of each stage.
    fn run(&self, stages: &[(&str, Work)]) -> Result<Vec<f64>, DeviceError> {
        let mut marks: Vec<Box<dyn Mark>> = vec![self.stream.mark()?];
        for (_, work) in stages {
            self.launch(*work)?;
            marks.push(self.stream.mark()?);
        }
        self.stream.wait()?;
        marks.windows(2).map(|pair| pair[1].milliseconds_since(&*pair[0]).map(f64::from)).collect()
    }

    fn launch(&self, work: Work) -> Result<(), DeviceError> {
        match work {
            Work::Records(kernels) => kernels.iter().try_for_each(|kernel| self.launch_records(*kernel)),
            Work::HashRecords => self.launch_hash(
                self.slots.address() + self.module.device.layout().source_at as u64,
                self.slot_bytes(),
                self.places.results + offset_of!(RecordResult, spans) as u64,
                size_of::<RecordResult>(),
            ),
            Work::Assemble => self.launch_assemble(),
            Work::HashSector => self.launch_hash(
                self.places.sector,
                RECORD_SIZE,
                self.places.values,
                RECORD_SPANS * HASH_SIZE,
            ),
        }
    }

    fn launch_records(&self, kernel: Kernel) -> Result<(), DeviceError> {
        let args = RecordArgs {
            slots: self.slots.address(),
            inputs: self.places.inputs,
            results: self.places.results,
            roots: self.module.roots.address(),
        };
        let grid = (self.module.device.layout().grid(kernel).0, self.rows());
        // SAFETY: see `Batch`.
        unsafe { launch(&*self.stream, kernel, grid, &args) }
    }

    /// Hashes 1 MiB for each record.
    fn launch_hash(
        &self,
        data: DeviceAddress,
        stride: usize,
        values: DeviceAddress,
        values_stride: usize,
    ) -> Result<(), DeviceError> {
        let (stride, values_stride) = (stride as u64, values_stride as u64);
        let args = HashArgs { data, stride, first_chunk: 0, values, values_stride };
        const { assert!(RECORD_SPANS * SPAN_BYTES == RECORD_SIZE) };
        // SAFETY: see `Batch`.
        unsafe { launch(&*self.stream, Kernel::HashSpans, (RECORD_SPANS as u32, self.rows()), &args) }
    }

    fn launch_assemble(&self) -> Result<(), DeviceError> {
        let args = AssembleArgs {
            records: self.places.chunks,
            words: self.places.words,
            ranks: self.places.ranks,
            starts: self.places.starts,
            out: self.places.sector,
            column_stride: self.records as u64,
            records_count: self.rows(),
            first_s_bucket: 0,
            first_chunk: 0,
            chunks: self.chunks,
        };
        let blocks = (S_BUCKETS as u32).div_ceil(ASSEMBLE_S_BUCKETS);
        // SAFETY: see `Batch`; the starts are those of the records' bitfields, and all chunks fit the sector.
        unsafe { launch(&*self.stream, Kernel::Assemble, (blocks, 1), &args) }
    }

    fn rows(&self) -> u32 {
        u32::try_from(self.records).expect("there are few records")
    }

    fn slot_bytes(&self) -> usize {
        self.module.device.layout().slot_bytes
    }

    fn put(&self, to: DeviceAddress, bytes: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: see `Batch`; the bytes are borrowed until the work is done.
        unsafe { self.stream.copy_in(to, bytes.as_ptr(), bytes.len())? };
        self.stream.wait()
    }

    fn get(&self, from: DeviceAddress, count: usize) -> Result<Vec<u8>, DeviceError> {
        let mut bytes = vec![0; count];
        // SAFETY: see `Batch`; nobody else has the vector.
        let copied = unsafe { self.stream.copy_out(bytes.as_mut_ptr(), from, count) };
        if let Err(error) = copied.and_then(|()| self.stream.wait()) {
            // The device may still write there.
            std::mem::forget(bytes);
            return Err(error);
        }
        Ok(bytes)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Work that an error left under way ends before the memory goes, if the device still answers.
        let _ = self.stream.wait();
    }
}
