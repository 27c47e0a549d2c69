//! Numbers that are compared, as written on the command line.

use std::str::FromStr;

/// Counts from 1 to `MAX`, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depths<const MAX: usize>(pub Vec<usize>);

impl<const MAX: usize> FromStr for Depths<MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let depth = |text: &str| text.trim().parse().ok().filter(|depth| (1..=MAX).contains(depth));
        let depths: Option<Vec<usize>> = text.split(',').map(depth).collect();
        let mut depths = depths.ok_or_else(|| format!("write 1,16,64; depths are 1 to {MAX}"))?;
        depths.sort_unstable();
        depths.dedup();
        Ok(Self(depths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_ascend() {
        assert_eq!("64, 1,16,1".parse(), Ok(Depths::<64>(vec![1, 16, 64])));
        for text in ["", "0", "65", "1,,2", "-1", "1..4", "a"] {
            assert!(text.parse::<Depths<64>>().is_err(), "{text:?}");
        }
    }
}
