//! Farms on disks of their own, one executor for all, and one of the disks falls ill: the other farms miss nothing, not one good sector is
//! given up, and the sick one farms again when its disk is well.

mod loop_disk;
mod sick_disk;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::farm::METADATA_FILE;

use self::loop_disk::LoopDisk;
use self::sick_disk::{Mood, SickDisk};
use crate::house::{House, SECTORS};
use crate::told::Told;

const CLIENT: &str = "plot-client";
/// It is told of a disk within this: of one that errs, twelve reads are needed, and a slot brings few.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// For so long it is ill after that was told.
const ILL_FOR: Duration = Duration::from_secs(10);
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
    let [well, sick, cut] = farms.each_ref().map(|farm| id_of(&house, farm));
    let everybody = [well.as_str(), &sick, &cut];
    farms_on(&mut house, &everybody);
    let records = || {
        let record = |farm: &Path| fs::read(farm.join(METADATA_FILE)).unwrap();
        [record(&Path::new(&kept_at).join("farm")), record(Path::new(&farms[2]))]
    };
    let before = records();
    let check = |house: &mut House, ill: &str| {
        // They earn again, and nothing was given up.
        farms_on(house, &everybody);
        assert!(records() == before, "{ill}: a record was written over");
    };
    for (mood, called) in ILLNESSES {
        let name = format!("{mood:?}");
        let illness = Illness { name: &name, place: disk.path(), called };
        illness.breaks_out(&mut house, &well, |_| disk.becomes(mood));
        if mood == Mood::ErrsAtOneReadInTen {
            // It is farmed meanwhile, and called slow until it has been well for a minute.
            disk.becomes(Mood::Well);
        } else {
            illness.is_over(&mut house, || disk.becomes(Mood::Well));
        }
        check(&mut house, &name);
    }
    let place = medium.path().to_owned();
    let illness = Illness { name: "a medium that is gone", place: &place, called: &["sick", "gone"] };
    illness.breaks_out(&mut house, &well, |house| {
        house.get(CLIENT).freeze(true);
        medium.take_medium();
        house.get(CLIENT).freeze(false);
    });
    illness.is_over(&mut house, || medium.give_medium_back());
    check(&mut house, illness.name);

    let outcomes = house.outcomes(CLIENT);
    assert_eq!(outcomes["refused"], 0, "{outcomes:?}");
    assert_eq!(outcomes["plotted"], all, "{outcomes:?}");
    assert_eq!(house.report("node-0").equivocations, 0);
}

struct Illness<'a> {
    name: &'a str,
    /// Where the disk is mounted.
    place: &'a Path,
    /// What it is to be called.
    called: &'a [&'a str],
}

impl Illness<'_> {
    /// The disk is ill for a while, beside a farm on another one.
    fn breaks_out(&self, house: &mut House, well: &str, begin: impl FnOnce(&mut House)) {
        let said_before = house.processes[CLIENT].log().len();
        let said = |house: &House| house.processes[CLIENT].log()[said_before..].to_owned();
        let (first, began) = (house.newest_slot(CLIENT) + 1, Instant::now());
        begin(house);
        house.until_true(&format!("{} told", self.name), |house| self.is_told(&said(house), self.called));
        assert!(began.elapsed() < TOLD_WITHIN, "{}: told after {:?}", self.name, began.elapsed());
        std::thread::sleep(ILL_FOR);
        house.all_alive();
        let (last, log) = (house.newest_slot(CLIENT), said(house));
        let told = Told::by(&log);
        let missed: Vec<_> = (first..=last).filter(|slot| !told.slots.contains(slot)).collect();
        assert!(last > first + 3, "{}: slots {first} to {last}", self.name);
        assert!(missed.is_empty(), "{}: of slots {first} to {last} not worked on: {missed:?}", self.name);
        let queued = log.lines().filter(|line| line.contains("solution queued") && line.contains(well));
        assert!(queued.count() > 0, "{}: the other farm found nothing", self.name);
        let place = self.place.to_str().unwrap();
        let about = log.lines().filter(|line| line.contains(place) && !line.contains("DEBUG")).count();
        assert!(about <= MOST_LINES, "{}: {about} lines about one disk", self.name);
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

/// The name of a farm in the log.
fn id_of(house: &House, farm: &str) -> String {
    let log = house.processes[CLIENT].log();
    let line = log.lines().find(|line| line.contains("farm open") && line.contains(farm)).unwrap();
    let id = line.split_whitespace().find_map(|word| word.strip_prefix("id=")).unwrap();
    format!("farm={id}")
}

/// Each of these gets a solution queued from now on.
fn farms_on(house: &mut House, farms: &[&str]) {
    let from = house.processes[CLIENT].log().len();
    house.until_true("solutions of each farm", |house| {
        let log = &house.processes[CLIENT].log()[from..];
        let queued =
            |farm: &&str| log.lines().any(|line| line.contains("solution queued") && line.contains(farm));
        farms.iter().all(queued)
    });
}
