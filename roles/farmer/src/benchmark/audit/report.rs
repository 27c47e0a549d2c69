//! The figures of a farm's audits, for people and as JSON.

use super::compare::HashNs;
use super::slots::Slots;
use engine::Access;
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;

/// A slot, and the tenth of it that an audit should take; milliseconds.
const SLOT_MS: f64 = 1000.0;
const TENTH_MS: f64 = 100.0;

/// A way to audit, and what came of it.
pub struct Way {
    /// Past the page cache or through it.
    pub access: Access,
    /// Reads at once.
    pub depth: usize,
    /// Whether the disk was written at full rate meanwhile.
    pub is_written: bool,
    /// Bytes that were written meanwhile.
    pub written_bytes: u64,
    /// The audits.
    pub slots: Slots,
}

impl Way {
    fn name(&self) -> &'static str {
        match (self.access, self.is_written) {
            (Access::ReadCached, _) => "page cache",
            (_, true) => "direct, while written",
            (_, false) => "direct",
        }
    }

    /// While it audits.
    fn per_s(&self, count: u64) -> f64 {
        count as f64 / self.slots.busy.as_secs_f64().max(1e-9)
    }

    /// Chunks that the thread audits in a second of a core.
    fn chunks_per_core_s(&self) -> f64 {
        let core = self.slots.cpu.unwrap_or(self.slots.busy);
        self.slots.chunks as f64 / core.as_secs_f64().max(1e-9)
    }

    /// Sectors that 99 audits of a hundred take in so many milliseconds.
    fn sectors_within(&self, ms: f64) -> u64 {
        let sectors_a_slot = self.slots.sectors as f64 / self.slots.times.count().max(1) as f64;
        (sectors_a_slot * ms / self.slots.times.percentile_ms(99).max(1e-6)) as u64
    }

    fn written_mib_per_s(&self) -> Option<f64> {
        let per_s = self.written_bytes as f64 / f64::from(1 << 20) / self.slots.took.as_secs_f64().max(1e-9);
        self.is_written.then_some(per_s)
    }

    /// Milliseconds of a core that a slot takes.
    fn core_ms_a_slot(&self) -> f64 {
        let core = self.slots.cpu.unwrap_or(self.slots.busy);
        core.as_secs_f64() * 1e3 / self.slots.times.count().max(1) as f64
    }

    fn to_json(&self, hash_ns: HashNs) -> Value {
        let times = &self.slots.times;
        json!({
            "way": self.name(),
            "depth": self.depth,
            "slots": times.count(),
            "missed_slots": self.slots.missed,
            "p50_ms": times.percentile_ms(50),
            "p99_ms": times.percentile_ms(99),
            "max_ms": times.max_ms(),
            "sectors_per_s": self.per_s(self.slots.sectors),
            "sectors_in_100_ms": self.sectors_within(TENTH_MS),
            "sectors_in_1000_ms": self.sectors_within(SLOT_MS),
            "sectors": self.slots.sectors,
            "reads": self.slots.reads,
            "read_bytes": self.slots.read_bytes,
            "reads_per_s": self.per_s(self.slots.reads),
            "read_mib_per_s": self.per_s(self.slots.read_bytes) / f64::from(1 << 20),
            "chunks_per_s": self.per_s(self.slots.chunks),
            "chunks_per_core_s": self.chunks_per_core_s(),
            "core_ms_a_slot": self.core_ms_a_slot(),
            "of_one_at_a_time_keyed_hash": self.chunks_per_core_s() * hash_ns.one / 1e9,
            "written_mib_per_s": self.written_mib_per_s(),
            "unread_sectors": self.slots.errors,
            "first_error": self.slots.error,
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} reads at once", self.name(), self.depth)
    }
}

