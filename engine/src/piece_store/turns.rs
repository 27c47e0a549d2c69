//! Puts and removals of one item go one after the other: what one leaves for later, the next must not overtake.

use super::ItemId;
use futures::channel::oneshot;
use std::cell::RefCell;
use std::collections::HashMap;

/// The items that somebody changes, and who waits for that.
#[derive(Default)]
pub(super) struct Turns(RefCell<HashMap<ItemId, Vec<oneshot::Sender<()>>>>);

/// The right to change an item.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    id: ItemId,
}

impl Turns {
    /// Waits until nobody else changes the item.
    pub async fn take(&self, id: ItemId) -> Turn<'_> {
        loop {
            let over = {
                let mut changing = self.0.borrow_mut();
                let Some(waiting) = changing.get_mut(&id) else {
                    changing.insert(id, Vec::new());
                    return Turn { turns: self, id };
                };
                let (done, over) = oneshot::channel();
                waiting.push(done);
                over
            };
            // Dropped or sent, it is over.
            let _ = over.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let waiting = self.turns.0.borrow_mut().remove(&self.id);
        for waiter in waiting.into_iter().flatten() {
            // It may have gone.
            let _ = waiter.send(());
        }
    }
}
