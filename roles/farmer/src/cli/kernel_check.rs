//! `autonomys-farmer util kernel-check`: kernels at K = 17, small enough for a sanitizer to look at every access.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use gpu::device::cuda::{CudaDevice, cards};
use gpu::known::{KNOWN, KNOWN_K, check};
use gpu::workbench::Workbench;

use super::CommandResult;

/// Kernels are some 3 MB of text.
const PTX_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Args)]
pub struct KernelCheckArgs {
    /// The kernels, as `scripts/kernels.py small` makes them; the first GPU that can be used runs them
    #[arg(long, value_name = "FILE")]
    ptx: PathBuf,
    /// The processor runs its own copy of the kernels instead, to see that the check works
    #[cfg(feature = "kernel-shim")]
    #[arg(long)]
    shim: bool,
}

impl KernelCheckArgs {
    /// Encodes the records; it is an error if one comes out wrong.
    pub fn run(&self) -> CommandResult {
        check(&self.bench()?)?;
        println!("ok   {} records at K = {KNOWN_K}", KNOWN.len());
        Ok(())
    }

    fn bench(&self) -> Result<Workbench, Box<dyn std::error::Error>> {
        #[cfg(feature = "kernel-shim")]
        if self.shim {
            use gpu::device::shim::{ShimDevice, ShimOptions};
            let options =
                ShimOptions { k: KNOWN_K, schedule_seed: None, os_threads: 2, memory_bytes: 256 << 20 };
            return Ok(Workbench::new(&ShimDevice::new(options)?)?);
        }
        let cards = cards()?;
        let card = cards.iter().find(|card| card.check().is_ok()).unwrap_or(&cards[0]);
        card.check()?;
        let mut ptx = String::new();
        let read = File::open(&self.ptx).and_then(|file| file.take(PTX_BYTES_MAX).read_to_string(&mut ptx));
        read.map_err(|error| format!("cannot read the kernels in {}: {error}", self.ptx.display()))?;
        Ok(Workbench::new(&CudaDevice::open(card, &ptx)?)?)
    }
}