/// All figures of a farm.
pub struct FarmReport {
    /// Its directory.
    pub path: PathBuf,
    /// Whether another process has it.
    pub is_in_use: bool,
    /// Pieces in each of its sectors.
    pub pieces_in_sector: u16,
    /// Sectors that are plotted.
    pub sectors: u64,
    /// Sectors with something wrong, which are left out.
    pub faults: u64,
    /// Reads at once of a plot-client.
    pub farmer_depth: usize,
    /// Nanoseconds of a chunk's hash alone.
    pub hash_ns: HashNs,
    /// Nanoseconds of a chunk read from the page cache and hashed without any art, if that was measured.
    pub cached_plain_ns: Option<f64>,
    /// What was compared.
    pub ways: Vec<Way>,
}

impl FarmReport {
    /// The way that audits most within a slot, undisturbed.
    pub fn best(&self) -> Option<&Way> {
        let undisturbed = self.ways.iter().filter(|way| !way.is_written);
        undisturbed.max_by_key(|way| way.sectors_within(SLOT_MS))
    }

    /// p99 while written against that of the idle disk, worst of all depths.
    pub fn written_p99_of_idle(&self) -> Option<f64> {
        let written = self.ways.iter().filter(|way| way.is_written);
        let ratio = |written: &Way| {
            let is_pair = |way: &&Way| way.depth == written.depth && way.name() == "direct";
            let idle = self.ways.iter().find(is_pair)?;
            Some(written.slots.times.percentile_ms(99) / idle.slots.times.percentile_ms(99).max(1e-6))
        };
        written.filter_map(ratio).reduce(f64::max)
    }

    /// What a slot takes of a core, and what for.
    fn core_words(&self, way: &Way) -> String {
        let (core_ms, chunks) = (way.core_ms_a_slot(), way.slots.chunks as f64);
        let hash_ms = chunks * self.hash_ns.audit / 1e6 / way.slots.times.count().max(1) as f64;
        let percent = (100.0 * hash_ms / core_ms.max(1e-9)).min(100.0);
        let times = way.chunks_per_core_s() * self.hash_ns.one / 1e9;
        let than = match times {
            ..1.0 => {
                "reading takes more than hashing would, chunk by chunk: the sectors are small".to_owned()
            }
            times => {
                format!("{times:.1} times as fast as a core hashes chunk by chunk, without reading them")
            }
        };
        format!(
            "a slot takes {core_ms:.2} ms of a core, {percent:.0} % of it for hashes, the rest for reading; {than}"
        )
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "in_use": self.is_in_use,
            "pieces_in_sector": self.pieces_in_sector,
            "plotted_sectors": self.sectors,
            "faulty_sectors": self.faults,
            "farmer_depth": self.farmer_depth,
            "keyed_hash_ns": self.hash_ns.one,
            "audit_hash_ns": self.hash_ns.audit,
            "page_cache_one_at_a_time_ns": self.cached_plain_ns,
            "ways": self.ways.iter().map(|way| way.to_json(self.hash_ns)).collect::<Vec<_>>(),
            "best": self.best().map(|way| json!({ "way": way.name(), "depth": way.depth })),
            "written_p99_of_idle": self.written_p99_of_idle(),
        })
    }
}

impl fmt::Display for FarmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, sectors, pieces) = (self.path.display(), self.sectors, self.pieces_in_sector);
        writeln!(f, "{path}: {sectors} sectors of {pieces} pieces")?;
        if self.is_in_use {
            writeln!(
                f,
                "in use by another process, which audits and writes meanwhile: the figures are what it leaves"
            )?;
        }
        if self.faults > 0 {
            writeln!(f, "{} sectors are damaged and left out: scrub the farm", self.faults)?;
        }
        writeln!(
            f,
            "{:<23}{:>6}{:>8}{:>10}{:>10}{:>10}{:>12}{:>12}{:>12}{:>10}{:>8}",
            "way",
            "depth",
            "slots",
            "p50 ms",
            "p99 ms",
            "max ms",
            "sectors/s",
            "in 100 ms",
            "in 1 s",
            "reads/s",
            "MiB/s"
        )?;
        self.ways.iter().try_for_each(|way| write_way(f, way))?;
        for way in self.ways.iter().filter(|way| way.slots.errors > 0) {
            let error = way.slots.error.as_deref().unwrap_or("unknown");
            writeln!(f, "{way}: {} sectors could not be read, the first: {error}", way.slots.errors)?;
        }
        if let Some(ratio) = self.written_p99_of_idle() {
            writeln!(f, "p99 while written: {ratio:.2} times that of the idle disk")?;
        }
        if let Some(best) = self.best() {
            writeln!(f, "best: {best} (a plot-client reads direct, up to {} at once)", self.farmer_depth)?;
            writeln!(f, "{}", self.core_words(best))?;
        }
        Ok(())
    }
}

