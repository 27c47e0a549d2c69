//! Reads pieces all the time, as a plot-server reads them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::pieces::{Given, NotGiven, PieceSource};
use tokio::task::JoinHandle;

use super::scene::{PIECES, Scene};

/// Between two reads.
const PAUSE: Duration = Duration::from_millis(20);
/// From one piece to the next: each is read, and none is near the one before.
const STEP: u64 = 293;

#[derive(Default)]
struct Reads {
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl Reads {
    fn note(&mut self, index: u64, read: Result<Given, NotGiven>, expected: [u8; 32], took: Duration) {
        match read {
            Ok(given) if given.blake3 == expected => self.times.push(took),
            Ok(_) => self.failures.push(format!("piece {index} is another one")),
            Err(error) => self.failures.push(format!("piece {index}: {error}")),
        }
    }
}

/// Reads until it is dropped.
pub struct Reader {
    reads: Arc<Mutex<Reads>>,
    reading: JoinHandle<()>,
}

impl Reader {
    pub fn start(scene: &Scene) -> Self {
        let (host, hashes, reads) =
            (scene.host.clone(), scene.hashes.clone(), Arc::<Mutex<Reads>>::default());
        let told = reads.clone();
        let reading = scene.runtime.spawn(async move {
            let source = PieceSource::start(host, false).await.unwrap();
            for index in (0..).map(|n: u64| n * STEP % PIECES) {
                let began = Instant::now();
                // Once around, not again and again: nothing may be missed while pieces move.
                let read = source.once(index).await;
                told.lock().unwrap().note(index, read, hashes[index as usize], began.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { reads, reading }
    }

    /// Within which 99 of 100 pieces came since the last such question. None may have failed.
    pub fn p99(&self, what: &str) -> Duration {
        let Reads { mut times, failures } = std::mem::take(&mut *self.reads.lock().unwrap());
        assert!(
            failures.is_empty(),
            "{what}: {} of {} reads failed: {failures:?}",
            failures.len(),
            times.len()
        );
        times.sort_unstable();
        let at = |percent| times[(times.len() - 1) * percent / 100];
        eprintln!("{what}: {} reads, p50 {:?}, p99 {:?}, max {:?}", times.len(), at(50), at(99), at(100));
        at(99)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
