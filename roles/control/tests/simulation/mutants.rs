//! Faults of an earlier release, put back by a switch in the translation of a member.

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Slots that could not be told of at once are told of when the bus is back.
    SlotsAfterAnOutage,
    /// A finder takes silence for "not sent".
    SilenceIsNotSent,
    /// A finder sends to two controllers at once.
    TwoControllersAtOnce,
    /// A solution goes to any controller, whatever it announced.
    AnyController,
    /// Whoever asks gets a signature.
    SigningForAnybody,
    /// A signature leaves before it is durable.
    SigningBeforeDurable,
    /// A hash is signed anew each time.
    SigningAnew,
    /// Nobody asks whether somebody else has the farm.
    NoHolder,
    /// Old slots are worked on like new ones.
    OldSlots,
    /// A controller hands on what its node has not announced.
    AnyChallenge,
    /// A segment is acknowledged when it is announced.
    AcknowledgedAtOnce,
    /// Settings are agreed on at the start, and not looked at any more.
    SettingsOnlyAtStart,
    /// Settings are written over whatever is there.
    SettingsWrittenBlindly,
    /// The lease is taken at the start, and not kept.
    LeaseOnlyAtStart,
    /// A server waits for pieces that nobody has.
    WaitsForPieces,
    /// A job is offered once.
    OffersOnce,
}
