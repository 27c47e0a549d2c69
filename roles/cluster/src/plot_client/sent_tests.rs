use super::*;
use std::fs;
use tempfile::TempDir;

const KEY: [u8; 32] = [7; 32];
const CHAIN: [u8; 32] = [8; 32];

fn handover(n: u64) -> Handover {
    let chunk = *blake3::hash(&n.to_le_bytes()).as_bytes();
    let (sector_index, piece_offset) = (n as u16, 2 * n as u16);
    let solution = SolutionKey { slot: n / 2, public_key: KEY, sector_index, piece_offset, chunk };
    Handover { solution, controller: InstanceId([n as u8; 16]) }
}

fn open_in(dir: &TempDir) -> SentSolutions {
    SentSolutions::open(dir.path(), KEY, CHAIN)
}

fn handovers(sent: &SentSolutions) -> Vec<Handover> {
    sent.earlier().iter().map(|earlier| earlier.handover).collect()
}

/// A folder whose farm has sent these.
async fn sent(numbers: std::ops::Range<u64>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let sent = open_in(&dir);
    for n in numbers {
        assert!(sent.clone().remember(handover(n)).await);
    }
    dir
}

fn bytes_in(dir: &TempDir) -> Vec<u8> {
    fs::read(dir.path().join(SENT_FILE)).unwrap()
}

#[tokio::test]
async fn the_last_ones_are_there_after_a_restart_in_their_order() {
    let dir = sent(0..0).await;
    assert_eq!((open_in(&dir).earlier(), bytes_in(&dir).len()), (&[][..], FILE_BYTES));
    let mut known = Vec::new();
    let places = PLACES as u64;
    // Each time another run, and once around.
    for numbers in [0..1, 1..9, 9..places, places..places + 3, places + 3..3 * places + 5] {
        let sent = open_in(&dir);
        assert_eq!(handovers(&sent), known);
        for n in numbers {
            assert!(sent.clone().remember(handover(n)).await);
            known.push(handover(n));
        }
        known.drain(..known.len().saturating_sub(PLACES));
    }
    assert_eq!(handovers(&open_in(&dir)), known);
    assert_eq!(bytes_in(&dir).len(), FILE_BYTES);
    assert!(bytes_in(&dir).iter().any(|byte| *byte != 0));
}

#[tokio::test]
async fn ages_are_those_of_the_hosts_clock_and_of_the_future_there_are_none() {
    let before = SystemTime::now();
    let dir = sent(0..1).await;
    let later = |seconds| before + Duration::from_secs(seconds);
    let age = |now| open_in(&dir).earlier()[0].age(now);
    let ages = Duration::from_secs(3540)..=Duration::from_secs(3601);
    assert!(age(later(3600)).is_some_and(|age| ages.contains(&age)));
    assert_eq!(age(before - Duration::from_secs(1)), None);
    let counts = |now| open_in(&dir).earlier()[0].counts(now);
    assert!(counts(before - Duration::from_secs(1)) && counts(later(590)) && !counts(later(660)));
    // Absurd times are no panic.
    let seal = Seal { public_key: KEY, genesis_hash: CHAIN };
    let place = seal.place(u64::MAX, &handover(1), Duration::MAX);
    fs::write(dir.path().join(SENT_FILE), [&vec![0; PLACE_BYTES * (PLACES - 1)][..], &place].concat())
        .unwrap();
    let sent = open_in(&dir);
    assert_eq!((handovers(&sent), sent.earlier()[0].age(SystemTime::now())), (vec![handover(1)], None));
    assert!(sent.remember(handover(2)).await);
    assert_eq!(handovers(&open_in(&dir)).len(), 2);
}

