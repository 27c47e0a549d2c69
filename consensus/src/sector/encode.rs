//! Encoding records, and bringing them into the order of a sector on disk (PROTOCOL 5.2 and 5.3).

use super::contents::{Bitfield, ContentsMap};
use super::metadata::{RecordMetadata, SectorMetadata};
use crate::constants::{RECORD_CHUNKS, S_BUCKETS, sector_size};
use crate::cpu::CpuLevel;
use crate::erasure::{ErasureError, Extender};
use crate::pos::{ProofHash, Seed, Tables};

/// Encodes one record after another with the CPU; its memory is allocated once: 119 MiB where pages
/// have 2 MiB, those of [`Tables`] and five rows of a record's chunks.
pub struct RecordEncoder {
    tables: Tables,
    extender: Extender,
    parity: Vec<[u8; 32]>,
    encoded: Vec<[u8; 32]>,
}

impl RecordEncoder {
    /// With the instructions of `level`.
    pub fn new(level: CpuLevel) -> Self {
        let (parity, encoded) = (vec![[0; 32]; RECORD_CHUNKS], Vec::with_capacity(RECORD_CHUNKS));
        let extender = Extender::new(level, RECORD_CHUNKS).expect("a record's width is one");
        Self { tables: Tables::new(level), extender, parity, encoded }
    }

    /// Replaces the 32 768 chunks of a record by those that are stored: the encoded ones in s-bucket order, then (if the
    /// seed has fewer than 32 768 proofs) unencoded ones. The bitfield says where they belong. On an error the
    /// record is as it was.
    pub fn encode(&mut self, seed: &Seed, record: &mut [[u8; 32]]) -> Result<Bitfield, ErasureError> {
        self.extender.extend_record(record, &mut self.parity)?;
        Ok(self.encode_extended(seed, record))
    }

    /// The same of a record whose parity chunks are known: `parity` must be what [`Extender::extend_record`] makes of it, and both must be
    /// scalars. They are as many as a record has chunks.
    pub fn encode_with_parity(
        &mut self,
        seed: &Seed,
        record: &mut [[u8; 32]],
        parity: &[[u8; 32]],
    ) -> Bitfield {
        self.parity.copy_from_slice(parity);
        self.encode_extended(seed, record)
    }

    /// The parity chunks of the record that was encoded last.
    pub fn parity(&self) -> &[[u8; 32]] {
        &self.parity
    }

    fn encode_extended(&mut self, seed: &Seed, record: &mut [[u8; 32]]) -> Bitfield {
        self.tables.build(seed);
        let (tables, parity) = (&self.tables, &self.parity);
        let extended = |s_bucket: u16| {
            let chunk = usize::from(s_bucket / 2);
            if s_bucket.is_multiple_of(2) { record[chunk] } else { parity[chunk] }
        };
        let bitfield = place(extended, tables.proof_hashes(0..=u16::MAX), &mut self.encoded);
        record.copy_from_slice(&self.encoded);
        bitfield
    }
}

/// Picks the chunks of a record that are stored, and where. An encoded chunk of zeros counts as having no proof.
fn place(
    extended: impl Fn(u16) -> [u8; 32],
    proof_hashes: impl Iterator<Item = (u16, ProofHash)>,
    stored: &mut Vec<[u8; 32]>,
) -> Bitfield {
    stored.clear();
    let mut bitfield = Bitfield::default();
    for (s_bucket, hash) in proof_hashes {
        if stored.len() == RECORD_CHUNKS {
            return bitfield;
        }
        let chunk = xor(&extended(s_bucket), &hash);
        if chunk != [0; 32] {
            bitfield.set(s_bucket);
            stored.push(chunk);
        }
    }
    let missing = RECORD_CHUNKS - stored.len();
    let unused = (0..=u16::MAX).filter(|s_bucket| !bitfield.get(*s_bucket));
    stored.extend(unused.take(missing).map(extended));
    bitfield
}

