use super::*;
use crate::ids::{FarmId, InstanceId};
use crate::messages::MAX_MESSAGE_BYTES;
use proptest::prelude::*;

fn protocol_info() -> ProtocolInfo {
    ProtocolInfo {
        history_size: 42,
        max_pieces_in_sector: 1000,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    }
}

fn plot_job() -> PlotJob {
    PlotJob {
        sector: SectorId { farm: FarmId([7; 16]), sector_index: 3, history_size: 42 },
        public_key: [1; 32],
        pieces_in_sector: 1000,
        protocol_info: protocol_info(),
        client: InstanceId([2; 16]),
        staged_on: Some(InstanceId([3; 16])),
        attempt: 2,
        avoid: vec![InstanceId([4; 16])],
    }
}

fn member() -> MemberEntry {
    MemberEntry {
        role: Role::PlotServer,
        id: InstanceId([4; 16]),
        addresses: vec!["10.0.0.1:9966".to_owned(), "[::1]:9966".to_owned()],
        certificate_sha256: [5; 32],
        group: "rack-1".to_owned(),
        host: "gpu-01".to_owned(),
        capacity: 4,
        version: "0.1.0".to_owned(),
        is_full: false,
    }
}

fn epoch(count: usize) -> Epoch {
    let id = |n: usize| InstanceId((n as u128).to_be_bytes());
    let members = (0..count).map(|n| EpochMember { id: id(n), weight: 1 << 40 }).collect();
    Epoch { number: 9, members, copies: 2 }
}

/// Whatever happens to the bytes, decoding returns; what it accepts encodes to the same bytes.
fn survives<M: Control>(bytes: &[u8]) {
    if let Ok(message) = M::from_bytes(bytes)
        && bytes[0] == VERSION
    {
        assert_eq!(message.to_bytes().unwrap(), bytes);
    }
}

fn all_survive(bytes: &[u8]) {
    survives::<SlotInfo>(bytes);
    survives::<SolutionFound>(bytes);
    survives::<SolutionAnswer>(bytes);
    survives::<RewardSigningRequest>(bytes);
    survives::<SigningAnswer>(bytes);
    survives::<FarmHeld>(bytes);
    survives::<PlotJob>(bytes);
    survives::<PlotProgress>(bytes);
    survives::<ClusterInfo>(bytes);
    survives::<SegmentHeld>(bytes);
    survives::<Lease>(bytes);
    survives::<MemberEntry>(bytes);
    survives::<Heartbeat>(bytes);
    survives::<Epoch>(bytes);
    survives::<ReinitializeCaches>(bytes);
    survives::<Invalidation>(bytes);
    survives::<SegmentCommitment>(bytes);
    survives::<HoldingsRequest>(bytes);
    survives::<HoldingsAnswer>(bytes);
    survives::<SettingsWanted>(bytes);
    survives::<CacheCounters>(bytes);
    survives::<FarmsWanted>(bytes);
    survives::<FarmsTold>(bytes);
    survives::<FarmsOrder>(bytes);
    survives::<FarmsDone>(bytes);
}

#[test]
fn messages_survive_the_way() {
    assert_eq!(PlotJob::from_bytes(&plot_job().to_bytes().unwrap()).unwrap(), plot_job());
    assert_eq!(MemberEntry::from_bytes(&member().to_bytes().unwrap()).unwrap(), member());
    let slot = SlotInfo {
        slot: 7,
        global_challenge: [8; 32],
        solution_range: 1,
        voting_solution_range: 2,
        controller: InstanceId([9; 16]),
        announced_ms: 10,
    };
    let bytes = slot.to_bytes().unwrap();
    assert_eq!(bytes.len(), 2 + 8 + 32 + 8 + 8 + 16 + 8, "compact");
    assert_eq!(SlotInfo::from_bytes(&bytes).unwrap(), slot);
    let (mem_capacity, mem_items, mem_hits, mem_misses) = (5, 6, 7, u64::MAX);
    let counters = CacheCounters {
        hits: 1,
        misses: 2,
        stored: 3,
        damaged: 4,
        mem_capacity,
        mem_items,
        mem_hits,
        mem_misses,
    };
    assert_eq!(CacheCounters::from_bytes(&counters.to_bytes().unwrap()).unwrap(), counters);
    let reason = "x".repeat(MAX_TEXT_BYTES);
    let (sector, server) = (plot_job().sector, InstanceId([1; 16]));
    for answer in [SolutionAnswer::Queued, SolutionAnswer::NotSent { reason: bounded_text(&"é".repeat(200)) }]
    {
        assert_eq!(SolutionAnswer::from_bytes(&answer.to_bytes().unwrap()).unwrap(), answer);
    }
    assert!(SolutionAnswer::Unknown { reason: "two\nlines".into() }.to_bytes().is_err());
    assert_eq!(bounded_text("two\nlines"), "two lines");
    for phase in [
        PlotPhase::Failed { reason: reason.clone() },
        PlotPhase::Stored,
        PlotPhase::Wanted,
        PlotPhase::Refused { reason },
    ] {
        let progress = PlotProgress { sector, server, phase };
        assert_eq!(PlotProgress::from_bytes(&progress.to_bytes().unwrap()).unwrap(), progress);
    }
    let next = SectorId { sector_index: sector.sector_index + 1, ..sector };
    assert_ne!(sector.staging(), next.staging());
}

