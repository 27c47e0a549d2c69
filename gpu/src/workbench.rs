//! One record at a time on a device, step by step, waiting after each: for conformance, tests and the times of single stages. Sectors are
//! made by the card, which never waits inside.
//!
//! Owns: device memory of one record. Never: more than one record; pools; threads.
#![allow(unsafe_code)]

use crate::device::{Device, DeviceAddress, DeviceBuffer, DeviceError, Stream};
use crate::interface::{BITFIELD_WORDS, HashArgs, Kernel, Layout, ProofArgs, RANK_ROWS, RECORD_SPANS};
use crate::interface::{RecordArgs, RecordInput, RecordResult};
use consensus::constants::{RECORD_SIZE, S_BUCKET_BITFIELD_SIZE, S_BUCKETS};
use std::sync::Arc;

/// Device memory of one record, and a stream.
pub struct Workbench {
    layout: Layout,
    stream: Box<dyn Stream>,
    slot: Arc<dyn DeviceBuffer>,
    roots: Arc<dyn DeviceBuffer>,
    memory: Arc<dyn DeviceBuffer>,
    places: Places,
}

/// Where things lie in `memory`.
struct Places {
    input: DeviceAddress,
    result: DeviceAddress,
    bitfield: DeviceAddress,
    words: DeviceAddress,
    ranks: DeviceAddress,
    chunks: DeviceAddress,
    s_buckets: DeviceAddress,
    found: DeviceAddress,
    proofs: DeviceAddress,
    end: DeviceAddress,
}

impl Places {
    fn new(start: DeviceAddress, proof_bytes: usize) -> Self {
        let mut next = start;
        let mut place = |bytes: usize| {
            let at = next;
            next += bytes.next_multiple_of(256) as u64;
            at
        };
        Self {
            input: place(size_of::<RecordInput>()),
            result: place(size_of::<RecordResult>()),
            bitfield: place(S_BUCKET_BITFIELD_SIZE),
            words: place(4 * BITFIELD_WORDS),
            ranks: place(2 * RANK_ROWS),
            chunks: place(RECORD_SIZE),
            s_buckets: place(2 * S_BUCKETS),
            found: place(S_BUCKETS),
            proofs: place(proof_bytes * S_BUCKETS),
            end: place(0),
        }
    }
}

/// A record after encoding or decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkedRecord {
    /// What the kernels say.
    pub result: RecordResult,
    /// Which s-buckets hold an encoded chunk.
    pub bitfield: Vec<u8>,
    /// 1 MiB.
    pub chunks: Vec<u8>,
}

impl Workbench {
    /// Takes the memory, about 120 MiB at K = 20, and fills the table of roots.
    pub fn new(device: &dyn Device) -> Result<Self, DeviceError> {
        let layout = device.layout().clone();
        let proof_bytes = proof_bytes(&layout);
        let bytes = Places::new(0, proof_bytes).end;
        let memory = device.allocate(bytes as usize)?;
        let (slot, roots) = (device.allocate(layout.slot_bytes)?, device.allocate(layout.roots_bytes)?);
        let places = Places::new(memory.address(), proof_bytes);
        let bench = Self { layout, stream: device.stream()?, slot, roots, memory, places };
        bench.run(&[Kernel::PrepareRoots])?;
        Ok(bench)
    }

    /// Grows the tables of a seed.
    pub fn grow(&self, seed: &[u8; 32]) -> Result<RecordResult, DeviceError> {
        self.put_input(seed)?;
        self.run(&[Kernel::Clear])?;
        self.run(&Kernel::TABLES)?;
        self.result()
    }

    /// The proof of each of these s-buckets, in the tables grown last: 8 K bytes, or none.
    pub fn proofs(&self, s_buckets: &[u16]) -> Result<Vec<Option<Vec<u8>>>, DeviceError> {
        assert!(s_buckets.len() <= S_BUCKETS, "there are no more s-buckets");
        let proof_bytes = proof_bytes(&self.layout);
        let indexes: Vec<u8> = s_buckets.iter().flat_map(|s_bucket| s_bucket.to_ne_bytes()).collect();
        self.put(self.places.s_buckets, &indexes)?;
        let (_, threads) = self.layout.grid(Kernel::WriteProofs);
        let args = ProofArgs {
            slot: self.slot.address(),
            s_buckets: self.places.s_buckets,
            proofs: self.places.proofs,
            found: self.places.found,
            count: s_buckets.len() as u32,
            reserved: 0,
        };
        let blocks = (s_buckets.len() as u32).div_ceil(threads).max(1);
        // SAFETY: all addresses are of this bench's buffers, which have room for every s-bucket; `launch` waits.
        unsafe { self.launch(Kernel::WriteProofs, blocks, &args)? };
        let found = self.get(self.places.found, s_buckets.len())?;
        let proofs = self.get(self.places.proofs, s_buckets.len() * proof_bytes)?;
        let both = found.iter().zip(proofs.chunks(proof_bytes));
        Ok(both.map(|(found, proof)| (*found != 0).then(|| proof.to_vec())).collect())
    }

