//! How fast bytes go to a device and back.
//!
//! Owns: memory of its own on both sides. Never: copies beside kernels, which share the device's memory with them.
#![allow(unsafe_code)]

use super::MeasureError;
use crate::card::{Lent, Registered};
use crate::device::{Device, DeviceError, Stream};
use engine::pool::{Pool, SLAB_BYTES};
use std::slice;

/// Slabs copied at a time: 64 MiB.
const SLABS: usize = 32;
const BYTES: usize = SLABS * SLAB_BYTES;
/// Copies that are timed together.
const COPIES: usize = 16;

/// Speeds between host memory and a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Copies {
    /// 10^9 bytes a second to the device.
    pub up_gb_s: f64,
    /// 10^9 bytes a second from the device.
    pub down_gb_s: f64,
    /// Whether the memory was registered with the device, as a plot-server's is; without, copies are slower.
    pub registered: bool,
}

/// Copies 1 GiB up and 1 GiB down, 64 MiB at a time, and looks whether what came back is what went out.
pub fn copies(device: &dyn Device) -> Result<Copies, MeasureError> {
    let pool = Pool::new(SLABS, 0)?;
    let registered = Registered::new(device, &pool);
    let buffer = device.allocate(BYTES)?;
    let stream = device.stream()?;
    // Left to a device that does not say that it is done with the memory.
    let mut pool = Lent::new((pool, registered));
    let (start, _) = pool.0.memory();
    let start = start.as_ptr();
    // SAFETY: the pool is ours alone and no slab is taken; nothing is under way on the stream.
    let host = || unsafe { slice::from_raw_parts_mut(start, BYTES) };
    let pattern = |at: usize| (at / 7 % 251) as u8;
    (0..).zip(host().iter_mut()).for_each(|(at, byte)| *byte = pattern(at));
    // SAFETY: both sides are ours, of this size, and looked at after the wait of `timed` only.
    let up = || unsafe { stream.copy_in(buffer.address(), start, BYTES) };
    let up_gb_s = timed(&*stream, up).inspect_err(|_| pool.leave())?;
    host().fill(0);
    // SAFETY: as above.
    let down = || unsafe { stream.copy_out(start, buffer.address(), BYTES) };
    let down_gb_s = timed(&*stream, down).inspect_err(|_| pool.leave())?;
    if !(0..).zip(host().iter()).all(|(at, byte)| *byte == pattern(at)) {
        return Err(MeasureError::Wrong { device: device.name().into(), what: "copies come back changed" });
    }
    Ok(Copies { up_gb_s, down_gb_s, registered: pool.1.is_some() })
}

/// 10^9 bytes a second of a copy done over and over, once more before that is not timed.
fn timed(stream: &dyn Stream, copy: impl Fn() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
    let copied = copy().and_then(|()| {
        let before = stream.mark()?;
        (0..COPIES).try_for_each(|_| copy())?;
        Ok((before, stream.mark()?))
    });
    // Waited for also after an error, which leaves copies under way.
    stream.wait()?;
    let (before, after) = copied?;
    let seconds = f64::from(after.milliseconds_since(&*before)?) / 1000.0;
    Ok((COPIES * BYTES) as f64 / 1e9 / seconds)
}
