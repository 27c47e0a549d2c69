use super::*;
use serde_json::{Value, json};

/// A solution as the network's own farmer sends it, and its SCALE encoding.
const SOLUTION_JSON: &str = include_str!("solution.json");
const SOLUTION_SCALE: &str = include_str!("solution.hex");

fn round_trip<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
    value: &T,
    json: Value,
) {
    assert_eq!(serde_json::to_value(value).unwrap(), json);
    assert_eq!(&serde_json::from_value::<T>(json).unwrap(), value);
}

#[test]
fn solution_of_the_network() {
    let json: Value = serde_json::from_str(SOLUTION_JSON).unwrap();
    let solution = Solution::from_bytes(&hex::decode(SOLUTION_SCALE.trim()).unwrap()).unwrap();
    let response = SolutionResponse { slot_number: 2, solution: solution.clone().try_into().unwrap() };
    assert_eq!(Solution::from(response.solution.clone()), solution);
    round_trip(&response, json!({ "slotNumber": 2, "solution": json }));
}

#[test]
fn solutions_of_other_shapes_are_refused() {
    let good: Value = serde_json::from_str(SOLUTION_JSON).unwrap();
    let refused = |member: &str, value: Value| {
        let mut json = good.clone();
        json[member] = value;
        assert!(serde_json::from_value::<SolutionJson>(json).is_err(), "{member}");
    };
    refused("historySize", json!(0));
    refused("publicKey", json!("00"));
    refused("chunk", json!(hex::encode([0; 32])));
    refused("chunk", json!(vec![0; 31]));
    refused("sectorIndex", json!(65_536));
    refused("proofOfSpace", json!(hex::encode([0; 159])));
    let mut solution = Solution::from_bytes(&hex::decode(SOLUTION_SCALE.trim()).unwrap()).unwrap();
    solution.history_size = 0;
    assert_eq!(SolutionJson::try_from(solution), Err(InvalidSolution));
}

#[test]
fn segment_headers_complete_and_partial() {
    let header = |archived_progress| SegmentHeader {
        segment_index: 3,
        segment_commitment: [1; 48],
        prev_segment_header_hash: [2; 32],
        last_archived_block: LastArchivedBlock { number: 7, archived_progress },
    };
    for (progress, json) in [
        (ArchivedProgress::Complete, json!("complete")),
        (ArchivedProgress::Partial(9), json!({ "partial": 9 })),
    ] {
        let json = json!({ "v0": {
            "segmentIndex": 3,
            "segmentCommitment": "01".repeat(48),
            "prevSegmentHeaderHash": "02".repeat(32),
            "lastArchivedBlock": { "number": 7, "archivedProgress": json },
        }});
        round_trip(&SegmentHeaderJson::from(&header(progress)), json.clone());
        assert_eq!(
            SegmentHeader::from(serde_json::from_value::<SegmentHeaderJson>(json).unwrap()),
            header(progress)
        );
    }
}

#[test]
fn numbers_beyond_doubles() {
    let info = SlotInfo {
        slot_number: u64::MAX - 1,
        global_challenge: [3; 32],
        solution_range: u64::MAX,
        voting_solution_range: (1 << 53) + 1,
    };
    let text = serde_json::to_string(&info).unwrap();
    assert!(text.contains(r#""solutionRange":18446744073709551615"#), "{text}");
    assert!(text.contains(r#""votingSolutionRange":9007199254740993"#), "{text}");
    assert_eq!(serde_json::from_str::<SlotInfo>(&text).unwrap(), info);
}

#[test]
fn farmer_app_info_with_and_without_a_development_setup() {
    let info = |dev_kzg| FarmerAppInfo {
        genesis_hash: [4; 32],
        dsn_bootstrap_nodes: vec!["/ip4/127.0.0.1/tcp/30433".into()],
        syncing: false,
        farming_timeout: Duration::from_millis(4500),
        protocol_info: ProtocolInfoJson {
            history_size: NonZeroU64::MIN,
            max_pieces_in_sector: 1000,
            recent_segments: 5,
            recent_history_fraction: (1, 10),
            min_sector_lifetime: 4,
        },
        dev_kzg,
    };
    let mut json = json!({
        "genesisHash": "04".repeat(32),
        "dsnBootstrapNodes": ["/ip4/127.0.0.1/tcp/30433"],
        "syncing": false,
        "farmingTimeout": { "secs": 4, "nanos": 500_000_000 },
        "protocolInfo": {
            "historySize": 1,
            "maxPiecesInSector": 1000,
            "recentSegments": 5,
            "recentHistoryFraction": [1, 10],
            "minSectorLifetime": 4,
        },
    });
    round_trip(&info(None), json.clone());
    json["devKzg"] = json!("insecure-v1");
    round_trip(&info(Some("insecure-v1".into())), json);
}

#[test]
fn reward_signing() {
    round_trip(
        &RewardSigning { hash: [5; 32], public_key: [6; 32] },
        json!({ "hash": "05".repeat(32), "publicKey": "06".repeat(32) }),
    );
    round_trip(
        &RewardSignature { hash: [5; 32], signature: [7; 64] },
        json!({ "hash": "05".repeat(32), "signature": "07".repeat(64) }),
    );
}
