//! What the host and the kernels agree on: `kernels/interface.h` in Rust. Byte order is that of the machine (little-endian); addresses
//! are device addresses.

/// Version of the interface.
pub const INTERFACE_VERSION: u64 = 1;
/// Words of a record's bitfield.
pub const BITFIELD_WORDS: usize = 2048;
/// Rows of `ranks`: before each word of the bitfield, and after the last.
pub const RANK_ROWS: usize = BITFIELD_WORDS + 1;
/// Bytes that one block of `hash_spans` hashes.
pub const SPAN_BYTES: usize = 256 * 1024;
/// Spans of a record.
pub const RECORD_SPANS: usize = 4;
/// s-buckets that one block of `assemble` does.
pub const ASSEMBLE_S_BUCKETS: u32 = 4;

/// A bucket or list was longer than the kernels hold: the record must be done by the CPU.
pub const RESULT_OVERFLOW: u32 = 1;
/// An encoded chunk came out as zeros, which counts as no proof: the record must be done by the CPU.
pub const RESULT_ZERO_CHUNK: u32 = 2;
/// Proving: the bitfield has a bit where the table has no proof, or too many bits.
pub const RESULT_NO_PROOF: u32 = 4;

/// One record of a launch.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordInput {
    /// Evaluation seed, its bytes as they are.
    pub seed: [u8; 32],
    /// Out: the encoded or decoded record, 1 MiB.
    pub chunks: u64,
    /// Encoding: out, proving: in; 8 KiB.
    pub bitfield: u64,
    /// Out, encoding only: words of the bitfield, `column_stride` u32 apart.
    pub words: u64,
    /// Out, encoding only: encoded chunks before each word, `column_stride` u16 apart, [`RANK_ROWS`] of them.
    pub ranks: u64,
    /// Records of the sector, rounded up.
    pub column_stride: u64,
}

/// What a launch says of one record.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordResult {
    /// `RESULT_*`.
    pub flags: u32,
    /// 0, or 32 768 minus the first chunk that is no scalar.
    pub invalid: u32,
    /// Chunks that are XORed with a proof hash.
    pub encoded_chunks: u32,
    /// Zero.
    pub reserved: u32,
    /// BLAKE3 chaining values of the record's quarters, at chunk 0, 256, 512 and 768.
    pub spans: [[u8; 32]; RECORD_SPANS],
}

/// Argument of every kernel that works on records.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordArgs {
    /// Slots of the launch, one after another.
    pub slots: u64,
    /// A [`RecordInput`] for each.
    pub inputs: u64,
    /// A [`RecordResult`] for each.
    pub results: u64,
    /// What `prepare_roots` filled.
    pub roots: u64,
}

/// Argument of `hash_spans`, see `kernels/interface.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct HashArgs {
    /// First byte.
    pub data: u64,
    /// Bytes from one y to the next.
    pub stride: u64,
    /// BLAKE3 chunk number of the first byte in its message.
    pub first_chunk: u64,
    /// Where chaining values go, 32 bytes a span.
    pub values: u64,
    /// Bytes from the values of one y to those of the next.
    pub values_stride: u64,
}

/// Argument of `assemble`, see `kernels/interface.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AssembleArgs {
    /// Records, 1 MiB each.
    pub records: u64,
    /// Word w of record r at `[w * column_stride + r]`.
    pub words: u64,
    /// Encoded chunks before word w of record r, likewise.
    pub ranks: u64,
    /// Chunks of the sector before each s-bucket, 65 537 u32.
    pub starts: u64,
    /// Where chunk `first_chunk` goes.
    pub out: u64,
    /// Records of the sector, rounded up.
    pub column_stride: u64,
    /// Records of the sector.
    pub records_count: u32,
    /// First s-bucket that has chunks of the range.
    pub first_s_bucket: u32,
    /// First chunk of the range within the region of s-buckets.
    pub first_chunk: u32,
    /// Chunks of the range.
    pub chunks: u32,
}

/// Argument of `write_proofs`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ProofArgs {
    /// The slot.
    pub slot: u64,
    /// u16 each.
    pub s_buckets: u64,
    /// Out: 160 bytes each, where there is a proof.
    pub proofs: u64,
    /// Out: a byte each, 1 where there is a proof.
    pub found: u64,
    /// How many.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
}

