//! Streams of the shim: a thread each, which does its work in order.

use std::any::Any;
use std::ptr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::native::shim_launch;
use super::shared::{Fault, Shared};
use crate::device::launch::Launch;
use crate::device::{DeviceAddress, DeviceError, Mark, Stream};
use crate::interface::Kernel;

/// With a seed, work begins up to this much late.
const DELAY_LIMIT_US: u64 = 100;

/// A queue of work and the thread that does it.
pub struct ShimStream {
    shared: Arc<Shared>,
    /// None only while it is dropped.
    queue: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

/// Work of a stream.
enum Work {
    CopyIn { to: DeviceAddress, from: HostMemory, bytes: usize },
    CopyOut { to: HostMemory, from: DeviceAddress, bytes: usize, flip: Option<usize> },
    Launch { kernel: Kernel, grid: (u32, u32), launch: Launch, number: u64, lose: bool },
    Mark(Arc<Reached>),
}

/// An address on the host that the caller keeps good.
struct HostMemory(*mut u8);

// SAFETY: the promise of the stream's unsafe methods is that the memory stays good until the work is done.
unsafe impl Send for HostMemory {}

impl ShimStream {
    pub fn new(shared: &Arc<Shared>) -> Result<Self, DeviceError> {
        let (queue, works) = channel();
        let worker = Worker { shared: Arc::clone(shared), state: shared.options.schedule_seed.unwrap_or(0) };
        let thread =
            std::thread::Builder::new().name("shim-stream".to_owned()).spawn(move || worker.run(works));
        let thread = thread.map_err(|error| shared.refused(format!("no thread for a stream: {error}")))?;
        Ok(Self { shared: Arc::clone(shared), queue: Some(queue), thread: Some(thread) })
    }

    fn give(&self, work: Work) -> Result<(), DeviceError> {
        self.shared.check()?;
        self.queue(work)
    }

    fn new_mark(&self) -> Result<ShimMark, DeviceError> {
        let reached = Arc::new(Reached::default());
        self.queue(Work::Mark(Arc::clone(&reached)))?;
        Ok(ShimMark { shared: Arc::clone(&self.shared), reached })
    }

    fn queue(&self, work: Work) -> Result<(), DeviceError> {
        self.shared.memory.work_begins();
        let queue = self.queue.as_ref().expect("the queue goes with the stream");
        queue.send(work).map_err(|_| {
            self.shared.memory.work_ends();
            self.shared.refused("the stream's thread is gone".to_owned())
        })
    }
}

impl Stream for ShimStream {
    unsafe fn copy_in(&self, to: DeviceAddress, from: *const u8, bytes: usize) -> Result<(), DeviceError> {
        self.give(Work::CopyIn { to, from: HostMemory(from.cast_mut()), bytes })
    }

    unsafe fn copy_out(&self, to: *mut u8, from: DeviceAddress, bytes: usize) -> Result<(), DeviceError> {
        let number = self.shared.copies_out.next();
        let flip = self.shared.fault(|fault| match fault {
            Fault::FlipBit { copy_out, bit } if *copy_out == number => Some(*bit),
            _ => None,
        });
        self.give(Work::CopyOut { to: HostMemory(to), from, bytes, flip })
    }

    unsafe fn launch(&self, kernel: Kernel, grid: (u32, u32), args: &[u8]) -> Result<(), DeviceError> {
        let launch = Launch::new(&self.shared.layout, kernel, grid, args);
        let launch = launch.map_err(|reason| self.shared.refused(reason))?;
        let number = self.shared.launches.next();
        let asked = |wanted| self.shared.fault(|fault| (*fault == wanted).then_some(())).is_some();
        if asked(Fault::RefuseLaunch(number)) {
            return Err(self.shared.refused(format!("launch of {} refused by a test", kernel.name())));
        }
        self.give(Work::Launch { kernel, grid, launch, number, lose: asked(Fault::LoseAtLaunch(number)) })
    }

    fn mark(&self) -> Result<Box<dyn Mark>, DeviceError> {
        self.shared.check()?;
        Ok(Box::new(self.new_mark()?))
    }

    /// Of a lost device too: other work of the stream may still run.
    fn wait(&self) -> Result<(), DeviceError> {
        self.new_mark()?.wait()
    }
}

impl Drop for ShimStream {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// What a stream's thread has.
struct Worker {
    shared: Arc<Shared>,
    /// Of the drawn delays.
    state: u64,
}

impl Worker {
    fn run(mut self, works: Receiver<Work>) {
        for work in works {
            std::thread::sleep(self.delay());
            let gate = self.shared.gate.read().unwrap_or_else(PoisonError::into_inner);
            self.work(work);
            drop(gate);
            self.shared.memory.work_ends();
        }
    }

