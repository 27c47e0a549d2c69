//! What a farm may hold, by what was done to it and what was heard of that.

use crate::power::Rng;
use std::collections::BTreeSet;

/// What is plotted in a sector; none: nothing that may be farmed.
pub type Content = Option<u64>;
/// What is noted: a sector, its content and which ranges are there.
pub type Note = (u16, Vec<u8>);

/// What the disk may hold: one thing, where it is known.
pub struct Model {
    pub rng: Rng,
    pub may: Vec<BTreeSet<Content>>,
    /// Sectors of which a record was not made durable, and the disk said so: only writing it anew settles which one is there.
    pub is_unsure: BTreeSet<u16>,
    /// Sectors whose record was begun to be written, and may be there in part.
    pub is_torn: BTreeSet<u16>,
    pub notes: BTreeSet<Option<Note>>,
    /// Those that are being written, or taken back.
    pub on_their_way: Vec<OnItsWay>,
    pub sectors: u16,
}

/// A note, and those of which it was heard meanwhile that they are durable: not in the order in which they were written.
pub struct OnItsWay {
    pub note: Option<Note>,
    pub heard: BTreeSet<Option<Note>>,
}

impl Model {
    /// The note is no longer on its way: it failed, or is durable. Then it may be what is noted, or one that was heard of meanwhile, or will
    /// be.
    pub fn landed(&mut self, note: &Option<Note>, is_durable: bool) {
        let Some(at) = self.on_their_way.iter().position(|other| other.note == *note) else { return };
        let OnItsWay { note, heard } = self.on_their_way.remove(at);
        if is_durable {
            self.on_their_way.iter_mut().for_each(|other| _ = other.heard.insert(note.clone()));
            let coming = self.on_their_way.iter().map(|other| other.note.clone());
            self.notes = coming.chain(heard).chain([note]).collect();
        }
    }
}
