//! The parity of a piece's record, for whoever would extend the record else: asked of those who keep it or can make it, once.

use std::time::Duration;

use engine::pool::Slab;
use transport::message::{Blake3Hash, ItemKind};

use crate::host::HostError;
use crate::pieces::PieceSource;
use crate::wrong;
use control::ids::InstanceId;
use control::messages::{self, Role};

/// To make parity takes a cache some milliseconds, and a moment to get the piece: who waits longer could have extended the record.
const PARITY_TIMEOUT: Duration = Duration::from_secs(3);

/// Owners that are asked: the second makes it where the first is away.
const OWNERS_ASKED: usize = 2;

impl PieceSource {
    /// The 32 768 parity chunks of a piece's record, on a block, and their BLAKE3, from the first that gives them.
    pub async fn parity(&self, index: u64) -> Option<(Slab, Blake3Hash, InstanceId)> {
        for peer in self.parity_sources(index) {
            if self.parity_silences.is_silent(peer) {
                continue;
            }
            let asked = self.ask(peer, ItemKind::Parity, index, PARITY_TIMEOUT).await;
            let begins = self.parity_silences.note(peer, &asked);
            wrong::tell(&self.host, (messages::ItemKind::ParityPiece, index), &asked, begins).await;
            match asked {
                Ok((slab, blake3)) => return Some((slab, blake3, peer)),
                Err(HostError::Ended) => return None,
                Err(error) => tracing::debug!(index, "parity: {error}"),
            }
        }
        None
    }

    /// What this member gave was not the record's parity, though it had its hash: it makes it anew, and is not asked for a while.
    pub async fn parity_was_wrong(&self, index: u64, giver: InstanceId) {
        let role = Role::ShardedCache;
        self.parity_silences.note::<()>(giver, &Err(HostError::Damaged { peer: giver, role }));
        wrong::complain(&self.host, (messages::ItemKind::ParityPiece, index), giver).await;
    }

    /// Its owner, the one that would be, and one full-piece cache, which makes it each time.
    fn parity_sources(&self, index: u64) -> Vec<InstanceId> {
        let present = self.host.present();
        let present = present.borrow();
        let owners = self.owners().borrow().of(messages::ItemKind::ParityPiece, index, OWNERS_ASKED);
        let mut from: Vec<_> = owners.into_iter().filter(|owner| present.contains_key(owner)).collect();
        let full: Vec<_> = present.values().filter(|entry| entry.role == Role::FullPieceCache).collect();
        let nth = index.checked_rem(full.len() as u64).and_then(|nth| usize::try_from(nth).ok());
        from.extend(nth.map(|nth| full[nth].id));
        from
    }
}
