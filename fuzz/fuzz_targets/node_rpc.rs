//! Answers and notifications of a node from any text: what is accepted is written and read again as the same.
#![no_main]

use consensus::segment::SegmentHeader;
use consensus::solution::Solution;
use libfuzzer_sys::fuzz_target;
use node::{
    FarmerAppInfo, HexBytes, ProtocolInfoJson, RewardSignature, RewardSigning, SegmentHeaderJson, SlotInfo,
    SolutionJson, SolutionResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_vec(&read).expect("it was JSON");
    assert_eq!(serde_json::from_slice::<T>(&text).expect("written here"), read);
    Some(read)
}

fuzz_target!(|bytes: &[u8]| {
    let _ = read::<FarmerAppInfo>(bytes);
    let _ = read::<Option<HexBytes>>(bytes);
    let _ = read::<ProtocolInfoJson>(bytes);
    let _ = read::<RewardSignature>(bytes);
    let _ = read::<RewardSigning>(bytes);
    let _ = read::<SlotInfo>(bytes);
    let _ = read::<SolutionResponse>(bytes);
    for header in read::<Vec<Option<SegmentHeaderJson>>>(bytes).into_iter().flatten().flatten() {
        let _ = SegmentHeader::from(header);
    }
    if let Some(solution) = read::<SolutionJson>(bytes) {
        let _ = Solution::from(solution);
    }
});
