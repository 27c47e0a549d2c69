//! The operations that are measured, with inputs of the size that farming has.

use std::hint::black_box;
use std::time::Instant;

use consensus::archiver::{
    Archiver, NewArchivedSegment, RecordedSegment, archive_segment, extend_first_block,
};
use consensus::bls::{Scalar, scalars_from_bytes};
use consensus::challenge::SectorSlotChallenge;
use consensus::constants::{RECORD_CHUNKS, S_BUCKETS, SCALAR_BYTES, SEGMENT_SIZE};
use consensus::erasure::{Extender, Recovery};
use consensus::kzg::{Kzg, Polynomial, insecure};
use consensus::piece_verify::{Candidate, verify_pieces};
use consensus::pos::Tables;
use consensus::sector::{RecordDecoder, RecordEncoder};
use consensus::{CpuLevel, audit};
use engine::threads::ThreadWorkers;

use super::Options;

/// Chunks that one run audits; the figure is for one of them.
const AUDITED_CHUNKS: usize = 1 << 12;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Growing the tables of a seed.
    Pos,
    /// Encoding a record: table, extension, XOR, placing.
    Encode,
    /// Extending a record, 2^15 to 2^16 chunks.
    Erasure,
    /// Recovering a record's polynomial from a random half of its extended chunks.
    Recover,
    /// Committing to a record's polynomial.
    KzgCommit,
    /// The witness of a chunk.
    KzgWitness,
    /// Proving a chunk of a record in memory.
    Prove,
    /// Making the 256 pieces of a segment, spread over the threads.
    Archive,
    /// Verifying the 256 pieces of a segment, spread over the threads.
    Verify,
    /// Auditing one chunk: keyed hash and distance.
    AuditHash,
}

impl Operation {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Pos,
        Self::Encode,
        Self::Erasure,
        Self::Recover,
        Self::KzgCommit,
        Self::KzgWitness,
        Self::Prove,
        Self::Archive,
        Self::Verify,
        Self::AuditHash,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pos => "pos",
            Self::Encode => "encode",
            Self::Erasure => "erasure",
            Self::Recover => "recover",
            Self::KzgCommit => "kzg-commit",
            Self::KzgWitness => "kzg-witness",
            Self::Prove => "prove",
            Self::Archive => "archive",
            Self::Verify => "verify",
            Self::AuditHash => "audit-hash",
        }
    }

    /// Runs that make a steady figure in a few seconds.
    pub fn usual_runs(self) -> u16 {
        match self {
            Self::Archive => 1,
            Self::Verify => 5,
            Self::Pos | Self::Encode | Self::Prove => 10,
            Self::KzgCommit | Self::KzgWitness | Self::Recover => 20,
            Self::Erasure | Self::AuditHash => 200,
        }
    }

    /// Whether a first run is needed that does not count, and several rounds with inputs of their own. A whole segment
    /// takes so long that it makes no difference.
    pub(super) fn warms_up(self) -> bool {
        !self.is_of_segment()
    }

    /// How many do it side by side.
    pub(super) fn repetitions(self, options: &Options) -> u16 {
        if self.is_of_segment() { 1 } else { options.threads }
    }

    /// Whether the threads share one segment.
    pub(super) fn is_of_segment(self) -> bool {
        matches!(self, Self::Archive | Self::Verify)
    }

    fn needs_kzg(self) -> bool {
        self.is_of_segment() || matches!(self, Self::KzgCommit | Self::KzgWitness | Self::Prove)
    }
}

/// What the threads that measure an operation share.
pub(super) struct Workplace {
    operation: Operation,
    level: CpuLevel,
    threads: ThreadWorkers,
    kzg: Option<Kzg>,
}

/// One run, and the seconds that it took for one operation.
pub(super) type Work<'a> = Box<dyn FnMut() -> f64 + 'a>;