#[test]
fn any_text_is_made_fit_to_send_and_any_key_is_a_subject() {
    let reason = bounded_text(&format!("{}\u{e9}\n\u{9}x", "y".repeat(MAX_TEXT_BYTES - 1)));
    assert_eq!(reason, "y".repeat(MAX_TEXT_BYTES - 1), "cut before the letter that does not fit");
    let host = bounded_text("a\u{85}b\n");
    assert_eq!(host.chars().filter(|char| char.is_control()).count(), 0);
    let held = FarmHeld {
        client: InstanceId([1; 16]),
        public_key: [0xab; 32],
        host,
        path: "/plot/1".to_owned(),
        held_ms: 7,
        over: Some(InstanceId([2; 16])),
    };
    assert_eq!(FarmHeld::from_bytes(&held.to_bytes().unwrap()).unwrap(), held);
    assert!(FarmHeld { host: reason.clone() + "zz", ..held }.to_bytes().is_err());
    assert!(SigningAnswer::Refused { reason: bounded_text(&(reason + "\n")) }.to_bytes().is_ok());
    for subject in [subjects::signature(&[0xab; 32]), subjects::farm(&[0; 32])] {
        assert!(subject.split('.').all(crate::names::valid_token), "{subject}");
    }
}

#[test]
fn the_largest_epoch_fits() {
    let bytes = epoch(MAX_EPOCH_MEMBERS).to_bytes().unwrap();
    assert!(bytes.len() < MAX_MESSAGE_BYTES);
    assert_eq!(Epoch::from_bytes(&bytes).unwrap().members.len(), MAX_EPOCH_MEMBERS);
    assert!(epoch(MAX_EPOCH_MEMBERS + 1).to_bytes().is_err());
}

#[test]
fn the_largest_holdings_fit_and_no_larger_ones() {
    let most = usize::from(MAX_HOLDINGS_SEGMENTS);
    let held = |count| HoldingsAnswer::Held { highest: Some(u64::MAX), pieces: vec![[7; 32]; count] };
    let bytes = held(most).to_bytes().unwrap();
    assert!(bytes.len() < MAX_MESSAGE_BYTES / 3);
    assert_eq!(HoldingsAnswer::from_bytes(&bytes).unwrap(), held(most));
    assert!(matches!(held(most + 1).to_bytes(), Err(MessageError::Impossible(_))));
    let request = HoldingsRequest { genesis_hash: [1; 32], from_segment: 9, segments: 512, lets_go_by: None };
    assert_eq!(HoldingsRequest::from_bytes(&request.to_bytes().unwrap()).unwrap(), request);
    for (from_segment, segments) in [(0, 0), (0, 513), (u64::MAX, 1), (u64::MAX / 256, 1)] {
        let bad = HoldingsRequest { from_segment, segments, ..request };
        assert!(matches!(bad.to_bytes(), Err(MessageError::Impossible(_))), "{bad:?}");
    }
    let refused = HoldingsAnswer::Refused { reason: "it still reads what it has".to_owned() };
    assert_eq!(HoldingsAnswer::from_bytes(&refused.to_bytes().unwrap()).unwrap(), refused);
    let long = HoldingsAnswer::Refused { reason: "x".repeat(MAX_TEXT_BYTES + 1) };
    assert!(long.to_bytes().is_err());
}

#[test]
fn as_many_farms_as_are_told_at_once_fit_whatever_they_say() {
    let (text, reason) = ("x".repeat(MAX_TEXT_BYTES), "y".repeat(MAX_REASON_BYTES));
    let health = DiskHealth::Sick;
    let disk = DiskTold { device: text.clone(), health, changes: 1, late: 2, failed: 3, refused: 4 };
    let farm = FarmTold {
        path: text.clone(),
        id: Some(FarmId([1; 16])),
        stage: FarmStage::Failed { reason: reason.clone(), again_in_s: Some(300) },
        plotted: 7,
        sectors: 8,
        sector_bytes: 1 << 30,
        is_plotting_paused: true,
        failing: 9,
        failing_reason: reason.clone(),
        disk: Some(disk),
        scrub: text.clone(),
    };
    let told = |count| FarmsTold {
        client: InstanceId([2; 16]),
        host: text.clone(),
        farms_in_all: 1000,
        farms: vec![farm.clone(); count],
    };
    let most = told(MAX_FARMS_TOLD);
    assert_eq!(FarmsTold::from_bytes(&most.to_bytes().unwrap()).unwrap(), most);
    assert!(matches!(told(MAX_FARMS_TOLD + 1).to_bytes(), Err(MessageError::Impossible(_))));
    for what in [
        FarmsChange::Add { farm: text.clone() + "x" },
        FarmsChange::Remove { path: "two\nlines".into() },
        FarmsChange::PausePlotting { path: text.clone() + "x", is_paused: true },
        FarmsChange::Scrub { path: text.clone() + "x", is_wanted: true },
    ] {
        assert!(FarmsOrder { what }.to_bytes().is_err());
    }
    let done = FarmsDone::Refused { reason: bounded_reason("no\nsuch farm") };
    assert_eq!(bounded_reason(&(reason.clone() + "z")), reason);
    assert_eq!(FarmsDone::from_bytes(&done.to_bytes().unwrap()).unwrap(), done);
}

