//! Where a probe may read: between places that were good, away from those that were bad.
//!
//! Each probe reads another block, since a drive whose medium is out of reach may still have in its memory what was read
//! before. Never: reading; how long a file is, which is asked of a disk that may hang.

use crate::BLOCK_BYTES;
use crate::file::DirectFile;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Files and bad places that are remembered, the newest.
const FILES: usize = 4;
const SUSPECTS: usize = 4;
/// Blocks around a bad place are often bad too; it is kept away from so far where there is room.
const NEAR_BYTES: u64 = 64 * 1024;
/// Blocks that are tried in thought before they all are taken for near a bad one.
const TRIES: u64 = 16;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A range of a file.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    file: Weak<DirectFile>,
    offset: u64,
    bytes: u64,
}

impl Spot {
    pub fn new(file: &Arc<DirectFile>, offset: u64, bytes: u64) -> Self {
        Self { file: Arc::downgrade(file), offset, bytes }
    }

    /// Whether it has part of a block, or lies less than so many bytes away from it.
    fn is_near(&self, file: &Arc<DirectFile>, block: u64, bytes: u64) -> bool {
        let ends = self.offset + self.bytes.max(1);
        is_of(&self.file, file) && self.offset < block + BLOCK + bytes && block < ends + bytes
    }
}

fn is_of(known: &Weak<DirectFile>, file: &Arc<DirectFile>) -> bool {
    std::ptr::eq(known.as_ptr(), Arc::as_ptr(file))
}

/// A file, with the first and the last block of it that were read and good.
struct Known {
    file: Weak<DirectFile>,
    first: u64,
    last: u64,
}

/// What is known of the places of one disk.
#[derive(Default)]
pub(super) struct Places {
    known: VecDeque<Known>,
    suspects: VecDeque<Spot>,
    turn: u64,
}

impl Places {
    /// A read was good.
    pub fn good(&mut self, file: &Arc<DirectFile>, offset: u64, bytes: u64) {
        let first = offset - offset % BLOCK;
        let last = (offset + bytes.max(1) - 1) / BLOCK * BLOCK;
        if let Some(known) = self.known.iter_mut().find(|known| is_of(&known.file, file)) {
            (known.first, known.last) = (known.first.min(first), known.last.max(last));
            return;
        }
        self.known.truncate(FILES - 1);
        self.known.push_front(Known { file: Arc::downgrade(file), first, last });
    }

    /// A transfer erred, or was not done in time.
    pub fn suspect(&mut self, spot: Spot) {
        self.suspects.truncate(SUSPECTS - 1);
        self.suspects.push_front(spot);
    }

    /// A file was found to end before this block: it was cut since it was read there.
    pub fn ends_before(&mut self, file: &Arc<DirectFile>, block: u64) {
        self.known.retain(|known| !is_of(&known.file, file) || known.first < block);
        for known in self.known.iter_mut().filter(|known| is_of(&known.file, file)) {
            known.last = known.first;
        }
    }

    /// The next block to read: between good ones and far from bad ones and from what hangs now, else the beginning of a file.
    /// A bad one itself only where there is no other, and it may be.
    pub fn next(&mut self, hanging: &[Spot], may_be_bad: bool) -> Option<(Arc<DirectFile>, u64)> {
        self.known.retain(|known| known.file.strong_count() > 0);
        self.suspects.retain(|spot| spot.file.strong_count() > 0);
        for room in [NEAR_BYTES, 0] {
            for _ in 0..TRIES {
                let Some((file, block)) = self.pick() else { break };
                if self.is_clear(hanging, &file, block, room) {
                    return Some((file, block));
                }
            }
        }
        let bad = || self.suspects.iter().chain(hanging);
        let begins = bad().filter_map(|spot| Some((spot.file.upgrade()?, 0)));
        let itself = bad().filter_map(|spot| Some((spot.file.upgrade()?, spot.offset - spot.offset % BLOCK)));
        begins
            .filter(|(file, block)| self.is_clear(hanging, file, *block, 0))
            .chain(itself.filter(|_| may_be_bad))
            .next()
    }

    fn is_clear(&self, hanging: &[Spot], file: &Arc<DirectFile>, block: u64, room: u64) -> bool {
        !self.suspects.iter().chain(hanging).any(|spot| spot.is_near(file, block, room))
    }

    /// Of each file in turn a block that lies far from the one before.
    fn pick(&mut self) -> Option<(Arc<DirectFile>, u64)> {
        self.turn += 1;
        let files = self.known.len() as u64;
        let known = &self.known[(self.turn.checked_rem(files)?) as usize];
        let blocks = (known.last - known.first) / BLOCK + 1;
        // Multiples of the golden ratio keep away from each other.
        let block = self.turn.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32) % blocks;
        Some((known.file.upgrade()?, known.first + block * BLOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn file(dir: &tempfile::TempDir, name: &str) -> Arc<DirectFile> {
        DirectFile::create(&dir.path().join(name), 0).unwrap()
    }

    #[test]
    fn probes_read_several_places_between_good_ones_and_none_near_a_bad_one() {
        let dir = tempfile::tempdir().unwrap();
        let (plot, other) = (file(&dir, "plot"), file(&dir, "other"));
        let mut places = Places::default();
        assert!(places.next(&[], true).is_none(), "nothing is known");
        places.good(&plot, 4096, 4096);
        places.good(&plot, 1 << 30, 4096);
        places.good(&other, 5, 1);
        let bad = 512 << 20;
        places.suspect(Spot::new(&plot, bad, 4096));
        let hangs = [Spot::new(&other, 0, 4096)];
        let picked: HashSet<u64> = (0..8)
            .map(|_| {
                let (file, block) = places.next(&hangs, true).unwrap();
                assert!(Arc::ptr_eq(&file, &plot) && block % 4096 == 0 && (4096..=1 << 30).contains(&block));
                assert!(block.abs_diff(bad) >= NEAR_BYTES);
                block
            })
            .collect();
        assert!(picked.len() >= 7, "{picked:?}");
        drop(plot);
        let (read, block) = places.next(&[], false).unwrap();
        assert!(Arc::ptr_eq(&read, &other) && block == 0);
    }

    #[test]
    fn a_bad_place_itself_is_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let plot = file(&dir, "plot");
        let mut places = Places::default();
        places.good(&plot, 8192, 4096);
        places.suspect(Spot::new(&plot, 8192, 4096));
        assert_eq!(places.next(&[], false).unwrap().1, 0, "the beginning, by which it was opened");
        places.suspect(Spot::new(&plot, 0, 8192));
        assert!(places.next(&[], false).is_none());
        assert_eq!(places.next(&[], true).unwrap().1, 0);
    }

    #[test]
    fn a_file_that_was_cut_is_not_read_behind_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let plot = file(&dir, "plot");
        let mut places = Places::default();
        places.good(&plot, 4096, 1 << 20);
        places.ends_before(&plot, 8192);
        assert_eq!(places.next(&[], false).unwrap().1, 4096);
        places.ends_before(&plot, 4096);
        assert!(places.next(&[], false).is_none());
    }
}
