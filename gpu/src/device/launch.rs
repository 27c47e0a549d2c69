//! What every device checks of a launch before it hands it on.
//!
//! Owns: the sizes of arguments and grids. Never: the launch itself.

use crate::interface::{AssembleArgs, HashArgs, Kernel, Layout, ProofArgs, RecordArgs};

/// Room for the largest argument.
const ARGUMENT_BYTES: usize = 64;
/// Limits of CUDA for a grid.
const GRID_LIMIT: (u32, u32) = (i32::MAX as u32, 65_535);

const _: () = assert!(size_of::<AssembleArgs>() <= ARGUMENT_BYTES && size_of::<HashArgs>() <= ARGUMENT_BYTES);
const _: () = assert!(size_of::<RecordArgs>() <= ARGUMENT_BYTES && size_of::<ProofArgs>() <= ARGUMENT_BYTES);

/// A launch whose sizes fit the kernel.
pub(super) struct Launch {
    argument: Argument,
    /// Threads of a block.
    pub threads: u32,
}

/// An argument aligned as kernels read it, which the bytes of a caller need not be.
#[repr(C, align(16))]
struct Argument([u8; ARGUMENT_BYTES]);

impl Launch {
    /// Checks a launch; the error says what does not fit.
    pub fn new(layout: &Layout, kernel: Kernel, grid: (u32, u32), args: &[u8]) -> Result<Self, String> {
        let name = kernel.name();
        let (blocks, threads) = layout.grid(kernel);
        if args.len() != argument_bytes(kernel) {
            let wanted = argument_bytes(kernel);
            return Err(format!("{name}: argument of {} bytes where {wanted} are needed", args.len()));
        }
        if !(1..=GRID_LIMIT.0).contains(&grid.0) || !(1..=GRID_LIMIT.1).contains(&grid.1) {
            return Err(format!("{name}: grid of {} x {} blocks", grid.0, grid.1));
        }
        if blocks != 0 && blocks != grid.0 {
            return Err(format!("{name}: {} blocks a record where {blocks} are needed", grid.0));
        }
        let mut argument = Argument([0; ARGUMENT_BYTES]);
        argument.0[..args.len()].copy_from_slice(args);
        Ok(Self { argument, threads })
    }

    /// The argument, aligned to 16 bytes.
    pub fn argument(&self) -> *const u8 {
        self.argument.0.as_ptr()
    }
}

/// Size of what a kernel takes, as `KERNELS` of `kernels/interface.h` says.
fn argument_bytes(kernel: Kernel) -> usize {
    match kernel {
        Kernel::WriteProofs => size_of::<ProofArgs>(),
        Kernel::HashSpans => size_of::<HashArgs>(),
        Kernel::Assemble => size_of::<AssembleArgs>(),
        _ => size_of::<RecordArgs>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let mut grids = [(3, 128); Kernel::ALL.len()];
        grids[Kernel::Assemble as usize] = (0, 64);
        Layout { k: 17, slot_bytes: 1, source_at: 0, parity_at: 0, roots_bytes: 1, grids }
    }

    #[test]
    fn launches_of_wrong_sizes_are_refused() {
        let check =
            |kernel, grid, bytes: usize| Launch::new(&layout(), kernel, grid, &vec![1; bytes]).map(|_| ());
        assert_eq!(check(Kernel::Clear, (3, 2), 32), Ok(()));
        assert_eq!(check(Kernel::Assemble, (9, 1), 64), Ok(()), "the caller decides grid.x");
        for (kernel, grid, bytes) in [
            (Kernel::Clear, (3, 2), 31),
            (Kernel::Clear, (3, 2), 0),
            (Kernel::HashSpans, (3, 1), 32),
            (Kernel::Clear, (2, 2), 32),
            (Kernel::Clear, (3, 0), 32),
            (Kernel::Clear, (3, 65_536), 32),
            (Kernel::Assemble, (0, 1), 64),
            (Kernel::Assemble, (u32::MAX, 1), 64),
        ] {
            let error = check(kernel, grid, bytes).unwrap_err();
            assert!(error.starts_with(kernel.name()), "{error}");
        }
    }

    #[test]
    fn numbers_and_arguments_are_those_of_the_kernels() {
        let header = include_str!("../../kernels/interface.h");
        let lines = header.lines().filter_map(|line| line.trim().strip_prefix("NAME("));
        let kernels = lines.map(|line| line.split(')').next().unwrap().split_once(", ").unwrap());
        let ours = Kernel::ALL.iter().map(|&kernel| {
            let argument = match kernel {
                Kernel::WriteProofs => "ProofArgs",
                Kernel::HashSpans => "HashArgs",
                Kernel::Assemble => "AssembleArgs",
                _ => "RecordArgs",
            };
            (kernel.name(), argument)
        });
        assert!(kernels.eq(ours));
        assert!(Kernel::ALL.iter().enumerate().all(|(number, &kernel)| kernel as usize == number));
    }

    #[test]
    fn arguments_are_aligned_copies() {
        let bytes: Vec<u8> = (0..33).collect();
        let launch = Launch::new(&layout(), Kernel::Clear, (3, 1), &bytes[1..]).unwrap();
        assert_eq!(launch.argument() as usize % 16, 0);
        assert_eq!(launch.argument.0[..32], bytes[1..]);
        assert_eq!(launch.threads, 128);
    }
}
