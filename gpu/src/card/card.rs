//! One device that encodes: what its feeder, its sessions and its inspectors share.
//!
//! Owns: whether it is in service. Never: takes it back once it is out.

use super::access::Access;
use super::budget::Budget;
use super::pipeline::Module;
use super::place::Place;
use super::rooms::Rooms;
use crate::CardStats;
use crate::meter::Meter;
use crate::queue::Queue;
use crate::session::EncodeJob;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A device in use.
pub(super) struct Card {
    pub number: usize,
    pub module: Arc<Module>,
    pub budget: Budget,
    /// Pieces of its sessions.
    pub queue: Arc<Queue<u64, EncodeJob<Place>>>,
    pub meter: Meter,
    pub access: Mutex<Access>,
    pub rooms: Arc<Rooms>,
    pub in_service: AtomicBool,
    /// Sectors put out.
    pub sectors: AtomicU64,
}

impl Card {
    /// Whether what it says is to be trusted.
    pub fn is_in_service(&self) -> bool {
        // Acquire: whoever reads false also sees what led to it.
        self.in_service.load(Ordering::Acquire)
    }

    pub fn stats(&self) -> CardStats {
        CardStats {
            name: self.module.device.name().into(),
            in_service: self.is_in_service(),
            sectors: self.sectors.load(Ordering::Relaxed),
            worker: self.meter.stats(),
        }
    }

    /// Takes the device out of service, with all sessions on it: their pieces are dropped, and none of their sectors will be finished.
    pub fn retire(&self, why: impl Display) {
        if self.in_service.swap(false, Ordering::AcqRel) {
            let device = self.module.device.name();
            tracing::error!("{device} is out of service, its sectors must be made again: {why}");
        }
        self.stop();
    }

    /// Drops what waits, and takes nothing more.
    pub fn stop(&self) {
        self.rooms.retire(self.number);
        self.queue.close();
    }
}
