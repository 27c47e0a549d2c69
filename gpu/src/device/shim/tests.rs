use super::buffer::FRESH;
use super::*;
use crate::device::Mark;
use crate::interface::{Kernel, RecordArgs};

const MEMORY_BYTES: usize = 64 << 20;

fn device(schedule_seed: Option<u64>, os_threads: u32) -> ShimDevice {
    ShimDevice::new(ShimOptions { k: 16, schedule_seed, os_threads, memory_bytes: MEMORY_BYTES }).unwrap()
}

fn copy_in(stream: &dyn Stream, to: u64, from: &[u8]) {
    // SAFETY: tests wait before they touch or drop what they copy.
    unsafe { stream.copy_in(to, from.as_ptr(), from.len()) }.unwrap();
}

fn copy_out(stream: &dyn Stream, to: &mut [u8], from: u64) {
    // SAFETY: as above.
    unsafe { stream.copy_out(to.as_mut_ptr(), from, to.len()) }.unwrap();
}

/// Launches the kernel that fills the table of roots.
fn launch(device: &ShimDevice, stream: &dyn Stream, roots: &dyn DeviceBuffer) -> Result<(), DeviceError> {
    let numbers = [0, 0, 0, roots.address()];
    assert_eq!(size_of_val(&numbers), size_of::<RecordArgs>());
    let args: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
    let (blocks, _) = device.layout().grid(Kernel::PrepareRoots);
    // SAFETY: the kernel writes the table alone, which the caller keeps.
    unsafe { stream.launch(Kernel::PrepareRoots, (blocks, 1), &args) }
}

fn roots(schedule_seed: Option<u64>, os_threads: u32) -> Vec<u8> {
    let device = device(schedule_seed, os_threads);
    let table = device.allocate(device.layout().roots_bytes).unwrap();
    let stream = device.stream().unwrap();
    launch(&device, &*stream, &*table).unwrap();
    let mut bytes = vec![0; table.size_bytes()];
    copy_out(&*stream, &mut bytes, table.address());
    stream.wait().unwrap();
    bytes
}

#[test]
fn kernels_run_in_any_order_to_the_same_end() {
    let fixed = roots(None, 1);
    assert!(fixed.iter().any(|&byte| byte != FRESH));
    assert_eq!(fixed, roots(Some(7), 1));
    assert_eq!(fixed, roots(Some(8), 2));
}

#[test]
fn work_of_a_stream_is_done_in_order() {
    let device = device(Some(1), 1);
    let buffer = device.allocate(1 << 20).unwrap();
    let stream = device.stream().unwrap();
    let (first, second) = (vec![1; 1 << 20], vec![2; 1 << 19]);
    let (mut before, mut after) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    copy_in(&*stream, buffer.address(), &first);
    copy_out(&*stream, &mut before, buffer.address());
    copy_in(&*stream, buffer.address() + (1 << 19), &second);
    copy_out(&*stream, &mut after, buffer.address());
    stream.wait().unwrap();
    assert!(before == first && after[..1 << 19] == first[1 << 19..] && after[1 << 19..] == second);
}

#[test]
fn nothing_is_done_before_its_turn() {
    let device = device(None, 1);
    let buffer = device.allocate(4).unwrap();
    let stream = device.stream().unwrap();
    let (mut source, mut target) = (vec![1; 4], vec![0; 4]);
    let pause = device.pause();
    let start = stream.mark().unwrap();
    copy_in(&*stream, buffer.address(), &source);
    copy_out(&*stream, &mut target, buffer.address());
    let end = stream.mark().unwrap();
    source.fill(9);
    assert!(target == [0; 4] && !end.is_reached().unwrap());
    assert!(end.milliseconds_since(&*start).is_err(), "not reached");
    drop(pause);
    end.wait().unwrap();
    assert_eq!(target, [9; 4], "copied as it was when the copy's turn came");
    assert!(end.is_reached().unwrap() && end.milliseconds_since(&*start).unwrap() >= 0.0);
}

#[test]
fn marks_of_other_devices_have_no_time() {
    let marks = [device(None, 1), device(None, 1)].map(|device| {
        let mark = device.stream().unwrap().mark().unwrap();
        mark.wait().unwrap();
        mark
    });
    let [one, other]: [Box<dyn Mark>; 2] = marks;
    assert!(matches!(one.milliseconds_since(&*other), Err(DeviceError::Refused { .. })));
}