#[test]
fn wrong_version_kind_length_and_content_are_told_apart() {
    let good = plot_job().to_bytes().unwrap();
    let altered = |at: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = value;
        PlotJob::from_bytes(&bytes).unwrap_err()
    };
    assert_eq!(altered(0, 1), MessageError::Version { found: 1 });
    assert_eq!(altered(1, 1), MessageError::Kind { found: 1, expected: 5 });
    assert!(matches!(PlotJob::from_bytes(&[]), Err(MessageError::Malformed { .. })));
    assert!(matches!(PlotJob::from_bytes(&good[..good.len() - 1]), Err(MessageError::Malformed { .. })));
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(PlotJob::from_bytes(&longer), Err(MessageError::Malformed { .. })));
    let no_pieces = PlotJob { pieces_in_sector: 0, ..plot_job() };
    assert!(matches!(no_pieces.to_bytes(), Err(MessageError::Impossible(_))));
    let avoid = vec![InstanceId([4; 16]); MAX_AVOIDED_SERVERS + 1];
    for bad in [PlotJob { attempt: 0, ..plot_job() }, PlotJob { avoid, ..plot_job() }] {
        assert!(matches!(bad.to_bytes(), Err(MessageError::Impossible(_))));
    }
    let bad_group = MemberEntry { group: "a.b".to_owned(), ..member() };
    assert!(matches!(bad_group.to_bytes(), Err(MessageError::Impossible(_))));
    let mut twice = epoch(2);
    twice.members[1] = twice.members[0];
    assert!(matches!(twice.to_bytes(), Err(MessageError::Impossible(_))));
}

/// The next release appends fields: what this one knows of the message is read.
#[test]
fn a_newer_message_is_read_as_far_as_it_is_known() {
    let good = plot_job().to_bytes().unwrap();
    let newer = [&[VERSION + 1], &good[1..], b"appended"].concat();
    assert_eq!(PlotJob::from_bytes(&newer).unwrap(), plot_job());
    let cut = [&[VERSION + 1], &good[1..good.len() - 1]].concat();
    assert!(matches!(PlotJob::from_bytes(&cut), Err(MessageError::Malformed { .. })));
}

/// The release before had no copies and no word for full caches.
#[test]
fn what_an_older_message_lacks_is_zero() {
    let older = |bytes: &[u8]| [&[VERSION - 1], &bytes[1..bytes.len() - 1]].concat();
    let read = Epoch::from_bytes(&older(&epoch(3).to_bytes().unwrap())).unwrap();
    assert_eq!(read, Epoch { copies: 0, ..epoch(3) });
    let full = MemberEntry { is_full: true, ..member() }.to_bytes().unwrap();
    assert_eq!(MemberEntry::from_bytes(&older(&full)).unwrap(), member());
    let longer = [&older(&full)[..], &[0; 2]].concat();
    assert!(matches!(MemberEntry::from_bytes(&longer), Err(MessageError::Malformed { .. })));
}

/// A role that only a newer release has is kept as it is.
#[test]
fn unknown_roles_are_kept() {
    let heartbeat = Heartbeat { role: Role::PlotClient, id: InstanceId([1; 16]) }.to_bytes().unwrap();
    assert_eq!(heartbeat[2], 5, "roles are numbered from 0, in order");
    let mut newer = heartbeat.to_vec();
    (newer[0], newer[2]) = (VERSION + 1, 6);
    let message = Heartbeat::from_bytes(&newer).unwrap();
    assert_eq!(
        (message.role, message.role.token(), message.role.to_string().as_str()),
        (Role::Other(6), "other", "other-6")
    );
    assert_eq!(message.to_bytes().unwrap()[1..], newer[1..]);
}

#[test]
fn a_length_that_promises_more_than_is_there_takes_no_memory() {
    // 2^30 - 1 members announced, none there.
    let mut bytes = vec![VERSION, Epoch::KIND];
    bytes.extend_from_slice(&9u64.to_le_bytes());
    bytes.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff]);
    assert!(matches!(Epoch::from_bytes(&bytes), Err(MessageError::Malformed { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn hostile_bytes_are_errors(kind in 0u8..32, body in prop::collection::vec(any::<u8>(), 0..600)) {
        let bytes = [&[VERSION, kind][..], &body].concat();
        all_survive(&bytes);
    }

    #[test]
    fn flipped_bits_are_errors_or_other_messages(at in 0usize..200, bit in 0u8..8) {
        for good in [plot_job().to_bytes().unwrap(), member().to_bytes().unwrap(), epoch(5).to_bytes().unwrap()] {
            let mut bytes = good.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            all_survive(&bytes);
        }
    }
}
