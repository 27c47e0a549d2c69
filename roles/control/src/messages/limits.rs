//! Version of all messages, and how large they and their parts may be.

/// A control message is smaller than this. It keeps one message far below the 1 MiB default of NATS and says at
/// once when something big was put on the wrong road.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Version of all layouts; grows with each release that appends to one.
pub const VERSION: u8 = 3;
/// The oldest version that this release can read.
pub const OLDEST_VERSION: u8 = 2;
/// SCALE of a solution (PROTOCOL 8), bytes.
pub const SOLUTION_SIZE: usize = 412;
/// Members of an epoch: 24 bytes each fit a message with room to spare.
pub const MAX_EPOCH_MEMBERS: usize = 2048;
/// Sharded caches that may hold a piece at once: readers ask no more owners than these.
pub const MAX_COPIES: u8 = 3;
/// Addresses of one member.
pub const MAX_ADDRESSES: usize = 16;
/// Plot-servers that a plot job names as to be avoided: more than have failed one farm within half an hour.
pub const MAX_AVOIDED_SERVERS: usize = 8;
/// Longest text anywhere in a message, bytes.
pub const MAX_TEXT_BYTES: usize = 256;
/// Longest reason why a farm takes no part, bytes: people need all of it.
pub const MAX_REASON_BYTES: usize = 1024;
/// Farms in one message: each has two texts of the longest, and two reasons.
pub const MAX_FARMS_TOLD: usize = 20;
