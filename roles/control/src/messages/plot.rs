//! What plot-clients and plot-servers say about sectors.

use super::{Control, MAX_AVOIDED_SERVERS, MessageError, ProtocolInfo, check_text};
use crate::ids::{FarmId, InstanceId};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// Which sector, of which farm, at which history size: one at a time is plotted.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    struct SectorId {
        /// The farm.
        pub farm: FarmId,
        /// Index of the sector in the farm.
        pub sector_index: u16,
        /// History size (segments) it is made for.
        pub history_size: u64,
    }
}

impl SectorId {
    /// The name under which its bytes are asked for on the transport (`staging` of its requests): the first 16 bytes of the
    /// BLAKE3 of its SCALE encoding.
    pub fn staging(&self) -> [u8; 16] {
        let hash = blake3::hash(&self.encode());
        *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
    }
}

impl std::fmt::Display for SectorId {
    /// `FARM.SECTOR.HISTORY`, three tokens of a subject and a directory name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.farm, self.sector_index, self.history_size)
    }
}

message! {
    /// A sector to be plotted.
    struct PlotJob {
        /// What to make.
        pub sector: SectorId,
        /// The farm's public key.
        pub public_key: [u8; 32],
        /// Pieces in the sector.
        pub pieces_in_sector: u16,
        /// Settings it is made under.
        pub protocol_info: ProtocolInfo,
        /// The plot-client that will fetch it.
        pub client: InstanceId,
        /// The plot-server known to hold it staged, wholly or in part: others leave it alone for a while.
        pub staged_on: Option<InstanceId>,
        /// Which attempt in a row this is, from 1.
        pub attempt: u16,
        /// Plot-servers that failed this farm lately: each leaves it to others as long as there are any. At most
        /// [`MAX_AVOIDED_SERVERS`].
        pub avoid: Vec<InstanceId>,
    }
}
impl Control for PlotJob {
    const KIND: u8 = 5;

    fn check(&self) -> Result<(), MessageError> {
        self.protocol_info.check()?;
        let fits = (1..=self.protocol_info.max_pieces_in_sector).contains(&self.pieces_in_sector);
        let is_attempt = self.attempt > 0 && self.avoid.len() <= MAX_AVOIDED_SERVERS;
        let is_possible = fits && is_attempt && self.sector.history_size > 0;
        if is_possible { Ok(()) } else { Err(MessageError::Impossible("plot job")) }
    }
}

message! {
    /// How far a plot job is: told by its plot-server on the subject of the farm, and answered by whoever serves that farm on the subject
    /// of the plot-server. Messages may be lost, so a plot-server repeats itself until it is answered, and a plot-client answers
    /// any word of a plot-server about a sector that it has already with [`PlotPhase::Stored`].
    struct PlotProgress {
        /// Which.
        pub sector: SectorId,
        /// The plot-server that works on it, also in a plot-client's words.
        pub server: InstanceId,
        /// How far.
        pub phase: PlotPhase,
    }
}
impl Control for PlotProgress {
    const KIND: u8 = 6;

    fn check(&self) -> Result<(), MessageError> {
        match &self.phase {
            PlotPhase::Failed { reason } | PlotPhase::Refused { reason } => check_text(reason),
            _ => Ok(()),
        }
    }
}

message! {
    /// Phase of a plot job.
    enum PlotPhase {
        /// Pieces have come, of all.
        Downloading {
            /// So many.
            pieces: u16,
        },
        /// Records are encoded, of all.
        Encoding {
            /// So many.
            records: u16,
        },
        /// The sector waits under the server's base path to be fetched.
        Staged {
            /// Bytes of the sector on disk.
            sector_size_bytes: u64,
            /// BLAKE3 of the sector.
            checksum: [u8; 32],
        },
        /// This attempt failed and its job is gone from the queue: the plot-client offers it anew, when and to whom it likes.
        Failed {
            /// Why.
            reason: String,
        },
        /// From the plot-client: it has the sector on disk, nobody need keep or make it any more.
        Stored,
        /// From the plot-client: what that server has staged is no good and is to be made anew, or the farm takes nothing for long.
        Refused {
            /// Why.
            reason: String,
        },
        /// From the plot-client: it is there, whatever its id was when it offered the job, and will fetch the sector.
        Wanted,
    }
}