/// Kernels, by the numbers of `KERNELS` in `kernels/interface.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kernel {
    /// Fills the table of roots, once.
    PrepareRoots,
    /// Makes slots and results ready for new records.
    Clear,
    /// Extension: scalars are checked, upper levels of the inverse transform.
    ExtendFirst,
    /// Lower levels of the inverse transform, onto the coset, lower levels of the forward transform.
    ExtendMiddle,
    /// Upper levels of the forward transform: parity chunks.
    ExtendLast,
    /// ChaCha8 into buckets.
    Table1,
    /// Matches of table 1.
    Table2,
    /// Matches of table 2.
    Table3,
    /// Matches of table 3.
    Table4,
    /// Matches of table 4.
    Table5,
    /// Matches of table 5.
    Table6,
    /// The first entry of each s-bucket.
    Table7,
    /// Which s-buckets an encoded record uses.
    ChooseChunks,
    /// Proofs, their hashes, XOR.
    EncodeChunks,
    /// Which s-buckets a stored record uses.
    ChooseStored,
    /// Proofs, their hashes, XOR with a stored record.
    DecodeChunks,
    /// Whole proofs.
    WriteProofs,
    /// BLAKE3 of spans.
    HashSpans,
    /// A sector's chunks into on-disk order.
    Assemble,
}

impl Kernel {
    /// All of them, in order.
    pub const ALL: [Self; 19] = [
        Self::PrepareRoots,
        Self::Clear,
        Self::ExtendFirst,
        Self::ExtendMiddle,
        Self::ExtendLast,
        Self::Table1,
        Self::Table2,
        Self::Table3,
        Self::Table4,
        Self::Table5,
        Self::Table6,
        Self::Table7,
        Self::ChooseChunks,
        Self::EncodeChunks,
        Self::ChooseStored,
        Self::DecodeChunks,
        Self::WriteProofs,
        Self::HashSpans,
        Self::Assemble,
    ];

    /// Those that extend a record, in order.
    pub const EXTENSION: [Self; 3] = [Self::ExtendFirst, Self::ExtendMiddle, Self::ExtendLast];

    /// Those that grow the tables of a seed, in order.
    pub const TABLES: [Self; 7] =
        [Self::Table1, Self::Table2, Self::Table3, Self::Table4, Self::Table5, Self::Table6, Self::Table7];

    /// Its name in a module.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrepareRoots => "prepare_roots",
            Self::Clear => "clear",
            Self::ExtendFirst => "extend_first",
            Self::ExtendMiddle => "extend_middle",
            Self::ExtendLast => "extend_last",
            Self::Table1 => "table_1",
            Self::Table2 => "table_2",
            Self::Table3 => "table_3",
            Self::Table4 => "table_4",
            Self::Table5 => "table_5",
            Self::Table6 => "table_6",
            Self::Table7 => "table_7",
            Self::ChooseChunks => "choose_chunks",
            Self::EncodeChunks => "encode_chunks",
            Self::ChooseStored => "choose_stored",
            Self::DecodeChunks => "decode_chunks",
            Self::WriteProofs => "write_proofs",
            Self::HashSpans => "hash_spans",
            Self::Assemble => "assemble",
        }
    }
}

/// What a module says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// K of its tables.
    pub k: u32,
    /// Device memory of one record in flight.
    pub slot_bytes: usize,
    /// Where in a slot the record of 1 MiB goes.
    pub source_at: usize,
    /// Where in a slot its parity chunks come out.
    pub parity_at: usize,
    /// Size of the table of roots.
    pub roots_bytes: usize,
    /// grid.x and threads of a block for each kernel; grid.x 0 where the caller decides.
    pub grids: [(u32, u32); Kernel::ALL.len()],
}

impl Layout {
    /// Numbers that a module gives: eight, then two for each kernel.
    pub const NUMBERS: usize = 8 + 2 * Kernel::ALL.len();

    /// Of the numbers of a module; none if they are not of this version of the interface.
    pub fn parse(numbers: &[u64; Self::NUMBERS]) -> Option<Self> {
        let (fields, grids) = numbers.split_at(8);
        let [version, k, slot, source, parity, roots, input, result] = *fields.first_chunk()?;
        let sizes = (size_of::<RecordInput>() as u64, size_of::<RecordResult>() as u64);
        if version != INTERFACE_VERSION || (input, result) != sizes {
            return None;
        }
        let size = |number: u64| usize::try_from(number).ok();
        let mut pairs = [(0, 0); Kernel::ALL.len()];
        for (pair, numbers) in pairs.iter_mut().zip(grids.as_chunks::<2>().0) {
            *pair = (u32::try_from(numbers[0]).ok()?, u32::try_from(numbers[1]).ok()?);
        }
        Some(Self {
            k: u32::try_from(k).ok()?,
            slot_bytes: size(slot)?,
            source_at: size(source)?,
            parity_at: size(parity)?,
            roots_bytes: size(roots)?,
            grids: pairs,
        })
    }

    /// grid.x and threads of a block.
    pub fn grid(&self, kernel: Kernel) -> (u32, u32) {
        self.grids[kernel as usize]
    }
}
