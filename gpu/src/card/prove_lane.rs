//! The way of stored records through a device: tables, decoded chunks, and the proof of one s-bucket each.
//!
//! Owns: which kernels, in which order. Never: the record's polynomial and its witness, which the CPU makes.
#![allow(unsafe_code)]

use super::pipeline::{Lane, Module, PROOF_PART_BYTES, launch};
use crate::device::{DeviceAddress, DeviceBuffer, DeviceError};
use crate::interface::{Kernel, ProofArgs, RecordInput, RecordResult};
use consensus::constants::{POS_PROOF_SIZE, RECORD_SIZE};
use consensus::pos::{Proof, Seed};
use consensus::sector::Bitfield;
use engine::pool::{Slab, SlabMut};
use std::sync::Arc;

/// Where a proof part says whether there is a proof.
const FOUND_AT: usize = POS_PROOF_SIZE;
/// Where it has the s-bucket.
const S_BUCKET_AT: usize = POS_PROOF_SIZE + 2;

/// A record of which a chunk is to be proved.
pub(super) struct Proving {
    pub seed: Seed,
    /// As stored, 1 MiB.
    pub record: Slab,
    pub bitfield: Bitfield,
    pub s_bucket: u16,
    /// Where its decoded chunks go; at least 1 MiB.
    pub decoded: SlabMut,
}

/// What a device makes of it.
pub(super) struct Proved {
    pub result: RecordResult,
    pub decoded: SlabMut,
    /// Of the s-bucket, if there is one.
    pub proof: Option<Proof>,
}

/// A lane that proves, and room for decoded chunks. The lane goes first.
pub(super) struct ProveLane {
    lane: Lane<Proving>,
    chunks: Arc<dyn DeviceBuffer>,
}

impl ProveLane {
    /// For batches of at most `capacity` requests. `staging` is a whole slab, known to the device.
    pub fn new(module: Arc<Module>, staging: SlabMut, capacity: usize) -> Result<Self, DeviceError> {
        let chunks = module.device.allocate(capacity * RECORD_SIZE)?;
        Ok(Self { lane: Lane::new(module, staging, capacity)?, chunks })
    }

    /// Requests that a batch may have.
    pub fn capacity(&self) -> usize {
        self.lane.capacity()
    }

    /// Does a batch. After an error the device is of no more use, and the batch is dropped with the lane.
    pub fn run(&mut self, batch: Vec<Proving>) -> Result<Vec<Proved>, DeviceError> {
        self.lane.begin(batch);
        self.send()?;
        // SAFETY: the inputs name bitfields and chunks of the lane alone.
        unsafe {
            self.lane.run(Kernel::Clear)?;
            Kernel::TABLES.into_iter().try_for_each(|table| self.lane.run(table))?;
            self.lane.run(Kernel::ChooseStored)?;
            self.lane.run(Kernel::DecodeChunks)?;
        }
        self.write_proofs()?;
        self.lane.fetch_results()?;
        self.lane.fetch_proof_parts()?;
        self.fetch_decoded()?;
        let batch = self.lane.wait()?;
        let proved = |(number, proving): (usize, Proving)| {
            let part = self.lane.fetched_proof_part(number);
            let proof = (part[FOUND_AT] == 1).then(|| *part.first_chunk().expect("a proof part has a proof"));
            Proved { result: self.lane.result(number), decoded: proving.decoded, proof }
        };
        Ok(batch.into_iter().enumerate().map(proved).collect())
    }

    fn send(&mut self) -> Result<(), DeviceError> {
        let input = |(number, proving): (usize, &Proving)| RecordInput {
            seed: proving.seed,
            chunks: self.chunks_of(number),
            bitfield: self.lane.bitfield(number),
            ..RecordInput::default()
        };
        let batch = self.lane.under_way();
        let inputs: Vec<_> = batch.iter().enumerate().map(input).collect();
        let bitfields: Vec<_> = batch.iter().map(|proving| proving.bitfield.clone()).collect();
        let proof_part = |proving: &Proving| {
            let mut part = [0; PROOF_PART_BYTES];
            part[S_BUCKET_AT..].copy_from_slice(&proving.s_bucket.to_le_bytes());
            part
        };
        let proof_parts: Vec<_> = batch.iter().map(proof_part).collect();
        self.lane.send_inputs(&inputs)?;
        self.lane.send_bitfields(&bitfields)?;
        self.lane.send_proof_parts(&proof_parts)?;
        self.lane.under_way().iter().enumerate().try_for_each(|(number, proving)| {
            // SAFETY: the slab is in `under_way`.
            unsafe { self.lane.send_record(number, &proving.record) }
        })
    }

    fn write_proofs(&self) -> Result<(), DeviceError> {
        (0..self.lane.under_way().len()).try_for_each(|number| {
            let part = self.lane.proof_part(number);
            let args = ProofArgs {
                slot: self.lane.slot(number),
                s_buckets: part + S_BUCKET_AT as u64,
                proofs: part,
                found: part + FOUND_AT as u64,
                count: 1,
                reserved: 0,
            };
            // SAFETY: it reads the lane's slot and writes the lane's proof part.
            unsafe { launch(self.lane.stream(), Kernel::WriteProofs, (1, 1), &args) }
        })
    }

    fn fetch_decoded(&mut self) -> Result<(), DeviceError> {
        for number in 0..self.lane.under_way().len() {
            let from = self.chunks_of(number);
            let to = self.lane.under_way_mut()[number].decoded[..RECORD_SIZE].as_mut_ptr();
            // SAFETY: the slab is in `under_way`, and not looked at before the wait; the chunks are ours.
            unsafe { self.lane.stream().copy_out(to, from, RECORD_SIZE)? };
        }
        Ok(())
    }

    fn chunks_of(&self, number: usize) -> DeviceAddress {
        self.chunks.address() + (number * RECORD_SIZE) as u64
    }
}
