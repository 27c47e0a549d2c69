//! Counts and prints cases.

use super::json::{self, Check};
use serde_json::Value;
use std::fmt::Display;
use std::time::Instant;

/// Counts and prints cases.
#[derive(Default)]
pub(super) struct Report {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Report {
    /// Runs one case and prints its line.
    pub(super) fn case(&mut self, name: impl Display, check: impl FnOnce() -> Check) {
        let start = Instant::now();
        match check() {
            Ok(()) => {
                self.passed += 1;
                println!("ok   {name} ({:.2} s)", start.elapsed().as_secs_f64());
            }
            Err(difference) => {
                self.failed += 1;
                println!("FAIL {name}: {difference}");
            }
        }
    }

    pub(super) fn skip(&mut self, name: impl Display, reason: &str) {
        self.skipped += 1;
        println!("skip {name}: {reason}");
    }

    /// Runs a case for each element of a list member; a missing list is a failed case.
    pub(super) fn each(&mut self, suite: &str, vectors: &Value, key: &str, check: impl Fn(&Value) -> Check) {
        match json::list(vectors, key) {
            Ok(cases) => cases.iter().enumerate().for_each(|(i, case)| {
                self.case(format_args!("{suite} {key} {i}"), || check(case));
            }),
            Err(error) => self.case(format_args!("{suite} {key}"), || Err(error)),
        }
    }
}
