//! The command `autonomys-farmer`.

mod cli;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The target of what the client of NATS logs.
const NATS_CLIENT: &str = "async_nats";

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    start_logging(cli.default_log_filter());
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error: standard output belongs to the results of commands.
fn start_logging(default_filter: &str) {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| EnvFilter::try_new(text).is_ok());
    let filter = EnvFilter::new(quiet(&wanted.unwrap_or_else(|| default_filter.to_owned())));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(cli::LogWriter)
        .init();
}

/// The filter with the NATS client at `warn`, which else tells twice a second that a server is away: `bus` says that once.
/// Who names the client, or wants less of everything, is obeyed.
fn quiet(filter: &str) -> String {
    let level = |directive: &str| directive.trim().parse::<LevelFilter>().ok();
    let is_loud = filter.split(',').filter_map(level).any(|level| level > LevelFilter::WARN);
    if is_loud && !filter.contains(NATS_CLIENT) {
        format!("{filter},{NATS_CLIENT}=warn")
    } else {
        filter.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nats_client_is_quiet_unless_it_is_named() {
        for (wanted, filter) in [
            ("info", "info,async_nats=warn"),
            ("warn,cluster=debug, DEBUG", "warn,cluster=debug, DEBUG,async_nats=warn"),
            ("info,async_nats=debug", "info,async_nats=debug"),
            ("cluster=debug", "cluster=debug"),
            ("warn", "warn"),
            ("off", "off"),
            ("", ""),
        ] {
            assert_eq!(quiet(wanted), filter);
            assert!(EnvFilter::try_new(filter).is_ok());
        }
    }
}
