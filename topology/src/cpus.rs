//! Sets of the system's CPU numbers (hyper-threads: what the kernel calls a CPU and hwloc a PU).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// CPU numbers are below this: the most that Linux can be built for on x86-64 is half of it.
pub const CPU_LIMIT: u32 = 16_384;

/// A set of CPU numbers, written as the kernel does: `0-47,96-143`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Cpus(BTreeSet<u32>);

/// Text that is not a set of CPUs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CpusError {
    /// Not numbers and ranges.
    #[error("{text:?} is not a list of CPUs: write numbers and ranges, as 0-47,96-143")]
    Syntax {
        /// What was written, shortened.
        text: String,
    },
    /// A range that runs backwards.
    #[error("{first}-{last} runs backwards: write {last}-{first}")]
    Backwards {
        /// First of the range.
        first: u32,
        /// Last of the range.
        last: u32,
    },
    /// A number that no machine has.
    #[error("CPU {cpu} is above {max}, the highest that can be named", max = CPU_LIMIT - 1)]
    TooHigh {
        /// The number.
        cpu: u32,
    },
}

impl Cpus {
    /// The numbers, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is one of them.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Adds one.
    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    /// Those in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }

    /// Those that `other` has not.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.0.difference(&other.0).copied().collect()
    }
}

impl FromIterator<u32> for Cpus {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl Extend<u32> for Cpus {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, cpus: I) {
        self.0.extend(cpus);
    }
}

impl FromStr for Cpus {
    type Err = CpusError;

    fn from_str(text: &str) -> Result<Self, CpusError> {
        let mut cpus = Self::default();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first, text)?, number(last, text)?);
            if first > last {
                return Err(CpusError::Backwards { first, last });
            }
            if last >= CPU_LIMIT {
                return Err(CpusError::TooHigh { cpu: last });
            }
            cpus.extend(first..=last);
        }
        Ok(cpus)
    }
}

/// One number of the list `text`.
fn number(part: &str, text: &str) -> Result<u32, CpusError> {
    const SHOWN_CHARS: usize = 60;
    let part = part.trim();
    let digits_only = part.bytes().all(|byte| byte.is_ascii_digit());
    match part.parse() {
        Ok(number) if digits_only => Ok(number),
        _ => Err(CpusError::Syntax { text: text.chars().take(SHOWN_CHARS).collect() }),
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|&next| next == last + 1) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_and_read_back(numbers in proptest::collection::btree_set(0..CPU_LIMIT, 1..40)) {
            let cpus = Cpus(numbers);
            prop_assert_eq!(cpus.to_string().parse::<Cpus>(), Ok(cpus));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = text.parse::<Cpus>();
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", ",", "1-", "-1", "+1", "1,,2", "a", "0x3", "1 2", "99999999999"] {
            assert!(matches!(text.parse::<Cpus>(), Err(CpusError::Syntax { .. })), "{text:?}");
        }
        assert_eq!("3-1".parse::<Cpus>(), Err(CpusError::Backwards { first: 3, last: 1 }));
        assert_eq!("0-4000000000".parse::<Cpus>(), Err(CpusError::TooHigh { cpu: 4_000_000_000 }));
    }

    #[test]
    fn the_kernels_way_of_writing() {
        let cpus: Cpus = "96-98, 0-2,5\n".parse().unwrap();
        assert_eq!(cpus.to_string(), "0-2,5,96-98");
        assert_eq!(cpus.len(), 7);
    }
}
