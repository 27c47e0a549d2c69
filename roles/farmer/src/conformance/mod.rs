//! `autonomys-farmer util conformance`: runs a directory of golden vectors against this build.
//!
//! The vectors are made with the network's own software; file names and rules are those of the files themselves, so that any set of
//! the same form runs. One line a case, then the count.

mod archiving;
mod audit;
mod backend;
mod constants;
mod context;
mod erasure;
mod error;
mod json;
mod kzg;
mod pos;
mod reading;
mod report;
mod sector;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use self::backend::Backend;
#[cfg(feature = "kernel-shim")]
pub(crate) use self::backend::kernel_shim;
use self::context::Context;
pub use self::error::ConformanceError;
use self::json::read_vectors;
use self::report::Report;
use ::consensus::CpuLevel;
use ::consensus::kzg::Kzg;
use clap::{Args, ValueEnum};
use engine::threads::ThreadWorkers;
use node::kzg_setup::{self, KzgSetupError};
use serde_json::Value;

/// Command line of `util conformance`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Directory of vector files (pos.json, erasure.json, kzg.json, archiving.json, sector.json, ...)
    directory: PathBuf,
    /// KZG parameters of the network; cases that need them are skipped without. Default:
    /// $XDG_DATA_HOME/autonomys-farmer/eth-public-parameters.bin
    #[arg(long, value_name = "FILE")]
    kzg_parameters: Option<PathBuf>,
    /// Suites to run, by file name without .json; default: all that the directory has
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Suite>,
    /// What computes
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    backend: Backend,
}

/// A file of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Suite {
    Constants,
    Pos,
    Erasure,
    Kzg,
    Archiving,
    Sector,
    AuditProve,
    #[value(name = "reading")]
    Reading,
}

impl Suite {
    fn files(self, directory: &Path) -> Result<Vec<PathBuf>, ConformanceError> {
        let name = match self {
            Self::Constants => "constants",
            Self::Pos => "pos",
            Self::Erasure => "erasure",
            Self::Kzg => "kzg",
            Self::Archiving => "archiving",
            Self::Sector => "sector",
            Self::AuditProve => "audit_prove",
            Self::Reading => return reading_files(directory),
        };
        let path = directory.join(name).with_extension("json");
        Ok(if path.exists() { vec![path] } else { Vec::new() })
    }
}

fn reading_files(directory: &Path) -> Result<Vec<PathBuf>, ConformanceError> {
    let failed = |error| ConformanceError::Read(directory.into(), error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("reading_") && name.ends_with(".json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Runs what the arguments name and prints the count; an error if a case failed or nothing could be run.
pub fn run(arguments: Arguments) -> Result<(), ConformanceError> {
    let device = arguments.backend.device().map_err(ConformanceError::Backend)?;
    let suites = if arguments.only.is_empty() { Suite::value_variants() } else { &arguments.only };
    let context = Context {
        kzg: read_parameters(arguments.kzg_parameters.as_deref())?,
        directory: arguments.directory,
        level: CpuLevel::current(),
        device,
        workers: ThreadWorkers::unbound(std::thread::available_parallelism().map_or(1, Into::into)),
        history: OnceCell::new(),
    };
    let mut report = Report::default();
    let mut files = 0;
    for suite in suites {
        for path in suite.files(&context.directory)? {
            files += 1;
            run_suite(*suite, &read_vectors(&path)?, &context, &mut report);
        }
    }
    if files == 0 {
        return Err(ConformanceError::NoVectors(context.directory));
    }
    println!("conformance: {} passed, {} failed, {} skipped", report.passed, report.failed, report.skipped);
    if report.failed == 0 { Ok(()) } else { Err(ConformanceError::Failed(report.failed)) }
}

fn run_suite(suite: Suite, vectors: &Value, context: &Context, report: &mut Report) {
    let needs_kzg = !matches!(suite, Suite::Constants | Suite::Pos | Suite::Erasure);
    if needs_kzg && context.kzg.is_none() {
        report.skip(format_args!("{suite:?}"), "needs --kzg-parameters");
        return;
    }
    if context.device.is_some() && !matches!(suite, Suite::Pos | Suite::Erasure | Suite::Sector) {
        report.skip(format_args!("{suite:?}"), "nothing in it is computed by kernels");
        return;
    }
    match suite {
        Suite::Constants => constants::run(vectors, context, report),
        Suite::Pos => pos::run(vectors, context, report),
        Suite::Erasure => erasure::run(vectors, context, report),
        Suite::Kzg => kzg::run(vectors, context, report),
        Suite::Archiving => archiving::run(vectors, context, report),
        Suite::Sector => sector::run(vectors, context, report),
        Suite::AuditProve => audit::run(vectors, context, report),
        Suite::Reading => reading::run(vectors, context, report),
    }
}

/// The network's setup: the file that was named, or that in the usual place if there is one.
fn read_parameters(named: Option<&Path>) -> Result<Option<Kzg>, ConformanceError> {
    match kzg_setup::ceremony(named) {
        Ok(kzg) => Ok(Some(kzg)),
        Err(KzgSetupError::NotFound { .. } | KzgSetupError::NoHome(_)) if named.is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
