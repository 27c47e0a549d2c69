//! How machines speak of one key of the store that all members share: a value with the revision that wrote it, and writes that
//! hold only on a certain revision.
//!
//! A read may be stale and a write's outcome may stay unknown. So nothing is decided by a value read alone: who wants to change
//! something writes on the revision that it read, and reads again whenever it is not certain what became of that.

/// What a write demands of the key's present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expect {
    /// There is no such key.
    Absent,
    /// The last change of the key is exactly this revision.
    Revision(u64),
}

/// A key as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// There is no such key.
    Nothing,
    /// The value, and the revision that wrote it.
    Value(T, u64),
    /// Bytes of another release, or garbage, and the revision that wrote them.
    Unreadable(u64),
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// It is written, with this revision.
    Done(u64),
    /// Somebody else was faster: nothing was written.
    Conflict,
    /// It was not written, or that is not known.
    Unknown,
}
