//! Credits: how many payload bytes may be under way, so that a slow reader bounds a fast sender's claim on it.
//!
//! Each side tells in its hello how much the other may send, and gives back what it has used up. Headers
//! are not counted: the limit on requests bounds them.

/// What this side may still send.
#[derive(Debug)]
pub(super) struct SendCredit {
    available: u64,
}

/// A grant that no honest peer makes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl SendCredit {
    pub(super) fn new(initial: u64) -> Self {
        Self { available: initial }
    }

    /// Pays for a payload; false, and nothing paid, when there is not enough.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        self.available.checked_sub(bytes as u64).map(|rest| self.available = rest).is_some()
    }

    pub(super) fn grant(&mut self, bytes: u64) -> Result<(), Overflow> {
        self.available = self.available.checked_add(bytes).ok_or(Overflow)?;
        Ok(())
    }
}

/// What the peer may still send, and what it will be allowed again.
///
/// Every byte of the window is in exactly one place: with the peer, held by a payload here, or about to be granted.
#[derive(Debug)]
pub(super) struct ReceiveCredit {
    window: u64,
    with_peer: u64,
    held: u64,
    to_grant: u64,
}

impl ReceiveCredit {
    pub(super) fn new(window: u64) -> Self {
        Self { window, with_peer: window, held: 0, to_grant: 0 }
    }

    /// A payload begins to arrive; false when the peer was not allowed to send it.
    pub(super) fn accept(&mut self, bytes: usize) -> bool {
        let Some(rest) = self.with_peer.checked_sub(bytes as u64) else { return false };
        self.with_peer = rest;
        self.held += bytes as u64;
        true
    }

    /// A payload's memory is free again.
    ///
    /// # Panics
    /// When more is released than was received.
    pub(super) fn release(&mut self, bytes: usize) {
        self.held = self.held.checked_sub(bytes as u64).expect("only what was received is released");
        self.to_grant += bytes as u64;
        debug_assert_eq!(self.with_peer + self.held + self.to_grant, self.window);
    }

    /// Everything that can be granted now.
    pub(super) fn take_grant(&mut self) -> Option<u64> {
        let grant = std::mem::take(&mut self.to_grant);
        self.with_peer += grant;
        (grant != 0).then_some(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_never_exceeds() {
        let mut credit = SendCredit::new(10);
        assert!(credit.take(7));
        assert!(!credit.take(4));
        credit.grant(1).unwrap();
        assert!(credit.take(4));
        assert!(!credit.take(1));
        credit.grant(u64::MAX).unwrap();
        assert_eq!(credit.grant(1), Err(Overflow));
    }

    #[test]
    fn receiver_grants_what_was_released() {
        let mut credit = ReceiveCredit::new(10);
        assert!(credit.accept(6));
        assert!(!credit.accept(5));
        assert_eq!(credit.take_grant(), None);
        credit.release(2);
        credit.release(4);
        assert_eq!(credit.take_grant(), Some(6));
        assert!(credit.accept(10));
    }
}
