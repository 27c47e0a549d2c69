//! What the targets share. Inputs that are long and end with a checksum are made of short ones here, since a fuzzer finds neither by
//! itself.

/// `bytes` over and over until there are `length`; zeroes if there are none.
pub fn filled(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut filled: Vec<u8> = bytes.iter().copied().cycle().take(length).collect();
    filled.resize(length, 0);
    filled
}

/// Replaces the last 32 bytes by the BLAKE3 of those before.
pub fn mend_checksum(bytes: &mut [u8]) {
    if let Some((body, checksum)) = bytes.split_last_chunk_mut::<32>() {
        *checksum = *blake3::hash(body).as_bytes();
    }
}
