//! Farms on disks of their own, one executor for all, and one of the disks falls ill: the other farms miss no slot, what they find is
//! accepted and signed in time, not one good sector is given up, and the sick one farms again when its disk is well.

#[allow(dead_code, reason = "shared with the tests of bad input")]
#[path = "../../../../shared_tests/loop_disk.rs"]
mod loop_disk;
mod sick_disk;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use devnet::Reason;
use engine::farm::{FarmInfo, INFO_FILE, METADATA_FILE};

use self::loop_disk::LoopDisk;
use self::sick_disk::{Mood, SickDisk};
use crate::house::{House, SECTORS};
use crate::told::Told;

const CLIENT: &str = "plot-client";
const CONTROLLER: &str = "controller-0";
const NODE: &str = "node-0";
/// It is told of a disk within this: of one that errs, twelve reads are needed, and a slot brings few.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// It is ill at least for so many slots after that was told ...
const ILL_SLOTS: u64 = 3;
/// ... and until so many solutions of the other farms were signed meanwhile.
const ILL_SIGNED: usize = 1;
/// It is seen to be well again within this: a sick disk is tried every ten seconds.
const WELL_WITHIN: Duration = Duration::from_secs(40);
/// Lines about a disk that an illness may cost: its beginning, worse, better, its end, and what a farm says of itself.
const MOST_LINES: usize = 8;

/// What it is to be called in which mood.
const ILLNESSES: [(Mood, &[&str]); 4] = [
    (Mood::Hangs, &["sick"]),
    (Mood::ErrsAtReads, &["sick"]),
    (Mood::ErrsAtOneReadInTen, &["slow", "sick"]),
    (Mood::Gone, &["gone"]),
];

#[test]
fn a_sick_disk_costs_its_own_farm_alone_and_comes_back() {
    let mut house = House::start(1);
    let kept_at = house.path("kept");
    let Some(disk) = SickDisk::over(Path::new(&kept_at)) else { return };
    let Some(mut medium) = LoopDisk::on(house.path("medium").into()) else { return };
    house.without_plot_client();
    let on = |mount: &Path| mount.join("farm").to_str().unwrap().to_owned();
    let farms = [house.path("farm"), on(disk.path()), on(medium.path())];
    house.plot_client_at(CLIENT, &farms, &["--cpu-cores", "0"]);
    let all = farms.len() as u64 * SECTORS;
    house.until_true("all farms plotted", |house| house.count(CLIENT, "sector stored") as u64 >= all);
    let all_farms = farms.each_ref().map(|farm| OneFarm::at(&house, farm));
    let [_, sick, cut] = &all_farms;
    farms_on(&mut house, &all_farms.each_ref());
    let records = || {
        let record = |farm: &Path| fs::read(farm.join(METADATA_FILE)).unwrap();
        [record(&Path::new(&kept_at).join("farm")), record(Path::new(&farms[2]))]
    };
    let before = records();
    let check = |house: &mut House, illness: &Illness, from: usize| {
        // It earns again, and nothing was given up.
        farms_on(house, &[illness.farm]);
        assert!(records() == before, "{}: a record was written over", illness.name);
        let log = &house.processes[CONTROLLER].log()[from..];
        let of_others = |line: &&str| line.contains(NOT_SIGNED) && !line.contains(&illness.farm.key);
        let lost: Vec<_> = log.lines().filter(of_others).collect();
        assert!(lost.is_empty(), "{}: rewards of the other farms: {lost:?}", illness.name);
    };
    for (mood, called) in ILLNESSES {
        let name = format!("{mood:?}");
        let illness = Illness { name: &name, place: disk.path(), called, farm: sick };
        let from = house.processes[CONTROLLER].log().len();
        illness.breaks_out(&mut house, |_| disk.becomes(mood));
        if mood == Mood::ErrsAtOneReadInTen {
            // It is farmed meanwhile, and called slow until it has been well for a minute.
            disk.becomes(Mood::Well);
        } else {
            illness.is_over(&mut house, || disk.becomes(Mood::Well));
        }
        check(&mut house, &illness, from);
    }
    let place = medium.path().to_owned();
    let illness =
        Illness { name: "a medium that is gone", place: &place, called: &["sick", "gone"], farm: cut };
    let from = house.processes[CONTROLLER].log().len();
    illness.breaks_out(&mut house, |house| {
        house.get(CLIENT).freeze(true);
        medium.take_medium();
        house.get(CLIENT).freeze(false);
    });
    illness.is_over(&mut house, || medium.give_medium_back());
    check(&mut house, &illness, from);
    what_the_node_says(&mut house, all);
}

