//! Vectors of the instruction set levels, under the same names in a module for each: [`portable`], `avx2`, `avx512`.
//!
//! A loop is written once, inside [`at_every_level!`], which stamps it into such modules again, each compiled for its level. That is
//! a macro and not a trait because intrinsics are inlined only into functions that are compiled for their level, which trait methods
//! cannot be.
//!
//! | type | is | lanes of portable, AVX2, AVX-512 |
//! |---|---|---|
//! | `Words` | 32-bit words, one of each input of a hash | 4, 8, 16 |
//! | `Keys` | 16-bit numbers to be ranked | 8, 16, 16 |
//! | `Bytes` | rows and columns of a bucket's entries | 16, 32, 64 |
//!
//! Lane i is always element i in memory.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;

/// Most lanes of `Words` at any level.
pub(crate) const MAX_LANES: usize = 16;

/// Four words that lie side by side in memory and are read and written as one: an entry of a proof-of-space table.
pub(crate) type Quad = [u32; 4];

/// Stamps functions into modules `portable`, `avx2` and `avx512`, where the names of `simd`'s module of that level are in scope,
/// and those of the same level's module in every module named behind `use`. Generic parameters stand in brackets.
///
/// Except those of `portable`, the functions are to be called only where the processor has the level.
macro_rules! at_every_level {
    (use $($($segment:ident)::+),*; $($functions:tt)*) => {
        at_every_level! { @level portable, [cfg(all())], [$($($segment)::+),*], $($functions)* }
        #[cfg(target_arch = "x86_64")]
        at_every_level! {
            @level avx2, [target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")],
            [$($($segment)::+),*], $($functions)*
        }
        #[cfg(target_arch = "x86_64")]
        at_every_level! {
            @level avx512, [target_feature(
                enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi1,bmi2,lzcnt,popcnt"
            )],
            [$($($segment)::+),*], $($functions)*
        }
    };
    (@level $level:ident, $attribute:tt, [$($($segment:ident)::+),*],
     $($(#[$meta:meta])* fn $name:ident $([$($generics:tt)*])? ($($arguments:tt)*) $(-> $value:ty)? $body:block)*) => {
        #[doc = concat!("At level ", stringify!($level), ".")]
        #[allow(unused_imports, reason = "what a function needs depends on its level")]
        pub(crate) mod $level {
            use super::*;
            use crate::simd::$level::*;
            $(use $($segment)::+::$level::*;)*
            $($(#[$meta])* # $attribute pub(crate) fn $name $(<$($generics)*>)? ($($arguments)*) $(-> $value)? $body)*
        }
    };
}

pub(crate) use at_every_level;

/// Calls a function made by [`at_every_level!`] at a [`CpuLevel`](crate::CpuLevel).
macro_rules! at_level {
    ($level:expr, $name:ident $(::<$($generic:tt),*>)? ($($argument:expr),* $(,)?)) => {
        match $level.level() {
            $crate::cpu::Level::Portable => portable::$name$(::<$($generic),*>)?($($argument),*),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `CpuLevel` of AVX2 exists only where `available` found all that the function is compiled for.
            $crate::cpu::Level::Avx2 => unsafe { avx2::$name$(::<$($generic),*>)?($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, for AVX-512.
            $crate::cpu::Level::Avx512 => unsafe { avx512::$name$(::<$($generic),*>)?($($argument),*) },
        }
    };
}

pub(crate) use at_level;
