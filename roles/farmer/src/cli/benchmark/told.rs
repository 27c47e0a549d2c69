//! What became of each farm that was named.

use std::fmt::Display;
use std::path::PathBuf;

use serde_json::Value;

use super::super::CommandResult;

/// Prints the report of each farm, as text or one line of JSON, and names those that have none; they make the command fail.
pub fn tell<R: Display, E: Display>(
    measured: Vec<(PathBuf, Result<R, E>)>,
    json: Option<fn(&R) -> Value>,
) -> CommandResult {
    let (farms, mut failed) = (measured.len(), 0);
    for (path, report) in measured {
        match (report, json) {
            (Ok(report), Some(json)) => println!("{}", json(&report)),
            (Ok(report), None) => println!("{report}"),
            (Err(error), _) => {
                eprintln!("{}: {error}", path.display());
                failed += 1;
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {farms} farms have no figures").into()) }
}