impl Workplace {
    /// Development setup of KZG: whose secret it is makes no difference to the work.
    pub(super) fn new(operation: Operation, options: &Options) -> Self {
        let threads = ThreadWorkers::unbound(options.threads.into());
        let kzg = operation.needs_kzg().then(|| {
            let kzg = Kzg::from_parameters_at(options.level, &insecure::parameters());
            kzg.expect("this program's own parameters are valid")
                .with_table(options.kzg_memory_bytes, &threads)
        });
        Self { operation, level: options.level, threads, kzg }
    }

    fn kzg(&self) -> &Kzg {
        self.kzg.as_ref().expect("made for the operations that need it")
    }

    /// Inputs and memory for one thread, pseudo-random after `seed`.
    pub(super) fn prepare(&self, seed: &str) -> Work<'_> {
        let random = Random::new(seed);
        match self.operation {
            Operation::Pos => pos(self.level, random),
            Operation::Encode => encode(self.level, random),
            Operation::Erasure => erasure(self.level, random),
            Operation::Recover => recover(self.level, random),
            Operation::KzgCommit => kzg_commit(self.kzg(), random),
            Operation::KzgWitness => kzg_witness(self.kzg(), random),
            Operation::Prove => prove(self.level, self.kzg(), random),
            Operation::Archive => archive(self.kzg(), &self.threads),
            Operation::Verify => verify(self.kzg(), &self.threads),
            Operation::AuditHash => audit_hash(self.level, random),
        }
    }
}

struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: &str) -> Self {
        Self(blake3::Hasher::new().update(b"benchmark ").update(seed.as_bytes()).finalize_xof())
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Chunks of history: 31 bytes behind a zero.
    fn record(&mut self) -> Vec<[u8; SCALAR_BYTES]> {
        let mut record = vec![[0; SCALAR_BYTES]; RECORD_CHUNKS];
        record.iter_mut().for_each(|chunk| self.0.fill(&mut chunk[1..]));
        record
    }

    fn scalars(&mut self) -> Vec<Scalar> {
        let mut scalars = vec![Scalar::ZERO; RECORD_CHUNKS];
        scalars_from_bytes(&self.record(), &mut scalars).expect("31 bytes are below the modulus");
        scalars
    }

    /// Marks of a random half of the s-buckets.
    fn half(&mut self) -> Vec<bool> {
        let mut present: Vec<bool> = (0..S_BUCKETS / 8)
            .flat_map(|_| {
                let [byte] = self.bytes();
                (0..8).map(move |bit| byte >> bit & 1 != 0)
            })
            .collect();
        let mut count = present.iter().filter(|is_present| **is_present).count();
        for place in &mut present {
            if count > RECORD_CHUNKS && *place {
                (*place, count) = (false, count - 1);
            } else if count < RECORD_CHUNKS && !*place {
                (*place, count) = (true, count + 1);
            }
        }
        present
    }
}

fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}

fn pos(level: CpuLevel, mut random: Random) -> Work<'static> {
    let mut tables = Tables::new(level);
    Box::new(move || {
        let seed = random.bytes();
        seconds(|| tables.build(&seed))
    })
}

fn encode(level: CpuLevel, mut random: Random) -> Work<'static> {
    let mut encoder = RecordEncoder::new(level);
    Box::new(move || {
        let (seed, mut record) = (random.bytes(), random.record());
        seconds(|| encoder.encode(&seed, &mut record).expect("31 bytes are below the modulus"))
    })
}

fn erasure(level: CpuLevel, mut random: Random) -> Work<'static> {
    let mut extender = Extender::new(level, RECORD_CHUNKS).expect("a record's length is one");
    let (record, mut parity) = (random.record(), vec![[0; SCALAR_BYTES]; RECORD_CHUNKS]);
    Box::new(move || {
        seconds(|| extender.extend_record(&record, &mut parity).expect("31 bytes are below the modulus"))
    })
}

