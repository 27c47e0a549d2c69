//! Frames of the wire from any bytes. The body is run by `transport`'s unit tests too.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    // As it came, and with the checksum that lets the header through.
    let _ = transport::fuzz::frame(&bytes);
    transport::fuzz::mend(&mut bytes);
    let _ = transport::fuzz::frame(&bytes);
});
