//! Which session has the memory of which device.
//!
//! Owns: areas that are free, and the order in which sessions get them. Never: what they are used for.

use super::area::Area;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

/// Areas of all devices. Sessions wait in the order of asking; each gets one on the device that has most left.
pub(super) struct Rooms {
    /// A permit for each free area, and some for areas that went out of service.
    free: Semaphore,
    state: Mutex<State>,
}

struct State {
    devices: Vec<DeviceRooms>,
    stopped: bool,
}

struct DeviceRooms {
    areas: Vec<Area>,
    leased: usize,
    in_service: bool,
}

/// Why there will be no area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    Stopped,
    OutOfService,
}

/// An area for as long as this lives.
pub(super) struct Lease {
    area: Option<Area>,
    device: usize,
    home: Arc<Rooms>,
}

impl Rooms {
    /// Of the areas of each device.
    pub fn new(areas: Vec<Vec<Area>>) -> Arc<Self> {
        let free = Semaphore::new(areas.iter().map(Vec::len).sum());
        let devices = areas.into_iter().map(|areas| DeviceRooms { areas, leased: 0, in_service: true });
        Arc::new(Self { free, state: Mutex::new(State { devices: devices.collect(), stopped: false }) })
    }

    /// Waits for an area. Dropping the future gives the place up.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, NoRoom> {
        loop {
            match self.free.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) if self.lock().stopped => return Err(NoRoom::Stopped),
                Err(_) => return Err(NoRoom::OutOfService),
            }
            // None where the permit is one of a device that went out of service meanwhile.
            if let Some((device, area)) = self.lock().take() {
                return Ok(Lease { area: Some(area), device, home: self.clone() });
            }
        }
    }

    /// Areas of a device that sessions have.
    pub fn leased(&self, device: usize) -> usize {
        self.lock().devices[device].leased
    }

    /// Gives out no area of a device any more.
    pub fn retire(&self, device: usize) {
        let mut state = self.lock();
        state.devices[device].in_service = false;
        let areas = std::mem::take(&mut state.devices[device].areas);
        let none_left = state.devices.iter().all(|device| !device.in_service);
        drop(state);
        drop(areas);
        if none_left {
            self.free.close();
        }
    }

    /// Gives out nothing any more.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.free.close();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock of the areas")
    }
}

impl State {
    fn take(&mut self) -> Option<(usize, Area)> {
        let with_most =
            self.devices.iter_mut().enumerate().rev().max_by_key(|(_, device)| device.areas.len());
        let (number, device) = with_most?;
        let area = device.areas.pop()?;
        device.leased += 1;
        Some((number, area))
    }
}

impl Lease {
    pub fn area(&self) -> &Area {
        self.area.as_ref().expect("only drop takes the area")
    }

    /// Which device it is on.
    pub fn device(&self) -> usize {
        self.device
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.home.lock();
        let device = &mut state.devices[self.device];
        device.leased -= 1;
        if !device.in_service {
            drop(state);
            return;
        }
        device.areas.extend(self.area.take());
        drop(state);
        self.home.free.add_permits(1);
    }
}
