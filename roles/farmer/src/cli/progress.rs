//! How far a run of `dev` is: bars on a terminal, else a plain line whenever something changed.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use farmer::dev::{Config, Status};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

/// Least time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the clock of a bar moves.
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// The bars that lines of the log must not be written across.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Progress on standard error.
pub enum Progress {
    /// A bar each for history, pieces, sectors and solutions.
    Bars(Box<Bars>),
    /// Lines.
    Lines(Lines),
}

impl Progress {
    pub fn new(config: &Config) -> Self {
        if io::stderr().is_terminal() {
            Self::Bars(Box::new(Bars::new(config)))
        } else {
            Self::Lines(Lines::new(config))
        }
    }

    pub fn show(&mut self, status: &Status) {
        match self {
            Self::Bars(bars) => bars.show(status),
            Self::Lines(lines) => lines.show(status),
        }
    }

    /// Leaves the terminal as it was.
    pub fn finish(self) {
        if let Self::Bars(bars) = self {
            bars.clear();
        }
    }
}

/// What bars and lines count against.
struct Wanted {
    sectors: u64,
    solutions: Option<u64>,
}

impl Wanted {
    fn new(config: &Config) -> Self {
        Self { sectors: config.sectors.into(), solutions: config.until_solutions }
    }
}

/// Sectors that the farm has.
fn plotted(status: &Status) -> u64 {
    status.summary.sectors_found + status.summary.sectors_plotted
}

pub struct Bars {
    history: ProgressBar,
    pieces: ProgressBar,
    sectors: ProgressBar,
    solutions: ProgressBar,
    wanted: Wanted,
}

impl Bars {
    fn new(config: &Config) -> Self {
        let wanted = Wanted::new(config);
        let all = BARS.get_or_init(MultiProgress::new);
        let counted = ProgressStyle::with_template("{prefix:>10} [{bar:40}] {pos}/{len} {msg}")
            .expect("a template of the program's own");
        let open_ended = ProgressStyle::with_template("{prefix:>10} {spinner} {pos} {msg}")
            .expect("a template of the program's own");
        let timed = ProgressStyle::with_template("{prefix:>10} {spinner} {msg} {elapsed}")
            .expect("a template of the program's own");
        let bar = |name: &'static str, length: u64, style: &ProgressStyle| {
            all.add(ProgressBar::new(length).with_style(style.clone()).with_prefix(name))
        };
        let history = bar("history", 1, &timed);
        history.set_message("archiving");
        history.enable_steady_tick(TICK_INTERVAL);
        let solutions_style = if wanted.solutions.is_some() { &counted } else { &open_ended };
        Self {
            history,
            pieces: bar("pieces", 0, &counted),
            sectors: bar("sectors", wanted.sectors, &counted),
            solutions: bar("solutions", wanted.solutions.unwrap_or(0), solutions_style),
            wanted,
        }
    }

    fn show(&self, status: &Status) {
        if !status.is_archived {
            return;
        }
        let summary = &status.summary;
        if !self.history.is_finished() {
            self.history.finish_with_message("archived in");
        }
        self.pieces.set_length(summary.pieces);
        self.pieces.set_position(status.pieces_cached);
        self.sectors.set_position(plotted(status).min(self.wanted.sectors));
        self.solutions.set_position(summary.node.solutions.accepted);
        let (rejected, slots) = (summary.rejected_count(), summary.node.slots);
        self.solutions.set_message(format!("accepted, {rejected} rejected, slot {slots}"));
    }

    fn clear(&self) {
        for bar in [&self.history, &self.pieces, &self.sectors, &self.solutions] {
            bar.finish_and_clear();
        }
    }
}

pub struct Lines {
    wanted: Wanted,
    last: String,
    told_at: Option<Instant>,
}

impl Lines {
    fn new(config: &Config) -> Self {
        Self { wanted: Wanted::new(config), last: String::new(), told_at: None }
    }

    fn show(&mut self, status: &Status) {
        let line = self.line(status);
        let is_early = self.told_at.is_some_and(|at| at.elapsed() < LINE_INTERVAL);
        if line == self.last || (is_early && status.is_archived && !self.last.is_empty()) {
            return;
        }
        // Progress is worth nothing to a log that is closed.
        let _ = writeln!(io::stderr(), "{line}");
        self.last = line;
        self.told_at = Some(Instant::now());
    }

    fn line(&self, status: &Status) -> String {
        if !status.is_archived {
            return "archiving history".into();
        }
        let summary = &status.summary;
        let (cached, pieces) = (status.pieces_cached, summary.pieces);
        let (plotted, sectors) = (plotted(status), self.wanted.sectors);
        let accepted = summary.node.solutions.accepted;
        let of = self.wanted.solutions.map_or(String::new(), |wanted| format!(" of {wanted}"));
        let rejected = summary.rejected_count();
        format!(
            "pieces cached: {cached} of {pieces}, sectors plotted: {plotted} of {sectors}, \
             solutions accepted: {accepted}{of}, rejected: {rejected}"
        )
    }
}

/// Standard error for logs: bars, where there are any, make room for each line.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match BARS.get() {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
