//! A farm on a disk that loses its power at any write and any sync, also while it opens, grows and shrinks; reads, writes and syncs
//! fail now and then.
//!
//! Never: a sector lost that `finish` said is there, until it began to be replaced, nor one whose record could not be read for a while; a
//! sector called plotted whose bytes are not those of its record; one back that was marked; a count that names a sector without a
//! record, or one whose record is torn a second time; a note of ranges that are not there. One seed is one run; `POWER_SEED=7` runs
//! that alone, `POWER_SEED=500..2500` others.

mod model;

use self::model::{Content, Model, Note, OnItsWay};
use super::*;
use crate::disk::Limits;
use crate::error::IoError;
use crate::power::{Faults, Loss, Power, Rng};
use futures::FutureExt;
use futures::future::join_all;
use std::cell::{RefCell, RefMut};
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, resume_unwind};

const SECTORS: u16 = 4;
/// Contents that a sector may get; the history size tells which.
const CONTENTS: u64 = 3;
const FIRST_HISTORY_SIZE: u64 = 10;
const SEEDS: u64 = 500;
const ROUNDS: u64 = 5;
/// Of replacing a sector, about.
const STEPS: u64 = 80;
const RANGE_BYTES: usize = 256 * 1024;
/// Longer than what a disk writes whole.
const NOTE_BYTES: usize = 1500;

struct Run {
    model: RefCell<Model>,
    power: Power,
    disk: Disk,
    pool: Pool,
    dir: tempfile::TempDir,
    contents: Rc<Vec<Vec<Made>>>,
}

/// Ranges of a sector that end where blocks of the file do.
fn ranges(made: &Made, file_offset: u64) -> Vec<(usize, usize)> {
    let (phase, end) = (file_offset as usize % BLOCK_BYTES, made.bytes.len());
    let cut = |start: usize| start.saturating_sub(phase).min(end);
    let starts = (0..end + phase).step_by(RANGE_BYTES);
    starts.map(|start| (cut(start), cut(start + RANGE_BYTES) - cut(start))).collect()
}

impl Run {
    fn new(seed: u64, pool: &Pool, contents: &Rc<Vec<Vec<Made>>>) -> Self {
        let power = Power::new(seed);
        let mut rng = Rng::new(seed + 1000);
        let sectors = 1 + rng.below(u64::from(SECTORS)) as u16;
        let may = vec![BTreeSet::from([None]); usize::from(SECTORS)];
        let model = Model {
            rng,
            may,
            is_unsure: BTreeSet::new(),
            is_torn: BTreeSet::new(),
            notes: BTreeSet::from([None]),
            on_their_way: Vec::new(),
            sectors,
        };
        let (disk, dir) = (power.disk(pool, Limits::default()), tempfile::tempdir().unwrap());
        Self { model: RefCell::new(model), power, disk, pool: pool.clone(), dir, contents: contents.clone() }
    }

    fn below(&self, end: u64) -> u64 {
        self.model.borrow_mut().rng.below(end)
    }

    fn one_in(&self, end: u64) -> bool {
        self.below(end) == 0
    }

