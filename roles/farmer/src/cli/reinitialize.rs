//! `autonomys-farmer util reinitialization-cache`: a new epoch of the caches that are there, and how they fill.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use clap::Args;
use cluster::tools::reinitialize::{self, Options, Step};
use indicatif::{ProgressBar, ProgressStyle};

use super::CommandResult;
use super::cluster::NatsArgs;

/// Least time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct ReinitializeArgs {
    #[command(flatten)]
    nats: NatsArgs,
    /// Seconds to wait before the new epoch begins
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(..=86_400))]
    delay: u32,
    /// Tell what would move, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until the caches hold what they should
    #[arg(long)]
    no_wait: bool,
}

impl ReinitializeArgs {
    pub fn run(self) -> CommandResult {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let delay = Duration::from_secs(self.delay.into());
        let options = Options { delay, dry_run: self.dry_run, wait: !self.no_wait };
        runtime.block_on(async {
            let bus = self.nats.connect_now("reinitialization-cache").await?;
            let mut show = Show::default();
            reinitialize::run(&bus, options, |step| show.step(&step)).await?;
            if options.wait && !options.dry_run {
                println!("the caches hold what they should");
            }
            Ok(())
        })
    }
}

/// The bar, or when the last line was written.
#[derive(Default)]
struct Show {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

impl Show {
    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Listening(time) => eprintln!("listening for {} s who is there", time.as_secs()),
            Step::Planned { number, segments, copies, shares, names, absent } => {
                println!(
                    "epoch {number}, for {segments} segments of history, copies of each piece: {copies}"
                );
                let owners = shares.iter().filter(|share| share.capacity > 0).count();
                if owners < usize::from(*copies) {
                    println!(
                        "  there are fewer sharded caches than that ({owners}): start another one, or a controller with fewer --copies"
                    );
                }
                println!("{:<28}{:<24}{:>12}{:>12}{:>14}", "cache", "host", "room", "owns", "moves to it");
                for share in *shares {
                    let host = names.get(&share.id).map_or("", String::as_str);
                    let id = share.id.to_string();
                    println!("{id:<28}{host:<24}{:>12}{:>12}{:>14}", share.capacity, share.owns, share.gains);
                    if share.owns > share.capacity {
                        println!(
                            "  it has not room for all that it owns: give it more with size=, or start another cache"
                        );
                    }
                }
                for id in *absent {
                    println!("{id:<28}not heard: it has a share now, and will have none");
                }
            }
            Step::Begun(number) => println!("epoch {number} has begun"),
            Step::Filled { held, of } => self.filled(*held, *of),
        }
    }

    fn filled(&mut self, held: u64, of: u64) {
        if stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("filled {pos} of {len} {wide_bar} {eta}");
                ProgressBar::new(of).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_position(held);
            if held == of {
                bar.finish();
            }
        } else if held == of || self.last_line.is_none_or(|at| at.elapsed() >= LINE_INTERVAL) {
            self.last_line = Some(Instant::now());
            eprintln!("filled {held} of {of}");
        }
    }
}