#[tokio::test]
async fn garbage_is_passed_over_and_what_is_good_stays() {
    let dir = sent(0..20).await;
    let (path, good) = (dir.path().join(SENT_FILE), bytes_in(&dir));
    let wrongs: [(&str, Vec<u8>, usize); 6] = [
        ("empty", Vec::new(), 0),
        ("cut off in an entry", good[..PLACE_BYTES * 7 + 50].to_vec(), 7),
        ("too long", [&good[..], &[1; 500]].concat(), 20),
        ("garbage", vec![0xa5; 99_999], 0),
        (
            "a byte flipped",
            good.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 100)).collect(),
            19,
        ),
        ("moved by a byte", [&[0], &good[..good.len() - 1]].concat(), 0),
    ];
    for (what, bytes, kept) in wrongs {
        fs::write(&path, &bytes).unwrap();
        let sent = open_in(&dir);
        assert_eq!(sent.earlier().len(), kept, "{what}");
        assert_eq!(bytes_in(&dir).len(), FILE_BYTES, "{what}: mended");
        assert!(sent.remember(handover(100)).await, "{what}");
        let again = open_in(&dir);
        assert_eq!(handovers(&again).last(), Some(&handover(100)), "{what}");
        assert_eq!(again.earlier().len(), kept + 1, "{what}");
    }
}

#[tokio::test]
async fn the_memory_of_another_chain_or_farm_is_none() {
    let dir = sent(0..5).await;
    for (key, chain) in [(KEY, [0; 32]), ([0; 32], CHAIN)] {
        fs::copy(dir.path().join(SENT_FILE), dir.path().join("kept")).unwrap();
        let sent = SentSolutions::open(dir.path(), key, chain);
        assert_eq!(sent.earlier(), []);
        fs::rename(dir.path().join("kept"), dir.path().join(SENT_FILE)).unwrap();
    }
    assert_eq!(open_in(&dir).earlier().len(), 5);
}

#[tokio::test]
async fn what_cannot_be_opened_costs_the_memory_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(SENT_FILE)).unwrap();
    let sent = open_in(&dir);
    assert!(sent.earlier().is_empty() && !sent.remember(handover(1)).await);

    let gone = dir.path().join("gone");
    let sent = SentSolutions::open(&gone, KEY, CHAIN);
    assert!(sent.earlier().is_empty() && !sent.remember(handover(1)).await && !gone.exists());

    let dir = tempfile::tempdir().unwrap();
    let path = std::ffi::CString::new(dir.path().join(SENT_FILE).to_str().unwrap()).unwrap();
    // SAFETY: the path ends with a zero byte, which is all that mkfifo asks of it.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    assert!(open_in(&dir).earlier().is_empty(), "a pipe, which would be waited for");
}

/// The memory in `dir`, with another file behind it.
fn with_file(dir: &TempDir, file: File) -> SentSolutions {
    let mut shared = Arc::into_inner(open_in(dir).0).unwrap();
    shared.file = Some(file);
    SentSolutions(Arc::new(shared))
}

#[tokio::test]
async fn a_file_that_can_only_be_read_or_is_on_a_full_disk_still_says_what_was_sent() {
    let dir = sent(0..5).await;
    let read_only = File::open(dir.path().join(SENT_FILE)).unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    for file in [read_only, full] {
        let sent = with_file(&dir, file);
        assert_eq!(sent.earlier().len(), 5);
        assert!(!sent.clone().remember(handover(9)).await && sent.0.is_failing.load(Ordering::Relaxed));
    }
    // The last word of a farm whose disk is mounted to be read only.
    let (found, is_whole) = read(File::open(dir.path().join(SENT_FILE)).unwrap(), &seal()).unwrap();
    assert_eq!((found.len(), is_whole), (5, true));
}

fn seal() -> Seal {
    Seal { public_key: KEY, genesis_hash: CHAIN }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_is_waited_for_a_moment_and_no_more() {
    let dir = sent(0..0).await;
    let sent = open_in(&dir);
    // As a write does that does not come back.
    let hanging = sent.0.next.clone().lock_owned().await;
    let started = tokio::time::Instant::now();
    assert!(!sent.clone().remember(handover(1)).await);
    assert_eq!(started.elapsed(), PATIENCE);
    drop(hanging);
    assert!(sent.clone().remember(handover(2)).await && !sent.0.is_failing.load(Ordering::Relaxed));
    assert_eq!(handovers(&open_in(&dir)), [handover(2)]);
}
