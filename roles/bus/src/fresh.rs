//! Ids that nobody has yet.

use control::ids::{FarmId, InstanceId};
use ulid::Ulid;

/// What can be drawn anew.
pub trait Fresh {
    /// A fresh one: milliseconds of now, then 80 random bits.
    fn generate() -> Self;
}

impl Fresh for InstanceId {
    fn generate() -> Self {
        Self(Ulid::generate().to_bytes())
    }
}

impl Fresh for FarmId {
    fn generate() -> Self {
        Self(Ulid::generate().to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same() {
        assert_ne!(FarmId::generate(), FarmId::generate());
        assert_ne!(InstanceId::generate(), InstanceId::generate());
    }
}
