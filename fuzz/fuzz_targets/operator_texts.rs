//! What operators write, and the small files of farms that they may have edited.
#![no_main]

use consensus::identity::{Identity, parse_reward_address};
use engine::farm::FarmInfo;
use libfuzzer_sys::fuzz_target;
use cluster::cache::CacheSpec;
use cluster::plot_client::FarmSpec;
use cluster::sizes::parse_size;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(info) = FarmInfo::from_json(bytes) {
        assert_eq!(FarmInfo::from_json(&info.to_json()).expect("written here"), info);
    }
    if let Ok(identity) = Identity::from_file_bytes(bytes) {
        assert_eq!(identity.to_file_bytes(), bytes);
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = (parse_size(text), parse_reward_address(text));
    let _ = (text.parse::<FarmSpec>(), text.parse::<CacheSpec>());
    let _ = (
        format!("path=a,size={text}").parse::<FarmSpec>(),
        format!("path=a,size={text}").parse::<CacheSpec>(),
    );
});