    /// The parity chunks of a record, and what the kernels say of it.
    pub fn extend(&self, record: &[u8]) -> Result<(Vec<u8>, RecordResult), DeviceError> {
        self.put_record(record)?;
        self.run(&[Kernel::Clear])?;
        self.run(&Kernel::EXTENSION)?;
        let parity = self.get(self.slot.address() + self.layout.parity_at as u64, RECORD_SIZE)?;
        Ok((parity, self.result()?))
    }

    /// Encodes a record.
    pub fn encode(&self, seed: &[u8; 32], record: &[u8]) -> Result<WorkedRecord, DeviceError> {
        self.put_input(seed)?;
        self.put_record(record)?;
        self.run(&[Kernel::Clear])?;
        self.hash_record()?;
        self.run(&Kernel::EXTENSION)?;
        self.run(&Kernel::TABLES)?;
        self.run(&[Kernel::ChooseChunks, Kernel::EncodeChunks])?;
        self.worked()
    }

    /// Decodes the encoded chunks of a stored record.
    pub fn decode(
        &self,
        seed: &[u8; 32],
        record: &[u8],
        bitfield: &[u8; S_BUCKET_BITFIELD_SIZE],
    ) -> Result<WorkedRecord, DeviceError> {
        self.put_input(seed)?;
        self.put_record(record)?;
        self.put(self.places.bitfield, bitfield)?;
        self.run(&[Kernel::Clear])?;
        self.run(&Kernel::TABLES)?;
        self.run(&[Kernel::ChooseStored, Kernel::DecodeChunks])?;
        self.worked()
    }

    fn worked(&self) -> Result<WorkedRecord, DeviceError> {
        Ok(WorkedRecord {
            result: self.result()?,
            bitfield: self.get(self.places.bitfield, S_BUCKET_BITFIELD_SIZE)?,
            chunks: self.get(self.places.chunks, RECORD_SIZE)?,
        })
    }

    fn hash_record(&self) -> Result<(), DeviceError> {
        let spans_at = size_of::<RecordResult>() - 32 * RECORD_SPANS;
        let args = HashArgs {
            data: self.slot.address() + self.layout.source_at as u64,
            stride: 0,
            first_chunk: 0,
            values: self.places.result + spans_at as u64,
            values_stride: 0,
        };
        // SAFETY: the record lies in the slot, its chaining values are the last member of the result; `launch` waits.
        unsafe { self.launch(Kernel::HashSpans, RECORD_SPANS as u32, &args) }
    }

    fn put_input(&self, seed: &[u8; 32]) -> Result<(), DeviceError> {
        let input = RecordInput {
            seed: *seed,
            chunks: self.places.chunks,
            bitfield: self.places.bitfield,
            words: self.places.words,
            ranks: self.places.ranks,
            column_stride: 1,
        };
        self.put(self.places.input, bytes_of(&input))
    }

    fn put_record(&self, record: &[u8]) -> Result<(), DeviceError> {
        assert_eq!(record.len(), RECORD_SIZE, "a record is 1 MiB");
        self.put(self.slot.address() + self.layout.source_at as u64, record)
    }

    fn result(&self) -> Result<RecordResult, DeviceError> {
        let bytes = self.get(self.places.result, size_of::<RecordResult>())?;
        // SAFETY: all bytes are there, and any bytes are a RecordResult.
        Ok(unsafe { bytes.as_ptr().cast::<RecordResult>().read_unaligned() })
    }

    fn put(&self, to: DeviceAddress, bytes: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: callers name places of this bench's buffers with room for the bytes, which stay borrowed until the work is done.
        unsafe { self.stream.copy_in(to, bytes.as_ptr(), bytes.len())? };
        self.stream.wait()
    }

    fn get(&self, from: DeviceAddress, count: usize) -> Result<Vec<u8>, DeviceError> {
        let mut bytes = vec![0; count];
        // SAFETY: as for `put`; nobody else has the vector.
        unsafe { self.stream.copy_out(bytes.as_mut_ptr(), from, count)? };
        self.stream.wait()?;
        Ok(bytes)
    }

    /// Runs kernels that work on records, one after another.
    fn run(&self, kernels: &[Kernel]) -> Result<(), DeviceError> {
        let args = RecordArgs {
            slots: self.slot.address(),
            inputs: self.places.input,
            results: self.places.result,
            roots: self.roots.address(),
        };
        kernels.iter().try_for_each(|kernel| {
            let (blocks, _) = self.layout.grid(*kernel);
            // SAFETY: these kernels use the slot, the roots, and what the input names: all are this bench's; `launch` waits.
            unsafe { self.launch(*kernel, blocks, &args) }
        })
    }

    /// # Safety
    /// As for [`Stream::launch`].
    unsafe fn launch<T: Copy>(&self, kernel: Kernel, blocks: u32, args: &T) -> Result<(), DeviceError> {
        // SAFETY: the caller's promise.
        unsafe { self.stream.launch(kernel, (blocks, 1), bytes_of(args))? };
        self.stream.wait()
    }
}

impl Drop for Workbench {
    fn drop(&mut self) {
        // Every call waited, unless it failed: then the stream's work ends before the memory goes, if the device still answers.
        let _ = self.stream.wait();
        debug_assert!(self.places.end <= self.memory.address() + self.memory.size_bytes() as u64);
    }
}

fn proof_bytes(layout: &Layout) -> usize {
    8 * layout.k as usize
}

fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: the interface's types have no padding (their sizes are the sums of their members') and no pointers.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