#[test]
fn memory_has_a_limit_and_comes_back() {
    let device = device(None, 1);
    let half = device.allocate(MEMORY_BYTES / 2).unwrap();
    assert_eq!(half.address() % 256, 0);
    let error = device.allocate(MEMORY_BYTES / 2 + 1).err().unwrap();
    assert!(matches!(error, DeviceError::Memory { bytes, .. } if bytes == MEMORY_BYTES / 2 + 1));
    assert!(matches!(device.allocate(usize::MAX), Err(DeviceError::Memory { .. })));
    assert!(matches!(device.allocate(0), Err(DeviceError::Refused { .. })));
    assert_eq!(device.memory().unwrap().free_bytes, MEMORY_BYTES / 2);
    drop(half);
    assert_eq!(
        device.memory().unwrap(),
        DeviceMemory { free_bytes: MEMORY_BYTES, total_bytes: MEMORY_BYTES }
    );
}

#[test]
fn fresh_memory_is_not_zero() {
    let device = device(None, 1);
    let buffer = device.allocate(1000).unwrap();
    let stream = device.stream().unwrap();
    let mut bytes = vec![0; 1000];
    copy_out(&*stream, &mut bytes, buffer.address());
    stream.wait().unwrap();
    assert_eq!(bytes, [FRESH; 1000]);
}

#[test]
fn a_lost_device_stays_lost() {
    let device = device(None, 1);
    let table = device.allocate(device.layout().roots_bytes).unwrap();
    let (stream, other) = (device.stream().unwrap(), device.stream().unwrap());
    device.inject(Fault::LoseAtLaunch(2));
    launch(&device, &*stream, &*table).unwrap();
    stream.wait().unwrap();
    let pause = device.pause();
    launch(&device, &*stream, &*table).unwrap();
    let mark = stream.mark().unwrap();
    drop(pause);
    let lost = |outcome: Result<(), DeviceError>| matches!(outcome, Err(DeviceError::Lost { .. }));
    assert!(lost(mark.wait()) && lost(stream.wait()) && lost(other.wait()));
    assert!(lost(launch(&device, &*other, &*table)));
    assert!(lost(device.allocate(1).map(|_| ())) && lost(device.stream().map(|_| ())));
    assert!(lost(mark.is_reached().map(|_| ())) && lost(device.memory().map(|_| ())));
}

#[test]
fn a_refused_launch_is_the_only_one() {
    let device = device(None, 1);
    let table = device.allocate(device.layout().roots_bytes).unwrap();
    let stream = device.stream().unwrap();
    launch(&device, &*stream, &*table).unwrap();
    device.inject(Fault::RefuseLaunch(2));
    launch(&device, &*stream, &*table).unwrap();
    assert!(matches!(launch(&device, &*stream, &*table), Err(DeviceError::Refused { .. })));
    launch(&device, &*stream, &*table).unwrap();
    stream.wait().unwrap();
}

#[test]
fn one_bit_of_one_copy_is_flipped() {
    let device = device(None, 1);
    let buffer = device.allocate(16).unwrap();
    let stream = device.stream().unwrap();
    device.inject(Fault::FlipBit { copy_out: 2, bit: 8 * 16 + 12 });
    let mut copies = [[0; 16]; 3];
    for copy in &mut copies {
        copy_out(&*stream, copy, buffer.address());
    }
    stream.wait().unwrap();
    let mut flipped = [FRESH; 16];
    flipped[1] ^= 1 << 4;
    assert_eq!(copies, [[FRESH; 16], flipped, [FRESH; 16]]);
}

#[test]
fn a_copy_beyond_an_allocation_loses_the_device() {
    for (offset, bytes) in [(0_u64, 17), (8, 9), (u64::MAX, 1), (1 << 40, 1)] {
        let device = device(None, 1);
        let buffer = device.allocate(16).unwrap();
        let stream = device.stream().unwrap();
        let (mut all, mut beyond) = ([0; 16], vec![0; bytes]);
        copy_out(&*stream, &mut all, buffer.address());
        stream.wait().unwrap();
        copy_out(&*stream, &mut beyond, buffer.address().wrapping_add(offset));
        assert!(matches!(stream.wait(), Err(DeviceError::Lost { .. })), "{offset} {bytes}");
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let options = ShimOptions { k: 17, schedule_seed: None, os_threads: 1, memory_bytes: 1 };
    assert_eq!(ShimDevice::new(options).unwrap().layout().k, 17);
    for options in [
        ShimOptions { k: 15, ..options },
        ShimOptions { os_threads: 0, ..options },
        ShimOptions { os_threads: 65, ..options },
    ] {
        assert!(matches!(ShimDevice::new(options), Err(DeviceError::Refused { .. })), "{options:?}");
    }
}