fn write_way(f: &mut fmt::Formatter<'_>, way: &Way) -> fmt::Result {
    let Slots { times, reads, read_bytes, sectors, missed, .. } = &way.slots;
    writeln!(
        f,
        "{:<23}{:>6}{:>8}{:>10.2}{:>10.2}{:>10.2}{:>12.0}{:>12}{:>12}{:>10.0}{:>8.0}",
        way.name(),
        way.depth,
        times.count(),
        times.percentile_ms(50),
        times.percentile_ms(99),
        times.max_ms(),
        way.per_s(*sectors),
        way.sectors_within(TENTH_MS),
        way.sectors_within(SLOT_MS),
        way.per_s(*reads),
        way.per_s(*read_bytes) / f64::from(1 << 20),
    )?;
    if *missed > 0 {
        writeln!(f, "  {missed} slots were missed: the audit before still ran")?;
    }
    if let Some(rate) = way.written_mib_per_s() {
        writeln!(f, "  written meanwhile: {rate:.0} MiB/s")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::latencies::Latencies;
    use super::*;
    use std::time::Duration;

    fn way(access: Access, depth: usize, is_written: bool, ms: u64) -> Way {
        let mut times = Latencies::default();
        (0..100).for_each(|_| times.add(Duration::from_millis(ms)));
        let busy = Duration::from_millis(100 * ms);
        let (sectors, reads, read_bytes, chunks) = (10_000, 8000, 8000 * 20_480, 8000 * 600);
        let slots = Slots { times, sectors, reads, read_bytes, chunks, busy, took: busy, ..Slots::default() };
        Way { access, depth, is_written, written_bytes: 100 << 20, slots }
    }

    #[test]
    fn the_best_way_is_named_and_writing_compared() {
        let ways = vec![
            way(Access::Read, 16, false, 10),
            way(Access::Read, 64, false, 5),
            way(Access::Read, 64, true, 15),
            way(Access::ReadCached, 64, false, 20),
        ];
        let mut report = FarmReport {
            path: "/mnt/a".into(),
            is_in_use: true,
            pieces_in_sector: 1000,
            sectors: 100,
            faults: 1,
            farmer_depth: 56,
            hash_ns: HashNs { one: 1000.0, audit: 10.0 },
            cached_plain_ns: Some(120.0),
            ways,
        };
        let json = report.to_json();
        assert_eq!(json["best"], json!({ "way": "direct", "depth": 64 }));
        let ratio = json["written_p99_of_idle"].as_f64().unwrap();
        assert!((ratio - 3.0).abs() < 0.02, "{ratio}");
        assert_eq!(json["ways"][0]["sectors_per_s"], json!(10_000.0));
        let in_a_slot = json["ways"][1]["sectors_in_1000_ms"].as_u64().unwrap();
        assert!((19_900..=20_000).contains(&in_a_slot), "{in_a_slot}");
        assert_eq!((&json["ways"][0]["written_mib_per_s"], &json["in_use"]), (&Value::Null, &json!(true)));
        let text = report.to_string();
        for part in [
            "in use by another process",
            "best: direct, 64 reads at once",
            "1 sectors are damaged",
            "3.00 times",
            // 48 000 chunks in the 5 ms of a slot.
            "a slot takes 5.00 ms of a core, 10 % of it for hashes",
            "9.6 times as fast",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        report.hash_ns.one = 100.0;
        let text = report.to_string();
        assert!(text.contains("the sectors are small") && !text.contains("times as fast"), "{text}");
    }
}
