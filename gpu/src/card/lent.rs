//! Host memory that a device copies from or to.
//!
//! A card that has stopped answering may still read and write it, at any time: then it must never be given to anybody else. Slabs lost this way
//! are what a hung card costs; the process goes on.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// Memory in a device's hands. Dropping it gives it back, unless it was left to the device.
pub(crate) struct Lent<T> {
    memory: ManuallyDrop<T>,
    left: bool,
}

impl<T> Lent<T> {
    pub fn new(memory: T) -> Self {
        Self { memory: ManuallyDrop::new(memory), left: false }
    }

    /// Never gives it back: the device did not say that it is done with it.
    pub fn leave(&mut self) {
        self.left = true;
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.memory
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.memory
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if !self.left {
            // SAFETY: dropped here alone, and nobody has it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn what_is_left_is_never_given_back() {
        let memory = Rc::new(5);
        drop(Lent::new(memory.clone()));
        assert_eq!(Rc::strong_count(&memory), 1);
        let mut lent = Lent::new(memory.clone());
        lent.leave();
        drop(lent);
        assert_eq!(Rc::strong_count(&memory), 2);
    }
}
