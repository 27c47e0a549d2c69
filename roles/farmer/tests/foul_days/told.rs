//! What a plot-client's log tells of its solutions, one line each, and whether the reasons in it can be true.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

/// How a line tells of a solution's end.
const QUEUED: &str = "solution queued";
const REFUSED: &str = "a solution was refused: ";
const NOT_SENT: &str = "a solution was not sent: ";
const UNKNOWN: &str = "a solution may have been sent or not: ";
/// How it tells of a slot that it begins to work on.
const WORKED_ON: &str = "plot_client::slots: worked on slot=";
/// Not sent because it was found too late. Busy processors are reason enough.
const LATE: &str = "its slot was over when it was proved";

/// A controller or a node has reconnected and announces slots again.
const BACK_AFTER: Duration = Duration::from_secs(12);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Solutions by what became of them.
#[derive(Debug, Default)]
pub struct Told {
    pub queued: usize,
    pub unknown: usize,
    pub late: usize,
    /// Slots that were worked on.
    pub slots: BTreeSet<u64>,
    /// Refused, not sent, or unknown: the whole lines.
    pub lost: Vec<String>,
}

impl Told {
    pub fn by(log: &str) -> Self {
        let mut told = Self::default();
        for line in log.lines() {
            if line.contains(WORKED_ON) {
                told.slots.extend(number(line, "slot"));
            } else if line.contains(QUEUED) {
                told.queued += 1;
            } else if line.contains(LATE) {
                told.late += 1;
            } else if [REFUSED, NOT_SENT, UNKNOWN].iter().any(|words| line.contains(words)) {
                told.unknown += usize::from(line.contains(UNKNOWN));
                told.lost.push(line.to_owned());
            }
        }
        told
    }

    /// All that were proved.
    pub fn ended(&self) -> usize {
        self.queued + self.late + self.lost.len()
    }

    /// Which of these slots were not worked on, or cost a solution for another reason than that it was late; and how.
    pub fn lost_slots(&self, slots: RangeInclusive<u64>) -> BTreeMap<u64, &str> {
        let of_lines = self.lost.iter().filter_map(|line| Some((number(line, "slot")?, line.as_str())));
        let mut lost: BTreeMap<_, _> = of_lines.filter(|(slot, _)| slots.contains(slot)).collect();
        lost.extend(slots.filter(|slot| !self.slots.contains(slot)).map(|slot| (slot, "not worked on")));
        lost
    }

    /// Those that were lost while nothing was wrong: not between a blow and the time by which who was hit is back.
    pub fn untrue(&self, blows: &[Blow]) -> Vec<&String> {
        let is_told_of = |line: &&String| {
            let at = time_of_day(line).expect("each line begins with its time");
            blows.iter().any(|blow| (at + DAY - blow.at).as_secs_f64() % DAY.as_secs_f64() < blow.lasts())
        };
        self.lost.iter().filter(|line| !is_told_of(line)).collect()
    }
}

/// A process was killed, and started again some time later.
#[derive(Debug)]
pub struct Blow {
    /// Time of day.
    at: Duration,
    down: Duration,
}

impl Blow {
    /// One that falls now.
    pub fn now(down: Duration) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self { at: Duration::from_secs_f64(now.as_secs_f64() % DAY.as_secs_f64()), down }
    }

    fn lasts(&self) -> f64 {
        (self.down + BACK_AFTER).as_secs_f64()
    }
}

/// The number that a line has by this name.
pub fn number(line: &str, name: &str) -> Option<u64> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// The time of day in `2026-11-30T06:51:12.123456Z …`.
fn time_of_day(line: &str) -> Option<Duration> {
    let (_, time) = line.split_once('T')?;
    let (time, _) = time.split_once('Z')?;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(Duration::from_secs_f64((hours * 60.0 + minutes) * 60.0 + seconds))
}

#[test]
fn lines_of_a_plot_client_and_their_reasons() {
    let log = "\
2026-11-30T23:59:50.0Z DEBUG cluster::plot_client::slots: worked on slot=7
2026-11-30T23:59:50.5Z  INFO cluster::plot_client::solutions: solution queued slot=7 farm=a controller=b
2026-11-30T23:59:58.0Z  WARN cluster::plot_client::solutions: a solution was not sent: the bus is away slot=8 farm=a
2026-12-01T00:00:02.0Z  WARN cluster::plot_client::solutions: a solution may have been sent or not: no answer slot=9 farm=a
2026-12-01T00:00:03.0Z  WARN cluster::plot_client::solutions: a solution was not sent: its slot was over when it was proved slot=9 farm=a
2026-12-01T00:09:00.0Z  WARN cluster::plot_client::solutions: a solution was refused: why slot=70 farm=a
";
    let told = Told::by(log);
    assert_eq!((told.queued, told.unknown, told.late, told.ended()), (1, 1, 1, 5));
    assert_eq!(told.lost_slots(7..=10).into_keys().collect::<Vec<_>>(), [8, 9, 10]);
    let blow = Blow { at: time_of_day("2026-11-30T23:59:57.0Z").unwrap(), down: Duration::from_secs(1) };
    let untrue = told.untrue(&[blow]);
    assert!(matches!(untrue[..], [line] if line.contains("slot=70")), "{untrue:?}");
    assert_eq!(told.untrue(&[]).len(), 3);
}
