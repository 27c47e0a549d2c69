use super::*;

use super::super::chain::MadeBlock;
use super::super::history::BLOCK_0_SIZE;
use consensus::piece::Piece;
use consensus::segment::{ArchivedProgress, LastArchivedBlock};

fn open(folder: &Path, history: &Path) -> Result<(Store, Stored), StoreError> {
    Store::open(folder, &GenesisParameters::default(), &[history.to_owned()])
}

fn folder_with_history() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.txt");
    fs::write(&history, "once upon a time").unwrap();
    (folder, history)
}

fn made(body: Option<Body>) -> Block {
    Block::Made(MadeBlock { parent_hash: [3; 32], slot: 4, body })
}

/// Nothing that would verify, but of the right size.
fn segment(index: u64) -> NewArchivedSegment {
    let last_archived_block =
        LastArchivedBlock { number: 0, archived_progress: ArchivedProgress::Partial(1) };
    let header = SegmentHeader {
        segment_index: index,
        segment_commitment: [1; 48],
        prev_segment_header_hash: [0; 32],
        last_archived_block,
    };
    let pieces = (0..=255u8).map(|position| {
        let mut piece = Piece::zeroed();
        piece.set_witness(&[position; 48]);
        piece
    });
    NewArchivedSegment { header, pieces: pieces.collect() }
}

#[test]
fn a_chain_survives_its_process_and_its_files() {
    let (folder, history) = folder_with_history();
    let base = folder.path().join("base");
    let (store, stored) = open(&base, &history).unwrap();
    assert!(stored.headers.is_empty() && stored.blocks.is_empty());
    let genesis = store.genesis().clone();
    let blocks = [made(Some(Body { offset: 2, size: 9 })), made(None)];
    store.put_blocks(0, &[made(None), blocks[1].clone()]).unwrap();
    store.put_blocks(0, &blocks).unwrap();
    assert_eq!(store.read_blocks(1, 5).unwrap(), blocks[1..]);
    let new = segment(0);
    store.add_segment(&new).unwrap();
    assert!(matches!(open(&base, &history), Err(StoreError::Locked { .. })));
    drop(store);

    fs::remove_file(&history).unwrap();
    let (store, stored) = open(&base, &history).unwrap();
    assert_eq!(*store.genesis(), genesis);
    assert_eq!(stored.blocks, blocks);
    assert_eq!(stored.headers, [new.header]);
    for position in [0, 9, 255] {
        let piece = store.read_piece(PieceIndex::new(0, position).unwrap()).unwrap();
        assert_eq!(piece, new.pieces[usize::from(position)].as_bytes());
    }
    assert!(store.read_piece(PieceIndex(256)).is_err());
}

#[test]
fn blocks_have_their_bytes() {
    let (folder, history) = folder_with_history();
    let (store, _) = open(&folder.path().join("base"), &history).unwrap();
    let block_0 = store.block_0().unwrap();
    assert_eq!(block_0.len(), BLOCK_0_SIZE);
    let front = b"\x0b\0history.txt\x10\0\0\0\0\0\0\0once upon a time";
    assert_eq!(block_0[..front.len()], *front);
    let imported = made(Some(Body { offset: 13, size: 12 }));
    let bytes = store.block_bytes(1, &imported).unwrap();
    assert_eq!(bytes, [imported.encode(), b"\x10\0\0\0\0\0\0\0once".to_vec()].concat());
    let fillers = [1, 2].map(|position| store.block_bytes(position, &made(None)).unwrap());
    assert_ne!(fillers[0], fillers[1]);
    assert!(fillers[0].len() <= 1 << 20);
    assert!(store.block_bytes(1, &made(Some(Body { offset: 30, size: 12 }))).is_err());
}

#[test]
fn an_interrupted_beginning_begins_anew() {
    let (folder, history) = folder_with_history();
    let base = folder.path().join("base");
    let hash = open(&base, &history).unwrap().0.genesis().hash();
    fs::remove_file(base.join(GENESIS_FILE)).unwrap();
    fs::write(base.join(BLOCKS_FILE), "left over").unwrap();
    let (store, stored) = open(&base, &history).unwrap();
    assert!(stored.blocks.is_empty());
    assert_eq!(store.genesis().hash(), hash);
}

#[test]
fn damage_is_named() {
    let (folder, history) = folder_with_history();
    let base = folder.path().join("base");
    open(&base, &history).unwrap().0.add_segment(&segment(0)).unwrap();
    let error = || open(&base, &history).unwrap_err().to_string();
    File::options().write(true).open(base.join("segments/0.bin")).unwrap().set_len(1000).unwrap();
    assert!(error().contains("0.bin is damaged"), "{}", error());
    fs::write(base.join(IMPORTED_FILE), "short").unwrap();
    assert!(error().contains("imported.bin is damaged"), "{}", error());
    fs::write(base.join(GENESIS_FILE), "{").unwrap();
    assert!(error().contains("genesis.json is damaged"), "{}", error());
}

#[test]
fn unwritable_base_paths_are_named() {
    let (folder, history) = folder_with_history();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("base"), &history).unwrap_err().to_string();
    assert!(error.contains("file/base"), "{error}");
}