    fn may(&self, sector: u16) -> RefMut<'_, BTreeSet<Content>> {
        RefMut::map(self.model.borrow_mut(), |model| &mut model.may[usize::from(sector)])
    }

    /// The sector's record was written and made durable.
    fn is_now(&self, sector: u16, content: Content) {
        *self.may(sector) = BTreeSet::from([content]);
        let model = &mut *self.model.borrow_mut();
        model.is_unsure.remove(&sector);
        model.is_torn.remove(&sector);
    }

    /// Its record is about to be written.
    fn is_soon(&self, sector: u16, content: Content) {
        let model = &mut *self.model.borrow_mut();
        model.may[usize::from(sector)].insert(content);
        model.is_torn.insert(sector);
    }

    fn is_unsure(&self, sector: u16) {
        self.model.borrow_mut().is_unsure.insert(sector);
    }

    /// It may be what is noted from now on.
    fn notes_soon(&self, note: &Option<Note>) {
        let model = &mut *self.model.borrow_mut();
        model.notes.insert(note.clone());
        model.on_their_way.push(OnItsWay { note: note.clone(), heard: BTreeSet::new() });
    }

    fn fails_soon(&self) -> Loss {
        if !self.one_in(4) {
            self.power.lose_after(1 + self.below(250));
        }
        [Loss::Kill, Loss::Blocks, Loss::Sectors, Loss::Unsynced][self.below(4) as usize]
    }

    /// Whether writes or syncs fail now and then.
    fn faults(&self, read: u64) -> bool {
        let some = |one_in| if one_in > 0 && self.one_in(3) { one_in } else { 0 };
        let faults = Faults { read: some(read), write: some(90), sync: some(20), ..Faults::default() };
        self.power.set_faults(faults);
        faults.read + faults.write + faults.sync > 0
    }

    fn is_refused(&self, error: &IoError) -> bool {
        self.power.is_lost() || matches!(error, IoError::Failed { .. })
    }

    /// Opens the farm, as large as before or of another size, as often as the power is lost meanwhile.
    async fn open(&self) -> (Farm, Loss) {
        loop {
            let loss = self.fails_soon();
            let sectors = if self.one_in(3) {
                1 + self.below(u64::from(SECTORS)) as u16
            } else {
                self.model.borrow().sectors
            };
            (sectors..SECTORS).for_each(|sector| _ = self.may(sector).insert(None));
            if self.faults(90) || sectors < SECTORS {
                // What is noted is given up.
                self.model.borrow_mut().notes.insert(None);
            }
            let opened = open(&self.disk, &self.pool, self.dir.path(), &config(1, sectors)).await;
            self.power.set_faults(Faults::default());
            self.power.see_cuts();
            if self.power.is_lost() {
                // Notes that could not be read are given up by a call that the loss does not stop.
                self.model.borrow_mut().notes.insert(None);
            }
            match opened {
                Ok((farm, report)) => {
                    self.model.borrow_mut().sectors = sectors;
                    self.check_opened(&farm, &report);
                    return (farm, loss);
                }
                Err(FarmError::Io(error) | FarmError::Sector(SectorError::Io(error)))
                    if self.is_refused(&error) => {}
                Err(error) => panic!("{error}"),
            }
            self.quiet(0).await;
            self.power.come_back(loss);
            self.model.borrow_mut().is_unsure.clear();
        }
    }

    /// What an open farm says is what the disk may hold, and from now on what it holds.
    fn check_opened(&self, farm: &Farm, report: &OpenReport) {
        for (sector, fault) in &report.faults {
            self.check_fault(*sector, fault);
        }
        assert!(farm.count() <= farm.layout().sectors());
        self.check(farm);
        let unreadable = (0..).zip(farm.statuses()).filter(|(_, status)| *status == SectorStatus::Unreadable);
        assert_eq!(report.unreadable.sectors, unreadable.map(|(sector, _)| sector).collect::<Vec<_>>());
        self.learn(farm);
        (farm.layout().sectors()..SECTORS).for_each(|sector| self.is_now(sector, None));
        self.check_note(farm);
    }

    /// Torn when it was on its way, and left as it is.
    fn check_fault(&self, sector: u16, fault: &SectorFault) {
        assert!(matches!(fault, SectorFault::Record(_)), "sector {sector}: {fault}");
        assert!(self.may(sector).contains(&None), "sector {sector}: {fault}");
        assert!(self.model.borrow().is_torn.contains(&sector), "sector {sector}: {fault}");
    }

    /// What is read as there is what is there.
    fn learn(&self, farm: &Farm) {
        for (sector, status) in (0..).zip(farm.statuses()) {
            if self.model.borrow().is_unsure.contains(&sector) {
                continue;
            }
            match status {
                SectorStatus::Plotted { history_size } => {
                    *self.may(sector) = BTreeSet::from([Some(history_size - FIRST_HISTORY_SIZE)]);
                }
                SectorStatus::Expired => *self.may(sector) = BTreeSet::from([None]),
                // It may have a record that is not counted yet, or cannot be read now.
                _ => {}
            }
        }
    }

    /// Every sector that is called plotted is one that may be there, bit for bit.
    fn check(&self, farm: &Farm) {
        let (plot, mut is_held_back) = (farm.dir().join(PLOT_FILE), false);
        for (sector, status) in (0..).zip(farm.statuses()) {
            let is_counted = sector < farm.count();
            assert!(!is_counted || status != SectorStatus::NotPlotted, "sector {sector} is counted");
            let content = match status {
                SectorStatus::Unreadable => {
                    is_held_back |= !is_counted;
                    continue;
                }
                SectorStatus::Plotted { history_size } => Some(history_size - FIRST_HISTORY_SIZE),
                SectorStatus::BeingWritten => panic!("nobody writes sector {sector}"),
                _ => None,
            };
            let may = self.may(sector);
            assert!(may.contains(&content), "sector {sector}: {status:?} of {may:?}");
            let Some(content) = content else { continue };
            assert!(is_counted || is_held_back, "sector {sector} of {}", farm.count());
            let made = &self.contents[usize::from(sector)][content as usize];
            let found = self.power.bytes(&plot, farm.layout().sector_offset(sector), made.bytes.len());
            assert!(found == made.bytes, "bytes of sector {sector}, content {content}");
        }
    }

    /// The note is one that was saved, and the ranges that it names are there.
    fn check_note(&self, farm: &Farm) {
        let mut found = None;
        for sector in 0..SECTORS {
            let Some(said) = farm.0.progress.saved(sector) else { continue };
            assert!(sector < farm.layout().sectors(), "a note of a sector that is gone");
            let made = &self.contents[usize::from(sector)][usize::from(said[0])];
            let start = farm.layout().sector_offset(sector);
            for (range, _) in ranges(made, start).into_iter().zip(&said[1..]).filter(|(_, held)| **held == 1)
            {
                let bytes = self.power.bytes(&farm.dir().join(PLOT_FILE), start + range.0 as u64, range.1);
                assert!(
                    bytes == made.bytes[range.0..][..range.1],
                    "range {range:?} of sector {sector} is not there: {said:?}"
                );
            }
            found = Some((sector, said));
        }
        let model = &mut *self.model.borrow_mut();
        assert!(model.notes.contains(&found), "{found:?} of {:?}", model.notes);
        model.notes = BTreeSet::from([found]);
    }

    /// Replaces a sector, from its beginning or from where it was left; now and then it is given up.
    async fn plot(&self, farm: &Farm, sector: u16, content: u64) {
        if farm.status(sector) == SectorStatus::Unreadable {
            let refused = farm.write_sector(sector).await.err();
            assert!(matches!(refused, Some(SectorError::Unreadable { .. })), "{refused:?}");
            return;
        }
        self.is_soon(sector, None);
        let Ok(writer) = farm.write_sector(sector).await else { return self.is_unsure(sector) };
        self.is_now(sector, None);
        let made = &self.contents[usize::from(sector)][content as usize];
        let ranges = ranges(made, writer.file_offset());
        let Some(mut said) = self.begin(&writer, content, ranges.len()).await else { return };
        let mut left: Vec<usize> = (0..ranges.len()).filter(|range| said[1 + range] == 0).collect();
        while !left.is_empty() {
            if self.one_in(25) {
                return;
            }
            let at_once = (1 + self.below(3) as usize).min(left.len());
            let chosen: Vec<usize> =
                (0..at_once).map(|_| left.swap_remove(self.below(left.len() as u64) as usize)).collect();
            let (writer, ranges) = (&writer, &ranges);
            let writes = chosen.iter().map(|&range| async move {
                let slab = made.slab(&self.pool, writer.file_offset(), ranges[range]);
                writer.write(ranges[range].0 as u64, &slab).await
            });
            if join_all(writes).await.iter().any(Result::is_err) {
                return;
            }
            chosen.iter().for_each(|range| said[1 + range] = 1);
            said[1 + ranges.len()..].fill(left.len() as u8);
            if self.one_in(3) && self.save(farm, writer, &said).await.is_err() {
                return;
            }
        }
        self.is_soon(sector, Some(content));
        // Those left out are marked.
        let is_left_out = |sector: &u16| {
            !matches!(farm.status(*sector), SectorStatus::Plotted { .. } | SectorStatus::Unreadable)
        };
        let left_out: Vec<u16> = (farm.count()..sector).filter(is_left_out).collect();
        left_out.iter().for_each(|sector| self.is_soon(*sector, None));
        self.notes_soon(&None);
        let finished = writer.finish(&made.metadata, &made.checksum()).await;
        self.model.borrow_mut().landed(&None, false);
        match finished {
            Ok(()) => {
                self.is_now(sector, Some(content));
                let is_marked =
                    |sector: &u16| *sector < farm.count() && farm.status(*sector) == SectorStatus::Expired;
                left_out.into_iter().filter(is_marked).for_each(|sector| self.is_now(sector, None));
            }
            Err(SectorError::Io(error)) if self.is_refused(&error) => self.is_unsure(sector),
            Err(SectorError::Unsure { .. }) => drop(self.may(sector).remove(&Some(content))),
            Err(error) => panic!("{error}"),
        }
    }

    /// What is there already of this content; what is noted of another is taken back. None where that fails.
    async fn begin(&self, writer: &SectorWriter, content: u64, ranges: usize) -> Option<Vec<u8>> {
        assert!(1 + ranges < NOTE_BYTES);
        let mut nothing = vec![0; NOTE_BYTES];
        nothing[0] = content as u8;
        let Some(said) = writer.saved_progress() else { return Some(nothing) };
        if u64::from(said[0]) == content {
            return Some(said);
        }
        self.notes_soon(&None);
        let discarded = writer.discard_progress().await;
        let model = &mut *self.model.borrow_mut();
        model.landed(&None, false);
        discarded.ok()?;
        model.notes.retain(|note| note.as_ref().is_none_or(|note| note.0 != writer.sector()));
        Some(nothing)
    }

    async fn save(&self, farm: &Farm, writer: &SectorWriter, said: &[u8]) -> Result<(), SectorError> {
        let note = Some((writer.sector(), said.to_vec()));
        self.notes_soon(&note);
        let saved = writer.save_progress(said).await;
        self.model.borrow_mut().landed(&note, saved.is_ok() && farm.0.progress.is_kept());
        saved
    }

    async fn mark(&self, farm: &Farm, sector: u16) {
        self.is_soon(sector, None);
        match farm.mark_for_replotting(Class::Scrub, sector).await {
            Ok(()) => self.is_now(sector, None),
            Err(_) => self.is_unsure(sector),
        }
    }

    /// Sectors that could not be read are looked at again.
    async fn look_again(&self, farm: &Farm) {
        // What errs leaves the rest as it is.
        let Ok(seen) = farm.look_again(Class::Scrub).await else { return };
        seen.faults.iter().for_each(|(sector, fault)| self.check_fault(*sector, fault));
        self.check(farm);
        self.learn(farm);
    }

    /// One or two sectors replaced, or one marked. Now and then nobody waits for the end.
    async fn batch(&self, farm: &Farm) {
        let sectors = farm.layout().sectors();
        let first = self.below(u64::from(sectors)) as u16;
        if self.one_in(2) {
            self.look_again(farm).await;
        }
        if self.one_in(8) && farm.status(first) != SectorStatus::Unreadable {
            return self.mark(farm, first).await;
        }
        let second = if self.one_in(3) { (first + 1) % sectors } else { first };
        let chosen: BTreeSet<u16> = [first, second].into();
        let plots = chosen.iter().map(|&sector| self.plot(farm, sector, self.below(CONTENTS)));
        let mut plots = Box::pin(join_all(plots));
        if self.one_in(8) {
            for _ in 0..self.below(300) {
                if futures::poll!(&mut plots).is_ready() {
                    return;
                }
                task::yield_now().await;
            }
            drop(plots);
            chosen.iter().for_each(|sector| self.is_unsure(*sector));
            self.quiet(1).await;
            self.model.borrow_mut().on_their_way.clear();
        } else {
            plots.await;
        }
    }

    /// Waits until nothing is under way.
    async fn quiet(&self, slabs: usize) {
        while self.pool.stats().in_use > slabs {
            task::yield_now().await;
        }
    }

    /// Opens the farm on a disk that is well.
    async fn open_well(&self) -> Farm {
        let sectors = self.model.borrow().sectors;
        let (farm, report) =
            open(&self.disk, &self.pool, self.dir.path(), &config(1, sectors)).await.unwrap();
        self.check_opened(&farm, &report);
        farm
    }

    async fn come_back(&self, farm: Farm, loss: Loss) {
        self.model.borrow_mut().on_their_way.clear();
        drop(farm);
        self.quiet(0).await;
        self.power.come_back(loss);
        // What is there now is all that there is; the opening makes it durable.
        self.model.borrow_mut().is_unsure.clear();
    }

    /// Cut off at a step of replacing a sector; opened; and without power before anything else was written.
    async fn run_twice(self, step: u64, first: Loss) {
        let farm = self.open_well().await;
        self.plot(&farm, 0, 0).await;
        self.power.lose_after(step);
        self.plot(&farm, (step % 2) as u16, 1).await;
        self.come_back(farm, first).await;
        let farm = self.open_well().await;
        self.come_back(farm, Loss::Unsynced).await;
        let farm = self.open_well().await;
        // Nothing is under way: whatever comes now, this is what is there.
        self.come_back(farm, Loss::Blocks).await;
        drop(self.open_well().await);
        self.quiet(0).await;
    }

    async fn run(self) {
        for _ in 0..ROUNDS {
            let (farm, loss) = self.open().await;
            self.faults(90);
            for _ in 0..self.below(6) {
                self.batch(&farm).await;
                if self.power.is_lost() {
                    break;
                }
                self.check(&farm);
            }
            self.power.set_faults(Faults::default());
            self.come_back(farm, loss).await;
        }
    }
}

