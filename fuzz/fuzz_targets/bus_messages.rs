//! Control messages from any bytes, as every type: what is accepted becomes the same bytes again.
#![no_main]

use control::messages::{
    ClusterInfo, Control, Epoch, FarmHeld, Heartbeat, HoldingsAnswer, HoldingsRequest, Invalidation, MemberEntry,
    PlotJob, PlotProgress, ReinitializeCaches, RewardSigningRequest, SegmentCommitment, SegmentPlaced,
    SettingsWanted, SigningAnswer, SlotInfo, SolutionAnswer, SolutionFound, VERSION,
};
use libfuzzer_sys::fuzz_target;

fn read<M: Control>(bytes: &mut [u8]) {
    // The first two bytes are version and kind; these let the rest be reached.
    if let [version, kind, ..] = bytes {
        (*version, *kind) = (VERSION, M::KIND);
    }
    if let Ok(message) = M::from_bytes(bytes) {
        assert_eq!(message.to_bytes().expect("it was decoded"), &*bytes);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let _ = PlotJob::from_bytes(bytes);
    let mut bytes = bytes.to_vec();
    read::<SlotInfo>(&mut bytes);
    read::<SolutionFound>(&mut bytes);
    read::<SolutionAnswer>(&mut bytes);
    read::<RewardSigningRequest>(&mut bytes);
    read::<SigningAnswer>(&mut bytes);
    read::<FarmHeld>(&mut bytes);
    read::<PlotJob>(&mut bytes);
    read::<PlotProgress>(&mut bytes);
    read::<ClusterInfo>(&mut bytes);
    read::<MemberEntry>(&mut bytes);
    read::<Heartbeat>(&mut bytes);
    read::<Epoch>(&mut bytes);
    read::<ReinitializeCaches>(&mut bytes);
    read::<Invalidation>(&mut bytes);
    read::<SegmentCommitment>(&mut bytes);
    read::<SegmentPlaced>(&mut bytes);
    read::<HoldingsRequest>(&mut bytes);
    read::<HoldingsAnswer>(&mut bytes);
    read::<SettingsWanted>(&mut bytes);
});
