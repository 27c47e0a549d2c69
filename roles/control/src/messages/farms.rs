//! What plot-clients say about the farms they hold, and what is asked of them about farms.

use super::MAX_FARMS_TOLD;
use super::text::check_reason;
use super::{Control, MessageError, check_text};
use crate::ids::{FarmId, InstanceId};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// A plot-client answers for a key: on [`super::subjects::farm`], to whoever else does.
    struct FarmHeld {
        /// Who holds it.
        pub client: InstanceId,
        /// The farm's key.
        pub public_key: [u8; 32],
        /// Name of the client's host, for people.
        pub host: String,
        /// The farm's folder there, for people.
        pub path: String,
        /// For how long it has been held, by the client's own clock, milliseconds.
        pub held_ms: u64,
        /// The client that holds the same key, has held it for less long, and must stop.
        pub over: Option<InstanceId>,
    }
}
impl Control for FarmHeld {
    const KIND: u8 = 18;

    fn check(&self) -> Result<(), MessageError> {
        check_text(&self.host).and_then(|()| check_text(&self.path))
    }
}

message! {
    /// Asks every plot-client for its farms: to all, on [`super::subjects::FARMS_WANTED`].
    #[derive(Copy)]
    struct FarmsWanted {
        /// Who asks; named once for each question.
        pub asker: InstanceId,
    }
}
impl Control for FarmsWanted {
    const KIND: u8 = 25;
}

message! {
    /// A plot-client's answer to [`FarmsWanted`], on [`super::subjects::farms_told`]: one without farms at once, so that who asks knows whom to
    /// wait for; then all farms, at most [`MAX_FARMS_TOLD`] in one.
    struct FarmsTold {
        /// Which plot-client.
        pub client: InstanceId,
        /// Name of its host.
        pub host: String,
        /// Farms that it has in all.
        pub farms_in_all: u16,
        /// Some of them.
        pub farms: Vec<FarmTold>,
    }
}
impl Control for FarmsTold {
    const KIND: u8 = 26;

    fn check(&self) -> Result<(), MessageError> {
        check_text(&self.host)?;
        if self.farms.len() > MAX_FARMS_TOLD {
            return Err(MessageError::Impossible("too many farms in one message"));
        }
        self.farms.iter().try_for_each(FarmTold::check)
    }
}

message! {
    /// A farm as its plot-client sees it.
    struct FarmTold {
        /// Its folder.
        pub path: String,
        /// Its id, once it was open; also of one that is waited for.
        pub id: Option<FarmId>,
        /// What becomes of it.
        pub stage: FarmStage,
        /// Sectors that are plotted; 0 where it is not open.
        pub plotted: u16,
        /// Sectors it has room for; 0 where it is not open.
        pub sectors: u16,
        /// Bytes of each; 0 where it is not open.
        pub sector_bytes: u64,
        /// Whether an operator has paused its plotting.
        pub is_plotting_paused: bool,
        /// Sectors that failed when they were plotted, and were not stored since.
        pub failing: u16,
        /// Why the last of them did; empty: none fails.
        pub failing_reason: String,
        /// Its disk, while it is open.
        pub disk: Option<DiskTold>,
        /// How far a scrub is, or what the last one found; empty: there was none since the farm was opened.
        pub scrub: String,
    }
}

message! {
    /// A disk with farms; counts are since its plot-client's start.
    struct DiskTold {
        /// The device as its host names it; empty where that is not known.
        pub device: String,
        /// How it is doing.
        pub health: DiskHealth,
        /// How often that changed.
        pub changes: u64,
        /// Operations that were not done in their time.
        pub late: u64,
        /// That the system refused.
        pub failed: u64,
        /// That were not begun since the disk was sick or gone.
        pub refused: u64,
    }
}

message! {
    /// How a disk is doing.
    #[derive(Copy)]
    enum DiskHealth {
        /// It answers, in time.
        Healthy,
        /// It errs now and then, or comes late.
        Slow,
        /// It hangs, or errs on most it is asked.
        Sick,
        /// The system does not have it any more.
        Gone,
    }
}

impl FarmTold {
    fn check(&self) -> Result<(), MessageError> {
        check_text(&self.path)?;
        check_reason(&self.failing_reason)?;
        check_text(&self.scrub)?;
        self.disk.as_ref().map_or(Ok(()), |disk| check_text(&disk.device))?;
        match &self.stage {
            FarmStage::Paused { reason } | FarmStage::Failed { reason, .. } => check_reason(reason),
            FarmStage::Opening | FarmStage::Claimed | FarmStage::Farming | FarmStage::Closing => Ok(()),
        }
    }
}

message! {
    /// What becomes of a farm.
    enum FarmStage {
        /// It is being opened.
        Opening,
        /// It is open, and waits a second whether another plot-client has it, or for the bus.
        Claimed,
        /// It takes part in slots.
        Farming,
        /// It takes no part for now.
        Paused {
            /// Why.
            reason: String,
        },
        /// It could not be opened, or could not go on.
        Failed {
            /// Why.
            reason: String,
            /// Seconds until it is tried again; none: not by itself.
            again_in_s: Option<u32>,
        },
        /// It is let go of.
        Closing,
    }
}

message! {
    /// Asks one plot-client to do something about farms: a request on [`super::subjects::farms`], answered with [`FarmsDone`].
    struct FarmsOrder {
        /// What.
        pub what: FarmsChange,
    }
}
impl Control for FarmsOrder {
    const KIND: u8 = 27;

    fn check(&self) -> Result<(), MessageError> {
        match &self.what {
            FarmsChange::Add { farm } => check_text(farm),
            FarmsChange::Remove { path }
            | FarmsChange::PausePlotting { path, .. }
            | FarmsChange::Scrub { path, .. } => check_text(path),
        }
    }
}

message! {
    /// What is to be done.
    enum FarmsChange {
        /// Take a farm into service.
        Add {
            /// As on its command line: `path=…,sectors=…`.
            farm: String,
        },
        /// Let go of one.
        Remove {
            /// Its folder, as the plot-client told it.
            path: String,
        },
        /// Order and fetch no more sectors for a farm, or again.
        PausePlotting {
            /// Its folder, as the plot-client told it.
            path: String,
            /// Whether to pause.
            is_paused: bool,
        },
        /// Read every sector of a farm beside farming it, and mend or mark what is damaged; or stop that.
        Scrub {
            /// Its folder, as the plot-client told it.
            path: String,
            /// Whether to begin.
            is_wanted: bool,
        },
    }
}

message! {
    /// What came of a [`FarmsOrder`].
    enum FarmsDone {
        /// It is done, or will be.
        Done {
            /// What was done, for people.
            what: String,
        },
        /// It is not.
        Refused {
            /// Why.
            reason: String,
        },
    }
}
impl Control for FarmsDone {
    const KIND: u8 = 28;

    fn check(&self) -> Result<(), MessageError> {
        let (Self::Done { what: text } | Self::Refused { reason: text }) = self;
        check_reason(text)
    }
}
