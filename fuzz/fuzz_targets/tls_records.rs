//! Records of TLS by who has the key and by who has not. The body is run by `transport`'s unit tests too.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| transport::fuzz::tls_records(script));