#[inline]
pub(super) fn xor(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// Puts encoded records into the order of a sector on disk, piece by piece, so that no second copy of a sector is needed:
/// contents map, chunks by s-bucket and piece offset, record metadata, checksum.
pub struct SectorAssembler<'a> {
    records: Vec<&'a [[u8; 32]]>,
    contents_map: ContentsMap,
    metadata: &'a [RecordMetadata],
    /// Next encoded and next unencoded chunk of each record.
    cursors: Vec<(usize, usize)>,
    next: Part,
    hasher: blake3::Hasher,
    pending: Vec<u8>,
    pending_start: usize,
}

/// What comes next in a sector.
#[derive(Clone, Copy)]
enum Part {
    ContentsMap,
    SBucket(u16),
    RecordMetadata,
    Checksum,
    End,
}

impl<'a> SectorAssembler<'a> {
    /// Records as [`RecordEncoder::encode`] leaves them, in order of piece offset, with bitfields and metadata; all of one number.
    pub fn new(
        records: Vec<&'a [[u8; 32]]>,
        bitfields: Vec<Bitfield>,
        metadata: &'a [RecordMetadata],
    ) -> Self {
        assert!(records.len() == bitfields.len() && records.len() == metadata.len(), "one of each a piece");
        assert!(records.iter().all(|record| record.len() == RECORD_CHUNKS), "records are whole");
        let cursors = bitfields.iter().map(|bitfield| (0, bitfield.count())).collect();
        Self {
            records,
            contents_map: ContentsMap::new(bitfields),
            metadata,
            cursors,
            next: Part::ContentsMap,
            hasher: blake3::Hasher::new(),
            pending: Vec::new(),
            pending_start: 0,
        }
    }

    /// Metadata of the sector that is being put together.
    pub fn sector_metadata(&self, sector_index: u16, history_size: u64) -> SectorMetadata {
        let pieces_in_sector = self.records.len() as u16;
        let s_bucket_sizes = self.contents_map.s_bucket_sizes();
        SectorMetadata { sector_index, pieces_in_sector, s_bucket_sizes, history_size }
    }

    /// Fills `out` with the next bytes of the sector and returns how many they were: less than `out.len()` only at the end.
    pub fn fill(&mut self, out: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < out.len() {
            if self.pending_start == self.pending.len() && !self.produce() {
                break;
            }
            let ready = &self.pending[self.pending_start..];
            let count = ready.len().min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&ready[..count]);
            self.pending_start += count;
            filled += count;
        }
        filled
    }

    /// The whole sector.
    pub fn to_sector(mut self) -> Vec<u8> {
        let mut sector = vec![0; sector_size(self.records.len() as u16)];
        let filled = self.fill(&mut sector);
        assert!(filled == sector.len() && !self.produce(), "a sector has the size of a sector");
        sector
    }

    /// Puts the next part into `pending`; false at the end.
    fn produce(&mut self) -> bool {
        self.pending_start = 0;
        self.pending.clear();
        self.next = match self.next {
            Part::ContentsMap => {
                self.pending = self.contents_map.encode();
                Part::SBucket(0)
            }
            Part::SBucket(s_bucket) => {
                self.collect_s_bucket(s_bucket);
                s_bucket.checked_add(1).map_or(Part::RecordMetadata, Part::SBucket)
            }
            Part::RecordMetadata => {
                self.metadata.iter().for_each(|metadata| self.pending.extend(metadata.to_bytes()));
                Part::Checksum
            }
            Part::Checksum => {
                self.pending.extend(self.hasher.finalize().as_bytes());
                Part::End
            }
            Part::End => return false,
        };
        if !matches!(self.next, Part::End) {
            self.hasher.update(&self.pending);
        }
        true
    }

    fn collect_s_bucket(&mut self, s_bucket: u16) {
        let records = self.contents_map.records().iter().zip(&self.records).zip(&mut self.cursors);
        for ((bitfield, record), (encoded, unencoded)) in records {
            if bitfield.get(s_bucket) {
                self.pending.extend(record[*encoded]);
                *encoded += 1;
            } else if *unencoded < RECORD_CHUNKS {
                // The unencoded chunks of a record lie in its lowest unused s-buckets, so the next unused one takes the next.
                self.pending.extend(record[*unencoded]);
                *unencoded += 1;
            }
        }
    }
}

