//! Development chains of one segment or a few, kept between runs: archiving takes a while. Each test works on a copy of its own
//! (the segments hard-linked, so that a copy costs nothing).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use consensus::constants::SEGMENT_SIZE;
use devnet::{DevNode, DevNodeConfig, DevNodeError, GenesisParameters};
use tempfile::TempDir;

/// What the history of every chain is made of.
const HISTORY: &str = "what the tests remember";

/// Configuration of a node on any free port.
pub fn config(base_path: &Path, parameters: GenesisParameters) -> DevNodeConfig {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    DevNodeConfig { parameters, ..DevNodeConfig::new(listen, base_path.into()) }
}

/// The base path of the chain kept as `name`, made if it is not there: its own format says whether it is whole.
pub fn stored_chain(name: &str, parameters: &GenesisParameters) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (base, history) = (folder.join("base"), folder.join("history.txt"));
    fs::create_dir_all(&folder).unwrap();
    let config = DevNodeConfig { history: vec![history.clone()], ..config(&base, parameters.clone()) };
    let make = || {
        if !base.join("genesis.json").exists() {
            write_history(&history, parameters.segments.unwrap_or(1)).unwrap();
        }
        std::thread::scope(|scope| scope.spawn(|| block_on_start(config.clone())).join().unwrap())
    };
    // A chain of another version is not worth a failure.
    make().or_else(|_| fs::remove_dir_all(&base).map(|()| make()).unwrap()).unwrap();
    // The chain has it all.
    let _ = fs::remove_file(&history);
    base
}

/// A text: the first segment is full at once. Behind it, where there are to be others, noise that fills all.
fn write_history(path: &Path, segments: u64) -> io::Result<()> {
    let bytes = if segments > 1 { segments * SEGMENT_SIZE as u64 } else { 0 };
    let mut noise = blake3::Hasher::new().update(HISTORY.as_bytes()).finalize_xof().take(bytes);
    let mut file = File::create(path)?;
    file.write_all(HISTORY.as_bytes())?;
    io::copy(&mut noise, &mut file).map(drop)
}

fn block_on_start(config: DevNodeConfig) -> Result<(), DevNodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(DevNode::start(config)).map(drop)
}

/// A folder with a copy of the chain in `base`.
pub fn copy_of(chain: &Path) -> TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    copy(chain, &folder.path().join("base"));
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().extension().is_some_and(|extension| extension == "bin") {
            // Never written again.
            fs::hard_link(entry.path(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