/// All that was found was good, and was signed in time but where the disk of its farm was ill.
fn what_the_node_says(house: &mut House, plotted: u64) {
    let outcomes = house.outcomes(CLIENT);
    assert_eq!(outcomes["refused"], 0, "{outcomes:?}");
    assert_eq!(outcomes["plotted"], plotted, "{outcomes:?}");
    let (signed, lost) = (house.count(CONTROLLER, SIGNED), house.count(CONTROLLER, NOT_SIGNED));
    let report = house.report(NODE);
    eprintln!("{signed} rewards signed, {lost} not; {:?}", report.solutions);
    assert_eq!((report.equivocations, report.reward_signatures.invalid), (0, 0), "{report:?}");
    let for_want_of = |reason| report.solutions.rejected.get(&reason).copied().unwrap_or_default();
    assert!(for_want_of(Reason::NotSigned) <= lost as u64, "signed too late: {report:?}");
    // Two cores are busy at times.
    let harmless = [Reason::NotSigned, Reason::Late];
    let bad: Vec<_> = report.solutions.rejected.keys().filter(|reason| !harmless.contains(reason)).collect();
    assert!(bad.is_empty(), "{report:?}");
}

/// How a controller tells of what it had signed, and had not.
const SIGNED: &str = "reward hash signed";
const NOT_SIGNED: &str = "a reward signature was lost";

/// A farm as the logs name it.
struct OneFarm {
    id: String,
    /// In hex, of its rewards.
    key: String,
}

impl OneFarm {
    fn at(house: &House, farm: &str) -> Self {
        let log = house.processes[CLIENT].log();
        let line = log.lines().find(|line| line.contains("farm open") && line.contains(farm)).unwrap();
        let id = line.split_whitespace().find_map(|word| word.strip_prefix("id=")).unwrap();
        let info = FarmInfo::from_json(&fs::read(Path::new(farm).join(INFO_FILE)).unwrap()).unwrap();
        let key = info.public_key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id: format!("farm={id}"), key }
    }
}

struct Illness<'a> {
    name: &'a str,
    /// Where the disk is mounted.
    place: &'a Path,
    /// What it is to be called.
    called: &'a [&'a str],
    /// That lies on it.
    farm: &'a OneFarm,
}

impl Illness<'_> {
    /// The disk is ill for a while, beside farms on others.
    fn breaks_out(&self, house: &mut House, begin: impl FnOnce(&mut House)) {
        let said_before = house.processes[CLIENT].log().len();
        let said = |house: &House| house.processes[CLIENT].log()[said_before..].to_owned();
        let (first, began) = (house.newest_slot(CLIENT) + 1, Instant::now());
        begin(house);
        house.until_true(&format!("{} told", self.name), |house| self.is_told(&said(house), self.called));
        assert!(began.elapsed() < TOLD_WITHIN, "{}: told after {:?}", self.name, began.elapsed());
        let (told_in, signed) = (house.newest_slot(CLIENT), house.count(CONTROLLER, SIGNED));
        house.until_true(&format!("rewards of others while {}", self.name), |house| {
            house.newest_slot(CLIENT) >= told_in.max(first) + ILL_SLOTS
                && house.count(CONTROLLER, SIGNED) >= signed + ILL_SIGNED
                && self.others_queued(&said(house)) > 0
        });
        house.all_alive();
        let (last, log) = (house.newest_slot(CLIENT), said(house));
        let told = Told::by(&log);
        let missed: Vec<_> = (first..=last).filter(|slot| !told.slots.contains(slot)).collect();
        assert!(missed.is_empty(), "{}: of slots {first} to {last} not worked on: {missed:?}", self.name);
        let of_others = |line: &&String| !line.contains(&self.farm.id);
        let lost: Vec<_> = told.lost.iter().filter(of_others).collect();
        assert!(lost.is_empty(), "{}: solutions of the other farms: {lost:?}", self.name);
        let place = self.place.to_str().unwrap();
        let about = log.lines().filter(|line| line.contains(place) && !line.contains("DEBUG")).count();
        assert!(about <= MOST_LINES, "{}: {about} lines about one disk", self.name);
    }

    /// Solutions of other farms that a controller queued at its node.
    fn others_queued(&self, log: &str) -> usize {
        let queued = |line: &&str| line.contains("solution queued") && !line.contains(&self.farm.id);
        log.lines().filter(queued).count()
    }

    /// It is well again, and seen to be.
    fn is_over(&self, house: &mut House, end: impl FnOnce()) {
        let (said_before, ended) = (house.processes[CLIENT].log().len(), Instant::now());
        end();
        house.until_true(&format!("well after {}", self.name), |house| {
            self.is_told(&house.processes[CLIENT].log()[said_before..], &["healthy"])
        });
        assert!(ended.elapsed() < WELL_WITHIN, "{}: well after {:?}", self.name, ended.elapsed());
    }

    /// Whether the disk was called one of these.
    fn is_told(&self, log: &str, words: &[&str]) -> bool {
        let place = self.place.to_str().unwrap();
        log.lines().any(|line| line.contains(place) && words.iter().any(|word| line.contains(word)))
    }
}

/// Each of these gets a solution queued from now on.
fn farms_on(house: &mut House, farms: &[&OneFarm]) {
    let from = house.processes[CLIENT].log().len();
    house.until_true("solutions of each farm", |house| {
        let log = &house.processes[CLIENT].log()[from..];
        let queued = |farm: &&OneFarm| {
            log.lines().any(|line| line.contains("solution queued") && line.contains(&farm.id))
        };
        farms.iter().all(queued)
    });
}