/// `7` or `500..2500`.
fn seeds_of(said: &str) -> Range<u64> {
    let number = |said: &str| said.parse::<u64>().unwrap();
    match said.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(said)..number(said) + 1,
    }
}

/// Runs each seed, or the one that is asked for.
fn each_seed<F: Future<Output = ()>>(seeds: u64, run: impl Fn(u64, Run) -> F + Send + 'static) {
    on_disk(move |_, _| async move {
        let pool = Pool::new(32, 64).unwrap();
        let contents = |sector| {
            (0..CONTENTS).map(|seed| Made::new(1, sector, FIRST_HISTORY_SIZE + seed, seed)).collect()
        };
        let contents: Rc<Vec<Vec<Made>>> = Rc::new((0..SECTORS).map(contents).collect());
        for seed in std::env::var("POWER_SEED").map_or(0..seeds, |seeds| seeds_of(&seeds)) {
            let run = run(seed, Run::new(seed, &pool, &contents));
            if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
                eprintln!("POWER_SEED={seed}");
                resume_unwind(panic);
            }
        }
        assert_eq!(pool.stats().in_use, 0);
    });
}

#[test]
fn no_sector_is_lost_and_none_is_farmed_that_is_not_whole() {
    each_seed(SEEDS, |_, run| run.run());
}

#[test]
fn what_an_opening_finds_outlives_a_loss_of_power_right_after() {
    each_seed(4 * STEPS, |seed, run| {
        run.model.borrow_mut().sectors = 2;
        let first = [Loss::Kill, Loss::Sectors, Loss::Unsynced, Loss::Kill][(seed / STEPS) as usize % 4];
        run.run_twice(1 + seed % STEPS, first)
    });
}
