//! Fetching one staged sector into its place on disk.
//!
//! ```text
//!   metadata ─▶ checked ─▶ ranges, a few at once ─▶ written and hashed as they come ─▶ checksum of the whole ─▶ it counts
//!                              │   └─ noted on disk now and then, so that a crash      │ wrong
//!                              │      fetches only the rest                            ▼
//!                              └──────────────── again, those whose hash differs ◀─ ranges read back, each against its own hash
//! ```
//! A byte is hashed once, as a part of the sector. Which range was bad is looked for only when the whole is.

use super::farms::{FarmGone, FarmHandle, OpenFarm};
use crate::host::{Host, HostError, HostReply};
use consensus::sector::{SectorMetadata, SectorMetadataError};
use control::ids::InstanceId;
use control::messages::SectorId;
use engine::Class;
use engine::farm::{SectorError, SectorWriter};
use engine::pool::SlabMut;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::rc::Rc;
use std::time::Duration;
use transport::message::{Blake3Hash, Layout, Request, Response};
use transport::transfer::{Range, Received, SectorPlace, SectorTransfer};

/// Ranges asked for at once.
const WINDOW: usize = 8;
/// Ranges between two notes of what is there: 128 MiB.
const RANGES_PER_NOTE: usize = 64;
/// Failures of ranges after which a pull ends; the next one goes on where it was.
const MAX_FAILURES: usize = 8;
/// Times that damaged ranges are looked for and fetched again.
const MAX_REPAIRS: usize = 2;
/// Time for one range or the metadata.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CLASS: Class = Class::SectorWrite;

/// Why a sector was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// What is staged is no good: it is to be made anew.
    #[error("{0}")]
    Refused(String),
    /// The server gave no answer.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The disk or its farm failed.
    #[error(transparent)]
    Sector(SectorError),
    /// The farm has ended.
    #[error(transparent)]
    Gone(#[from] FarmGone),
    /// Another pull of this sector has begun.
    #[error("the sector is no longer being written")]
    NoWriter,
}

impl From<SectorError> for PullError {
    fn from(error: SectorError) -> Self {
        match error {
            SectorError::Checksum { .. } | SectorError::Metadata { .. } | SectorError::ContentsMap { .. } => {
                Self::Refused(error.to_string())
            }
            _ => Self::Sector(error),
        }
    }
}

