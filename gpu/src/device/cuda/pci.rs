//! PCI addresses: what names a card whatever order the driver lists cards in.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// Where a card sits on the PCI bus. Shown as the kernel does: `0000:3b:00.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciId {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no PCI bus id: write it as `nvidia-smi -L` or lspci do, for example 0000:3b:00.0")]
pub struct NoPciId(String);

impl PciId {
    fn parse(text: &str) -> Option<Self> {
        let (domain, rest) = match text.split(':').count() {
            2 => (0, text),
            _ => text.split_once(':').and_then(|(domain, rest)| Some((hex(domain, 8)?, rest)))?,
        };
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.').unwrap_or((rest, "0"));
        let id = Self {
            domain,
            bus: u8::try_from(hex(bus, 2)?).ok()?,
            device: u8::try_from(hex(device, 2)?).ok()?,
            function: u8::try_from(hex(function, 1)?).ok()?,
        };
        (id.device < 32 && id.function < 8).then_some(id)
    }
}

/// A number of 1 to `digits` hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u32> {
    let plain = text.len() <= digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number: Result<u32, ParseIntError> = u32::from_str_radix(text, 16);
    number.ok().filter(|_| plain)
}

impl FromStr for PciId {
    type Err = NoPciId;

    /// Of `0000:3b:00.0`, `00000000:3B:00.0` (nvidia-smi) or `3b:00.0` (lspci); without a function it is function 0.
    fn from_str(text: &str) -> Result<Self, NoPciId> {
        Self::parse(text.trim()).ok_or_else(|| NoPciId(text.to_owned()))
    }
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_mean_the_same_card() {
        for text in ["0000:3b:00.0", "00000000:3B:00.0", "3b:00.0", "3B:00", "0:3b:0.0", " 0000:3b:00.0\n"] {
            assert_eq!(text.parse::<PciId>().unwrap().to_string(), "0000:3b:00.0", "{text}");
        }
        assert_eq!("10001:af:1f.7".parse::<PciId>().unwrap().to_string(), "10001:af:1f.7");
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "0", "3b", ":", "::", "3b:", "3b:00.", "3b:20.0", "3b:00.8", "100:00.0", "+b:00.0"] {
            assert!(text.parse::<PciId>().is_err(), "{text}");
        }
        for text in ["0000:3b:00.0.0", "0:0000:3b:00.0", "000000000:3b:00.0", "GPU-1", "0000:3b:00.-1"] {
            assert!(text.parse::<PciId>().unwrap_err().to_string().contains(text));
        }
    }

    #[test]
    fn cards_sort_by_address() {
        let mut ids: Vec<PciId> = ["1:01:00.0", "af:00.0", "3b:00.0"].map(|id| id.parse().unwrap()).into();
        ids.sort();
        let sorted: Vec<_> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(sorted, ["0000:3b:00.0", "0000:af:00.0", "0001:01:00.0"]);
    }
}
