//! Who fetches new segments, and who holds one that is not in the caches yet.

use super::{Control, MessageError, check_text};
use crate::ids::InstanceId;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// A controller has a whole verified segment on its disk, key `held.<index>` of the cluster's bucket, until it is placed.
    #[derive(Copy)]
    struct SegmentHeld {
        /// Which controller.
        pub controller: InstanceId,
    }
}
impl Control for SegmentHeld {
    const KIND: u8 = 19;
}

message! {
    /// Who does something that one alone should do, a key of the bucket `leases`. Over when the key has not changed for long.
    struct Lease {
        /// Who has it.
        pub holder: InstanceId,
        /// The holder's host, for people.
        pub host: String,
        /// Grows with each change of the holder.
        pub term: u64,
    }
}
impl Control for Lease {
    const KIND: u8 = 20;

    fn check(&self) -> Result<(), MessageError> {
        check_text(&self.host)
    }
}
