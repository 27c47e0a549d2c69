//! How many reads at once a device is worth: a pure decision by what was measured, and the note that keeps it.
//!
//! ```text
//!   reads/s at 16, 32, 64, 128 at once ──▶ the fewest that bring nearly as many as any ──▶ note: depth, device, checksum
//! ```
//! More at once than the device gains by only wait in it, where nothing can overtake them. What cannot be a measurement decides
//! nothing, and a note that is not whole, or of another device, counts as none: both mean measuring anew.

/// Reads at once that are compared.
pub const DEPTHS: [usize; 4] = [16, 32, 64, 128];
/// A depth is enough when it brings so much of the most that any brings.
const ENOUGH: f64 = 0.95;

/// Says what the file is, with its version.
const MAGIC: [u8; 8] = *b"AFDEPTH1";
const HASH_BYTES: usize = 32;
/// Longest name of a device that is noted: the system's are shorter.
const MAX_NAME_BYTES: usize = 64;
/// Longest note.
pub const MAX_NOTE_BYTES: usize = MAGIC.len() + size_of::<u16>() + MAX_NAME_BYTES + HASH_BYTES;

/// The fewest reads at once that bring nearly as many a second as any of [`DEPTHS`]; none if one of the rates cannot be one.
pub fn enough(reads_per_s: &[f64; DEPTHS.len()]) -> Option<usize> {
    let can_be = |rate: &f64| rate.is_finite() && *rate > 0.0;
    if !reads_per_s.iter().all(can_be) {
        return None;
    }
    let most = reads_per_s.iter().copied().fold(0.0, f64::max);
    DEPTHS.into_iter().zip(reads_per_s).find(|(_, rate)| **rate >= most * ENOUGH).map(|(depth, _)| depth)
}

/// The note of a depth of the device of that name: magic, depth u16 LE, the name, BLAKE3 of all before.
pub fn note(depth: usize, device: &str) -> Vec<u8> {
    let depth = u16::try_from(depth).expect("depths that are compared fit 16 bits");
    let mut note = [&MAGIC[..], &depth.to_le_bytes(), name(device)].concat();
    let hash = blake3::hash(&note);
    note.extend_from_slice(hash.as_bytes());
    note
}

/// The depth that was noted of this device, if the note is whole.
pub fn noted(note: &[u8], device: &str) -> Option<usize> {
    let (said, hash) = note.split_last_chunk::<HASH_BYTES>()?;
    let (depth, of) = said.strip_prefix(&MAGIC)?.split_first_chunk()?;
    let depth = usize::from(u16::from_le_bytes(*depth));
    let is_whole = blake3::hash(said) == *hash && of == name(device) && DEPTHS.contains(&depth);
    is_whole.then_some(depth)
}

fn name(device: &str) -> &[u8] {
    &device.as_bytes()[..device.len().min(MAX_NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_that_bring_nearly_as_many_as_any() {
        // One at a time; a drive with heads; NVMe; one that falls back when it is given too many.
        assert_eq!(enough(&[1000.0, 1000.0, 1000.0, 1000.0]), Some(16));
        assert_eq!(enough(&[180.0, 210.0, 240.0, 245.0]), Some(64));
        assert_eq!(enough(&[50e3, 95e3, 180e3, 300e3]), Some(128));
        assert_eq!(enough(&[50e3, 60e3, 40e3, 30e3]), Some(32));
    }

    #[test]
    fn what_cannot_be_a_rate_decides_nothing() {
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for at in 0..DEPTHS.len() {
                let mut rates = [100.0; DEPTHS.len()];
                rates[at] = nonsense;
                assert_eq!(enough(&rates), None, "{nonsense} at {at}");
            }
        }
    }

    #[test]
    fn a_note_is_read_back_of_its_own_device_only() {
        let long = "x".repeat(200);
        for device in ["nvme0n1p2", "", long.as_str()] {
            for depth in DEPTHS {
                let note = note(depth, device);
                assert!(note.len() <= MAX_NOTE_BYTES);
                assert_eq!(noted(&note, device), Some(depth));
                assert_eq!(noted(&note, "sdb"), None);
            }
        }
    }

    #[test]
    fn a_damaged_note_is_none() {
        let whole = note(64, "nvme0n1");
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert_eq!(noted(&flipped, "nvme0n1"), None, "byte {at}");
            assert_eq!(noted(&whole[..at], "nvme0n1"), None, "cut to {at}");
        }
        assert_eq!(noted(&[&whole[..], &[0]].concat(), "nvme0n1"), None);
        // Whole, and nothing that is ever measured.
        for depth in [0, 1, 1000, 65_535] {
            assert_eq!(noted(&note(depth, "nvme0n1"), "nvme0n1"), None, "{depth}");
        }
    }
}
