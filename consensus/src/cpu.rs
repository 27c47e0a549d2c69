//! Which instruction sets this machine has, found at run time, so that one binary runs on every processor.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// What [`CpuLevel::current`] answers, once something asked or [`CpuLevel::force`] was called.
static CURRENT: OnceLock<CpuLevel> = OnceLock::new();

/// An instruction set level that this machine has; a value of this type cannot be made for one that it lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CpuLevel(Level);

/// The levels that code is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What every processor of the target has.
    Portable,
    /// AVX2 with BMI and POPCNT (x86-64-v3).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL (x86-64-v4) with IFMA and VBMI: Ice Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The name is unknown or the machine lacks the level.
#[derive(Debug, thiserror::Error)]
#[error("CPU level '{0}' is not available here; this machine has: {list}", list = CpuLevel::names())]
pub struct CpuLevelError(String);

/// The process already works at another level.
#[derive(Debug, thiserror::Error)]
#[error("the CPU level must be chosen before the first work; this process already works at '{0}'")]
pub struct CpuLevelChosen(CpuLevel);

impl CpuLevel {
    /// The level of this process: the best of the machine, unless [`Self::force`] chose another one.
    pub fn current() -> Self {
        *CURRENT.get_or_init(Self::detect)
    }

    /// Makes `level` that of the whole process (`--cpu-level`); to be called before any work.
    pub fn force(level: Self) -> Result<(), CpuLevelChosen> {
        let chosen = *CURRENT.get_or_init(|| level);
        if chosen == level { Ok(()) } else { Err(CpuLevelChosen(chosen)) }
    }

    /// Whether 52-bit integer multiplication (AVX-512 IFMA) may be used.
    pub(crate) fn has_ifma(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Level::Avx512;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The best level of this machine.
    pub fn detect() -> Self {
        *Self::available().last().expect("portable is always available")
    }

    /// Every level of this machine, from the plainest to the best.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self(Level::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512ifma")
                && is_x86_feature_detected!("avx512vbmi");
            if avx2 {
                levels.push(Self(Level::Avx2));
            }
            if avx2 && avx512 {
                levels.push(Self(Level::Avx512));
            }
        }
        levels
    }

    /// Name as `--cpu-level` takes it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }

    fn names() -> String {
        Self::available().into_iter().map(Self::name).collect::<Vec<_>>().join(", ")
    }
}

impl FromStr for CpuLevel {
    type Err = CpuLevelError;

    fn from_str(name: &str) -> Result<Self, CpuLevelError> {
        Self::available()
            .into_iter()
            .find(|level| level.name() == name)
            .ok_or_else(|| CpuLevelError(name.into()))
    }
}

impl fmt::Display for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_process_is_chosen_once() {
        let chosen = CpuLevel::current();
        assert!(CpuLevel::force(chosen).is_ok());
        for other in CpuLevel::available().into_iter().filter(|level| *level != chosen) {
            assert!(CpuLevel::force(other).unwrap_err().to_string().contains(chosen.name()));
        }
        assert_eq!(CpuLevel::current(), chosen);
    }

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused() {
        for level in CpuLevel::available() {
            assert_eq!(level.name().parse::<CpuLevel>().unwrap(), level);
        }
        let error = "pentium".parse::<CpuLevel>().unwrap_err().to_string();
        assert!(error.contains("pentium") && error.contains("portable"), "{error}");
    }
}