const _: () = assert!(S_BUCKETS == u16::MAX as usize + 1);

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(record: u8, s_bucket: u16) -> [u8; 32] {
        let mut chunk = [record; 32];
        chunk[..2].copy_from_slice(&s_bucket.to_le_bytes());
        chunk
    }

    #[test]
    fn few_proofs_leave_unencoded_chunks() {
        let mut stored = Vec::new();
        let proof_hashes = (1..=u16::MAX).step_by(4).map(|s_bucket| (s_bucket, [0xAA; 32]));
        let bitfield = place(|s_bucket| chunk(9, s_bucket), proof_hashes, &mut stored);
        assert_eq!((stored.len(), bitfield.count()), (RECORD_CHUNKS, 16384));
        assert_eq!(stored[0], xor(&chunk(9, 1), &[0xAA; 32]));
        assert_eq!(stored[16384..16388], [0, 2, 3, 4].map(|s_bucket| chunk(9, s_bucket)));
    }

    #[test]
    fn a_zero_encoded_chunk_has_no_proof() {
        let mut stored = Vec::new();
        let bitfield = place(
            |s_bucket| chunk(1, s_bucket),
            (0..=u16::MAX).map(|s_bucket| (s_bucket, chunk(u8::from(s_bucket == 5), s_bucket))),
            &mut stored,
        );
        assert!(!bitfield.get(5) && bitfield.get(4) && bitfield.get(6));
        assert_eq!(bitfield.count(), RECORD_CHUNKS);
    }

    #[test]
    fn sectors_are_in_on_disk_order() {
        let step = [2u16, 3, 5];
        let (mut records, mut bitfields) = (Vec::new(), Vec::new());
        for (record, step) in step.into_iter().enumerate() {
            let mut stored = Vec::new();
            let proof_hashes = (0..=u16::MAX).step_by(step.into()).map(|s_bucket| (s_bucket, [0; 32]));
            bitfields.push(place(|s_bucket| chunk(record as u8 + 1, s_bucket), proof_hashes, &mut stored));
            records.push(stored);
        }
        let metadata = [RecordMetadata { commitment: [1; 48], witness: [2; 48], piece_hash: [3; 32] }; 3];
        let slices = || records.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let sector = SectorAssembler::new(slices(), bitfields.clone(), &metadata).to_sector();
        let map = ContentsMap::new(bitfields.clone());
        let map_bytes = map.encode();
        assert_eq!(sector[..map_bytes.len()], map_bytes);
        let mut expected = map_bytes;
        for s_bucket in 0..=u16::MAX {
            for (record, bitfield) in bitfields.iter().enumerate() {
                if bitfield.usage(s_bucket).is_some() {
                    expected.extend(chunk(record as u8 + 1, s_bucket));
                }
            }
        }
        metadata.iter().for_each(|metadata| expected.extend(metadata.to_bytes()));
        let checksum = blake3::hash(&expected);
        expected.extend(checksum.as_bytes());
        assert!(sector == expected);

        let mut assembler = SectorAssembler::new(slices(), bitfields, &metadata);
        let (mut in_parts, mut part) = (Vec::<u8>::new(), vec![0; 100_003]);
        loop {
            let count = assembler.fill(&mut part);
            in_parts.extend(&part[..count]);
            if count < part.len() {
                break;
            }
        }
        assert!(in_parts == sector);
    }
}
