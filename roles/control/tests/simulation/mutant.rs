//! Faults of an earlier release, put back by a switch in the translation of a member.

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A plot-client that is told to end does so at once.
    LeavesAtOnce,
    /// It stays until its solutions are sent, and not until what they lead to is signed.
    LeavesUnsigned,
    /// Slots that could not be told of at once are told of when the bus is back.
    SlotsAfterAnOutage,
    /// A finder takes silence for "not sent".
    SilenceIsNotSent,
    /// A finder sends to two controllers at once.
    TwoControllersAtOnce,
    /// A plot-client that starts does not know what it had sent.
    SolutionsForgotten,
    /// A solution leaves before it is written down.
    SendingBeforeWritten,
    /// Whoever asks gets a signature.
    SigningForAnybody,
    /// A signature leaves before it is durable.
    SigningBeforeDurable,
    /// A hash is signed anew each time.
    SigningAnew,
    /// A plot-client goes on although another has the farm.
    HolderIgnored,
    /// Each announcement of a slot is worked on, however late.
    EverySlot,
    /// A controller hands on what its node has not announced.
    AnyChallenge,
    /// A segment is acknowledged when it is announced.
    AcknowledgedAtOnce,
    /// A segment counts as placed once that was tried.
    PlacedOnceTried,
    /// Caches are not asked for what they have.
    NeverLooks,
    /// A segment counts as placed once a cache has a piece of it.
    ContentWithOnePiece,
    /// History is told when a segment is announced.
    HistoryBeforePlaced,
    /// Settings are agreed on at the start, and not looked at any more.
    SettingsOnlyAtStart,
    /// What the cluster had agreed on is on no disk.
    NobodyRemembers,
    /// A controller that finds no settings listens to nobody.
    NobodyTells,
    /// Settings are written over whatever is there.
    SettingsWrittenBlindly,
    /// A member ends when the store does not answer.
    EndsWithoutStore,
    /// A server waits for pieces that nobody has.
    WaitsForPieces,
    /// A job is offered once, whatever becomes of the queue.
    OffersOnce,
    /// A cache has what it was given, whatever it should have.
    NeverRefills,
    /// A cache lets go what is another's without asking whether that one has it.
    LetsGoUnasked,
    /// Plot-clients watch the entries of all members, and so of each other.
    WatchesEverybody,
}

impl Mutant {
    pub const ALL: [Self; 28] = [
        Self::LeavesAtOnce,
        Self::LeavesUnsigned,
        Self::SlotsAfterAnOutage,
        Self::SilenceIsNotSent,
        Self::TwoControllersAtOnce,
        Self::SolutionsForgotten,
        Self::SendingBeforeWritten,
        Self::SigningForAnybody,
        Self::SigningBeforeDurable,
        Self::SigningAnew,
        Self::HolderIgnored,
        Self::EverySlot,
        Self::AnyChallenge,
        Self::AcknowledgedAtOnce,
        Self::PlacedOnceTried,
        Self::NeverLooks,
        Self::ContentWithOnePiece,
        Self::HistoryBeforePlaced,
        Self::SettingsOnlyAtStart,
        Self::NobodyRemembers,
        Self::NobodyTells,
        Self::SettingsWrittenBlindly,
        Self::EndsWithoutStore,
        Self::WaitsForPieces,
        Self::OffersOnce,
        Self::NeverRefills,
        Self::LetsGoUnasked,
        Self::WatchesEverybody,
    ];
}
