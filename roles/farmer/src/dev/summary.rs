//! What a run of `dev` ends with: a short table, and the same as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use devnet::Report as NodeReport;

/// Everything worth knowing of a run. The node's part has the keys of its own report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// What the node verified.
    #[serde(flatten)]
    pub node: NodeReport,
    /// Pieces of history.
    pub pieces: u64,
    /// Sectors that the farm had when it was opened.
    pub sectors_found: u64,
    /// Sectors plotted by this run.
    pub sectors_plotted: u64,
    /// Seconds from the start of the roles to the last sector stored, by the number of sectors of this run.
    pub seconds_a_sector: Option<f64>,
    /// Audits of a slot by a farm.
    pub audits: Audits,
    /// Chunks within the solution range.
    pub candidates: u64,
    /// Solutions handed to the controller.
    pub solutions_sent: u64,
}

/// How long audits took.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Audits {
    /// How many.
    pub count: u64,
    /// Half of them took at most this.
    pub p50_ms: Option<f64>,
    /// Nearly all of them took at most this.
    pub p99_ms: Option<f64>,
}

/// Milliseconds with their fraction.
pub fn in_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional =
            |value: Option<f64>, unit: &str| value.map_or("-".into(), |value| format!("{value:.1} {unit}"));
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<22} {value}");
        row("segments", self.node.segments.to_string())?;
        row("pieces", self.pieces.to_string())?;
        row("sectors plotted", format!("{} (and {} before)", self.sectors_plotted, self.sectors_found))?;
        row("time a sector", optional(self.seconds_a_sector, "s"))?;
        row("slots", self.node.slots.to_string())?;
        let (p50, p99) = (optional(self.audits.p50_ms, "ms"), optional(self.audits.p99_ms, "ms"));
        row("audits", format!("{} (p50 {p50}, p99 {p99})", self.audits.count))?;
        row("candidates", self.candidates.to_string())?;
        row("solutions sent", self.solutions_sent.to_string())?;
        row("solutions accepted", self.node.solutions.accepted.to_string())?;
        row("solutions surplus", self.node.solutions.surplus.to_string())?;
        row("solutions rejected", self.rejected())?;
        let signatures = &self.node.reward_signatures;
        row("reward signatures", format!("{} valid, {} invalid", signatures.valid, signatures.invalid))
    }
}

impl Summary {
    /// Solutions that the node refused, for whatever reason.
    pub fn rejected_count(&self) -> u64 {
        self.node.solutions.rejected.values().sum()
    }

    fn rejected(&self) -> String {
        let reasons =
            self.node.solutions.rejected.iter().map(|(reason, count)| format!("{count} {reason:?}"));
        let reasons: Vec<String> = reasons.collect();
        if reasons.is_empty() {
            "0".into()
        } else {
            format!("{} ({})", self.rejected_count(), reasons.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devnet::Reason;

    #[test]
    fn json_has_the_keys_of_the_node_and_the_table_names_reasons() {
        let mut summary = Summary { sectors_plotted: 4, ..Summary::default() };
        summary.node.solutions.accepted = 11;
        summary.node.solutions.rejected.insert(Reason::Late, 2);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["solutions"]["accepted"], 11);
        assert_eq!(json["solutions"]["rejected"]["late"], 2);
        assert_eq!(json["sectors_plotted"], 4);
        assert!(json["reward_signatures"]["valid"].is_u64() && json["slots"].is_u64());
        let table = summary.to_string();
        assert!(table.contains("2 (2 Late)") && table.contains("solutions accepted     11"), "{table}");
    }
}
