//! The segment that the chain begins with, as a controller keeps it on its disk: verified, which takes two cores half a minute that no
//! test here is about. Kept beside the chain.

use std::fs;
use std::path::{Path, PathBuf};

const KEPT: &str = "foul-days-segment";
const GENESIS: &str = "genesis.json";

/// The folder for `--spool` that is kept for `chain`; if it is not there, `verify` puts the verified segment into the one it is given.
pub fn stored_segment(chain: &Path, verify: impl FnOnce(&Path)) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(KEPT);
    let genesis = |folder: &Path| fs::read(folder.join(GENESIS)).ok();
    let spool = kept.join("spool");
    if genesis(&kept) != genesis(chain) {
        let _ = fs::remove_dir_all(&kept);
        verify(&spool);
        // Last: it says that the rest is whole.
        fs::copy(chain.join(GENESIS), kept.join(GENESIS)).unwrap();
    }
    spool
}

/// Gives each segment's file below `from` another name, at the same place below `to`, and says how many there were. Such a file is
/// whole once it has its name, and is never written again.
pub fn link_segments(from: &Path, to: &Path) -> usize {
    fs::create_dir_all(to).unwrap();
    let Ok(entries) = fs::read_dir(from) else { return 0 };
    let mut linked = 0;
    for path in entries.map(|entry| entry.unwrap().path()) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            linked += link_segments(&path, &target);
        } else if path.extension().is_some_and(|extension| extension == "segment") {
            fs::hard_link(&path, target).unwrap();
            linked += 1;
        }
    }
    linked
}
