//! `autonomys-farmer util sharded-cache-benchmark`: what the caches give to a plot-server.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use clap::{Args, ValueEnum};
use cluster::tools::cache_benchmark::{self, FromMemory, Giver, Items, Options, Report};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::CommandResult;
use super::cluster::NatsArgs;

/// Pieces that nobody gave which are named.
const NAMED_MAX: usize = 20;

#[derive(Debug, Args)]
pub struct CacheBenchmarkArgs {
    #[command(flatten)]
    nats: NatsArgs,
    /// Sectors whose pieces are downloaded
    #[arg(long, value_name = "N", default_value_t = 256, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sectors: u32,
    /// How often all of them are
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    epoch: u32,
    /// What to download of each
    #[arg(long, value_name = "KIND", default_value = "piece")]
    cache_item_type: ItemType,
    /// Items on their way at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Kinds of items that the field's caches know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ItemType {
    /// The piece
    Piece,
    /// The 32 768 parity chunks of its record
    ParityPiece,
    /// Both side by side, as `plot-server --pieces split-parity` fetches them
    SplitParityPiece,
}

impl From<ItemType> for Items {
    fn from(kind: ItemType) -> Self {
        match kind {
            ItemType::Piece => Self::Piece,
            ItemType::ParityPiece => Self::Parity,
            ItemType::SplitParityPiece => Self::Split,
        }
    }
}

/// As `--cache-item-type` has it.
fn value(items: Items) -> &'static str {
    match items {
        Items::Piece => "piece",
        Items::Parity => "parity-piece",
        Items::Split => "split-parity-piece",
    }
}

fn name(items: Items) -> &'static str {
    match items {
        Items::Piece => "pieces",
        Items::Parity => "parity pieces",
        Items::Split => "pieces with their parity",
    }
}

impl CacheBenchmarkArgs {
    pub fn run(self) -> CommandResult {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sectors, epochs, concurrency) = (self.sectors, self.epoch, usize::from(self.concurrency));
        let options = Options { items: self.cache_item_type.into(), sectors, epochs, concurrency };
        let report = runtime.block_on(async {
            let bus = self.nats.connect_now("sharded-cache-benchmark").await?;
            let bar = bar();
            let report = cache_benchmark::run(&bus, options, |done, of| {
                bar.set_length(of);
                bar.set_position(done);
            })
            .await;
            bar.finish_and_clear();
            report.map_err(Box::<dyn std::error::Error>::from)
        })?;
        if self.json {
            println!("{}", as_json(&report));
        } else {
            print(&report);
        }
        let missing = report.missing.len();
        if missing == 0 {
            Ok(())
        } else {
            Err(format!("{missing} {} could not be had", name(report.items)).into())
        }
    }
}

fn bar() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{pos} of {len} pieces {wide_bar} {per_sec} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn seconds(report: &Report) -> f64 {
    report.took.as_secs_f64().max(1e-9)
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn ms(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64() * 1000.0
}

fn print(report: &Report) {
    let rate = report.pieces as f64 / seconds(report);
    println!(
        "{} {} of {} segments in {:.1} s: {:.2} GiB/s, {rate:.0} pieces/s, {:.2} sectors of {} a minute",
        report.pieces,
        name(report.items),
        report.segments,
        seconds(report),
        gib(report.bytes()) / seconds(report),
        rate * 60.0 / f64::from(report.pieces_in_sector),
        report.pieces_in_sector,
    );
    println!(
        "each came within {:.1} ms (p50), {:.1} ms (p99), {:.1} ms (max)",
        ms(report.percentile(50)),
        ms(report.percentile(99)),
        ms(report.percentile(100)),
    );
    println!("{:<28}{:<26}{:<20}{:>10}{:>9}{:>11}", "from", "role", "host", "pieces", "share", "pieces/s");
    let given: u64 = report.givers.iter().map(|giver| giver.pieces).sum();
    for Giver { id, role, host, pieces } in &report.givers {
        let (id, role) = (id.to_string(), role.to_string());
        let (share, rate) = (*pieces as f64 * 100.0 / given.max(1) as f64, *pieces as f64 / seconds(report));
        println!("{id:<28}{role:<26}{host:<20}{pieces:>10}{share:>8.1}%{rate:>11.0}");
    }
    println!(
        "asked in vain {}, by controllers {}, retried {}, missing {}",
        report.in_vain,
        report.by_controllers,
        report.retried,
        report.missing.len()
    );
    if let Some(FromMemory { hits, misses }) = report.memory {
        println!(
            "caches with --mem-cache gave {hits} from memory and read {misses} from disk, to all who asked"
        );
    }
    for (index, reason) in report.missing.iter().take(NAMED_MAX) {
        println!("piece {index}: {reason}");
    }
}

fn as_json(report: &Report) -> Value {
    let giver = |giver: &Giver| {
        json!({
            "id": giver.id.to_string(),
            "role": giver.role.to_string(),
            "host": giver.host,
            "pieces": giver.pieces,
            "pieces_per_s": giver.pieces as f64 / seconds(report),
        })
    };
    json!({
        "cache_item_type": value(report.items),
        "segments": report.segments,
        "pieces_in_sector": report.pieces_in_sector,
        "pieces": report.pieces,
        "bytes": report.bytes(),
        "seconds": seconds(report),
        "gib_per_s": gib(report.bytes()) / seconds(report),
        "pieces_per_s": report.pieces as f64 / seconds(report),
        "p50_ms": ms(report.percentile(50)),
        "p99_ms": ms(report.percentile(99)),
        "max_ms": ms(report.percentile(100)),
        "from": report.givers.iter().map(giver).collect::<Vec<_>>(),
        "asked_in_vain": report.in_vain,
        "by_controllers": report.by_controllers,
        "retried": report.retried,
        "missing": report.missing.keys().collect::<Vec<_>>(),
        "mem_hits": report.memory.map(|memory| memory.hits),
        "mem_misses": report.memory.map(|memory| memory.misses),
    })
}