    /// None without a seed.
    fn delay(&mut self) -> Duration {
        if self.shared.options.schedule_seed.is_none() {
            return Duration::ZERO;
        }
        // Knuth's generator for 64 bits; its upper bits are the good ones.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros((self.state >> 33) % DELAY_LIMIT_US)
    }

    /// Once the device is lost only marks are still served, so that nobody waits for ever.
    fn work(&self, work: Work) {
        match work {
            Work::Mark(reached) => reached.set(),
            _ if self.shared.lost.get().is_some() => {}
            Work::CopyIn { to, from, bytes } => {
                if self.is_good(to, bytes) {
                    // SAFETY: the device's side was checked, the host's is the caller's promise.
                    unsafe { ptr::copy_nonoverlapping(from.0, device(to), bytes) };
                }
            }
            Work::CopyOut { to, from, bytes, flip } => {
                if self.is_good(from, bytes) {
                    // SAFETY: as above.
                    unsafe { ptr::copy_nonoverlapping(device(from), to.0, bytes) };
                    if let Some(bit) = flip.filter(|_| bytes > 0) {
                        // SAFETY: within the copy.
                        unsafe { *to.0.add(bit / 8 % bytes) ^= 1 << (bit % 8) };
                    }
                }
            }
            Work::Launch { kernel, lose: true, .. } => {
                self.shared.lose(format!("{} lost by a test", kernel.name()));
            }
            Work::Launch { kernel, grid, launch, number, .. } => self.launch(kernel, grid, &launch, number),
        }
    }

    fn launch(&self, kernel: Kernel, grid: (u32, u32), launch: &Launch, number: u64) {
        let options = &self.shared.options;
        // 0 would mean a fixed order.
        let seed = options.schedule_seed.map_or(0, |seed| seed.wrapping_add(number).max(1));
        let args = launch.argument().cast();
        // SAFETY: the argument has the kernel's size; the addresses in it are the caller's promise.
        let code =
            unsafe { shim_launch(options.k, kernel as u32, grid.0, grid.1, args, seed, options.os_threads) };
        match code {
            0 => {}
            2 => self.shared.lose(format!("{}: threads wait for each other for ever", kernel.name())),
            _ => self.shared.lose(format!("{}: refused by the shim with code {code}", kernel.name())),
        }
    }

    /// As on a card, touching what is not allocated loses the device.
    fn is_good(&self, address: DeviceAddress, bytes: usize) -> bool {
        let good = self.shared.memory.holds(address, bytes);
        if !good {
            self.shared.lose(format!("{bytes} bytes at {address:#x} are not allocated"));
        }
        good
    }
}

/// The allocation that an address lies in was exposed when it was made.
fn device(address: DeviceAddress) -> *mut u8 {
    ptr::with_exposed_provenance_mut(usize::try_from(address).expect("addresses of this host"))
}

/// When a mark was reached.
#[derive(Default)]
struct Reached {
    at: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Reached {
    fn set(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.changed.notify_all();
    }

    fn at(&self) -> Option<Instant> {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ShimMark {
    shared: Arc<Shared>,
    reached: Arc<Reached>,
}

impl Mark for ShimMark {
    fn is_reached(&self) -> Result<bool, DeviceError> {
        self.shared.check()?;
        Ok(self.reached.at().is_some())
    }

    fn wait(&self) -> Result<(), DeviceError> {
        let at = self.reached.at.lock().unwrap_or_else(PoisonError::into_inner);
        let at =
            self.reached.changed.wait_while(at, |at| at.is_none()).unwrap_or_else(PoisonError::into_inner);
        drop(at);
        self.shared.check()
    }

    fn milliseconds_since(&self, earlier: &dyn Mark) -> Result<f32, DeviceError> {
        let foreign = || self.shared.refused("time between marks of different devices".to_owned());
        let earlier = earlier.as_any().downcast_ref::<Self>().ok_or_else(foreign)?;
        if !Arc::ptr_eq(&earlier.shared, &self.shared) {
            return Err(foreign());
        }
        let early = || self.shared.refused("time of a mark that is not reached".to_owned());
        let (from, to) = (earlier.reached.at().ok_or_else(early)?, self.reached.at().ok_or_else(early)?);
        Ok(to.saturating_duration_since(from).as_secs_f32() * 1000.0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