fn recover(level: CpuLevel, mut random: Random) -> Work<'static> {
    let source = random.scalars();
    let mut parity = vec![Scalar::ZERO; RECORD_CHUNKS];
    consensus::erasure::extend(&source, &mut parity).expect("a record's length is one");
    let extended: Vec<Scalar> = source.into_iter().zip(parity).flat_map(|(a, b)| [a, b]).collect();
    Box::new(move || {
        let (present, mut values) = (random.half(), extended.clone());
        seconds(|| {
            let recovery = Recovery::at_level(level, &present).expect("half of them are there");
            recovery.recover_polynomial(&mut values).expect("they are of one polynomial")
        })
    })
}

fn kzg_commit(kzg: &Kzg, mut random: Random) -> Work<'_> {
    Box::new(move || {
        let polynomial = Polynomial::from_values(&random.scalars()).expect("a record's length is one");
        seconds(|| kzg.commit(&polynomial).expect("a record fits the parameters"))
    })
}

fn kzg_witness(kzg: &Kzg, mut random: Random) -> Work<'_> {
    Box::new(move || {
        let polynomial = Polynomial::from_values(&random.scalars()).expect("a record's length is one");
        let s_bucket = usize::from(u16::from_le_bytes(random.bytes()));
        seconds(|| kzg.witness(&polynomial, S_BUCKETS, s_bucket).expect("an s-bucket is one of the values"))
    })
}

fn prove(level: CpuLevel, kzg: &Kzg, mut random: Random) -> Work<'_> {
    let (seed, mut record) = (random.bytes(), random.record());
    let bitfield =
        RecordEncoder::new(level).encode(&seed, &mut record).expect("31 bytes are below the modulus");
    let (s_bucket, _) = bitfield.used().find(|(_, is_encoded)| *is_encoded).expect("a table has proofs");
    let mut decoder = RecordDecoder::new(level);
    Box::new(move || {
        seconds(|| {
            decoder.prove(&seed, &record, &bitfield, s_bucket, kzg).expect("the record was just encoded")
        })
    })
}

fn archive<'a>(kzg: &'a Kzg, threads: &'a ThreadWorkers) -> Work<'a> {
    Box::new(move || {
        let recorded = recorded_segment();
        seconds(|| archive_segment(kzg, threads, recorded))
    })
}

fn verify<'a>(kzg: &'a Kzg, threads: &'a ThreadWorkers) -> Work<'a> {
    let NewArchivedSegment { header, pieces } = archive_segment(kzg, threads, recorded_segment());
    Box::new(move || {
        let candidates: Vec<_> = (0..=u8::MAX)
            .zip(&pieces)
            .map(|(position, piece)| Candidate {
                segment_commitment: &header.segment_commitment,
                position,
                piece: piece.view(),
            })
            .collect();
        seconds(|| {
            let verdicts = verify_pieces(kzg, threads, &candidates);
            assert!(verdicts.iter().all(Result::is_ok), "pieces archived here are valid");
        })
    })
}

/// A segment full of pseudo-random bytes: the first block of a chain is extended to fill one.
fn recorded_segment() -> RecordedSegment {
    let mut block = vec![0; SEGMENT_SIZE];
    extend_first_block(&[7; 32], &mut block);
    let mut archiver = Archiver::new();
    archiver.add_block(block).expect("a first block is never too large");
    archiver.cut().expect("the first block fills a segment")
}

fn audit_hash(level: CpuLevel, mut random: Random) -> Work<'static> {
    let (global_challenge, challenge) = (random.bytes(), SectorSlotChallenge(random.bytes()));
    let chunks: Vec<[u8; 32]> = (0..AUDITED_CHUNKS).map(|_| random.bytes()).collect();
    Box::new(move || {
        // A range so small that no chunk wins, as nearly none does.
        seconds(|| audit::audit(level, &global_challenge, &challenge, 2, black_box(&chunks)))
            / AUDITED_CHUNKS as f64
    })
}