impl From<SectorMetadataError> for PullError {
    fn from(error: SectorMetadataError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// One staged sector on its way into a farm.
pub struct Pull {
    /// This member.
    pub host: Host,
    /// Where it goes.
    pub farm: FarmHandle,
    /// What it is.
    pub sector: SectorId,
    /// Who has it.
    pub server: InstanceId,
    /// The sector's last 32 bytes.
    pub checksum: [u8; 32],
    /// Whether every byte is read back before the sector counts.
    pub verify_writes: bool,
}

impl Pull {
    /// Fetches, writes and checks the sector; when this is `Ok`, the farm has it for good.
    pub async fn run(&self) -> Result<(), PullError> {
        let (metadata, content) = self.metadata().await?;
        let saved = self.begin().await?;
        let result = self.transfer(&metadata, content, saved).await;
        if result.is_err() {
            let sector = self.sector.sector_index;
            let forget =
                move |open: Rc<OpenFarm>| async move { drop(open.writers.borrow_mut().remove(&sector)) };
            self.farm.run(CLASS, forget).await?;
        }
        result
    }

    /// The sector's metadata, checked against what was ordered, and its hash.
    async fn metadata(&self) -> Result<(SectorMetadata, Blake3Hash), PullError> {
        let HostReply { response, payload } =
            self.ask(Request::GetSectorMetadata { staging: self.sector.staging() }).await?;
        let (Response::SectorMetadata { blake3, sector_bytes }, Some(payload)) = (response, payload) else {
            unreachable!("the transport lets only metadata answer a request for it");
        };
        let metadata = SectorMetadata::decode(&payload)?;
        let layout = self.farm.layout();
        let found = (metadata.sector_index, metadata.history_size, metadata.pieces_in_sector, sector_bytes);
        let SectorId { sector_index, history_size, .. } = self.sector;
        let ordered = (sector_index, history_size, layout.pieces_in_sector(), layout.sector_bytes());
        if found != ordered {
            return Err(PullError::Refused(format!(
                "staged is (sector, history size, pieces, bytes) {found:?} instead of {ordered:?}"
            )));
        }
        Ok((metadata, blake3))
    }

    async fn ask(&self, request: Request) -> Result<HostReply, HostError> {
        self.host.request(self.server, request, Vec::new(), Layout::Run { phase: 0 }, REQUEST_TIMEOUT).await
    }

    /// Opens the writer, and gives what an earlier pull has noted.
    async fn begin(&self) -> Result<Option<Vec<u8>>, PullError> {
        let (sector, verify_writes) = (self.sector.sector_index, self.verify_writes);
        let begin = move |open: Rc<OpenFarm>| async move {
            let writer = open.farm.write_sector(sector).await?;
            if verify_writes {
                writer.verify_writes();
            }
            let saved = writer.saved_progress();
            open.writers.borrow_mut().insert(sector, Rc::new(writer));
            Ok::<_, SectorError>(saved)
        };
        Ok(self.farm.run(CLASS, begin).await??)
    }

    async fn transfer(
        &self,
        metadata: &SectorMetadata,
        content: Blake3Hash,
        saved: Option<Vec<u8>>,
    ) -> Result<(), PullError> {
        let layout = self.farm.layout();
        let (file_offset, sector_bytes) =
            (layout.sector_offset(self.sector.sector_index), layout.sector_bytes());
        let place = SectorPlace { file_offset, sector_bytes, content };
        let restored = saved.as_ref().and_then(|saved| SectorTransfer::restore(place, WINDOW, saved).ok());
        if saved.is_some() && restored.is_none() {
            self.with_writer(|writer| async move { writer.discard_progress().await }).await?;
        }
        let mut transfer = restored.unwrap_or_else(|| SectorTransfer::new(place, WINDOW));
        let mut repairs = 0;
        loop {
            self.fetch_ranges(&mut transfer).await?;
            let Err(error) = self.finish(metadata.clone()).await? else { return Ok(()) };
            let is_damaged = matches!(error, SectorError::Checksum { .. }) && repairs < MAX_REPAIRS;
            if !(is_damaged && self.drop_damaged(&mut transfer).await?) {
                return Err(error.into());
            }
            repairs += 1;
        }
    }

    /// After a checksum that is wrong: reads the ranges back, and has those fetched again that are not what their hash says, or of which an
    /// earlier run had the hash. Gives whether there are such; else it is the staged sector that is wrong.
    async fn drop_damaged(&self, transfer: &mut SectorTransfer) -> Result<bool, PullError> {
        self.begin().await?;
        let mut lost = 0;
        for (range, expected) in transfer.held_ranges().collect::<Vec<_>>() {
            let (offset, bytes) = (range.offset, u64::from(range.length));
            let hash = move |writer: Rc<SectorWriter>| async move { writer.range_hash(offset, bytes).await };
            if expected.is_none() || expected != Some(self.with_writer(hash).await?) {
                transfer.lost(range.index);
                lost += 1;
            }
        }
        if lost > 0 {
            let Self { sector, server, .. } = self;
            tracing::warn!(%sector, %server, ranges = lost, "a sector came or was written damaged: so many ranges are fetched again");
        }
        Ok(lost > 0)
    }

    async fn fetch_ranges(&self, transfer: &mut SectorTransfer) -> Result<(), PullError> {
        let (mut fetching, mut writing) = (FuturesUnordered::new(), FuturesUnordered::new());
        let (mut noted, mut failures) = (transfer.progress().0, 0);
        while !transfer.is_complete() {
            while writing.len() < WINDOW
                && let Some(range) = transfer.next_range()
            {
                fetching.push(self.fetch(range));
            }
            tokio::select! {
                Some((range, fetched)) = fetching.next() => match fetched {
                    Err(error) => {
                        transfer.failed(range.index);
                        failures += 1;
                        if failures > MAX_FAILURES {
                            self.note(transfer).await?;
                            return Err(PullError::Host(error));
                        }
                    }
                    Ok((bytes, hash)) => {
                        if transfer.arrived(range.index, bytes.len(), &hash) == Received::Write {
                            writing.push(self.write(range, bytes));
                        }
                    }
                },
                Some((range, written)) = writing.next() => {
                    let range: Range = range;
                    let written: Result<(), PullError> = written;
                    written?;
                    transfer.written(range.index);
                    let held = transfer.progress().0;
                    if held >= noted + RANGES_PER_NOTE {
                        self.note(transfer).await?;
                        noted = held;
                    }
                }
            }
        }
        Ok(())
    }

    /// A range's bytes, and what they should hash to.
    async fn fetch(&self, range: Range) -> (Range, Result<(SlabMut, Blake3Hash), HostError>) {
        let Range { offset, length, phase, .. } = range;
        let staging = self.sector.staging();
        let reply = self.ask(Request::GetSectorRange { staging, phase, offset, length }).await;
        let fetched = reply.map(|HostReply { response, payload }| match (response, payload) {
            (Response::SectorRange { blake3 }, Some(bytes)) => (bytes, blake3),
            _ => unreachable!("the transport lets only a range answer a request for one"),
        });
        (range, fetched)
    }

    async fn write(&self, range: Range, bytes: SlabMut) -> (Range, Result<(), PullError>) {
        let data = bytes.freeze();
        let write = move |writer: Rc<SectorWriter>| async move { writer.write(range.offset, &data).await };
        (range, self.with_writer(write).await)
    }

    /// Makes what is written durable and notes it.
    async fn note(&self, transfer: &SectorTransfer) -> Result<(), PullError> {
        let saved = transfer.save();
        self.with_writer(|writer| async move { writer.save_progress(&saved).await }).await
    }

    async fn finish(&self, metadata: SectorMetadata) -> Result<Result<(), SectorError>, PullError> {
        let (sector, checksum) = (self.sector.sector_index, self.checksum);
        let finish = move |open: Rc<OpenFarm>| async move {
            let writer = open.writers.borrow_mut().remove(&sector).and_then(Rc::into_inner);
            let writer = writer.ok_or(PullError::NoWriter)?;
            Ok(writer.finish(&metadata, &checksum).await)
        };
        self.farm.run(CLASS, finish).await?
    }

    async fn with_writer<F, T>(
        &self,
        work: impl FnOnce(Rc<SectorWriter>) -> F + Send + 'static,
    ) -> Result<T, PullError>
    where
        F: Future<Output = Result<T, SectorError>> + 'static,
        T: Send + 'static,
    {
        let sector = self.sector.sector_index;
        let run = move |open: Rc<OpenFarm>| async move {
            let writer = open.writers.borrow().get(&sector).cloned().ok_or(PullError::NoWriter)?;
            Ok(work(writer).await?)
        };
        self.farm.run(CLASS, run).await?
    }
}
