//! One card's context: made current before each call, and closed to all calls once the card is lost.

use std::sync::OnceLock;

use cudarc::driver::{DriverError, result, sys};

use super::cards::Card;
use super::driver::{describe, driver_present, is_fatal};
use super::wait::{ANSWER_LIMIT, wait};
use crate::device::{DeviceError, DeviceMemory};

/// The primary context of a card.
///
/// Once the card is lost nothing is given back to the driver any more: it would fail or, on a card that hangs, never return.
pub(super) struct Context {
    name: String,
    device: sys::CUdevice,
    context: sys::CUcontext,
    lost: OnceLock<String>,
}

// SAFETY: the driver's calls may come from any thread; the handles are only numbers to us and are not changed after `open`.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Takes a card into use.
    pub fn open(card: &Card) -> Result<Self, DeviceError> {
        let name = card.to_string();
        let refused = |reason: String| DeviceError::Refused { device: name.clone(), reason };
        if !driver_present() {
            return Err(refused(super::cards::NoCards::NoDriver.to_string()));
        }
        card.check().map_err(|error| refused(error.to_string()))?;
        let failed = |error| refused(format!("cannot be taken into use: {}", describe(error)));
        result::init().map_err(failed)?;
        let device = result::device::get(card.ordinal).map_err(failed)?;
        // SAFETY: `device` is of the driver; `drop` gives the context back once.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed)?;
        Ok(Self { name, device, context, lost: OnceLock::new() })
    }

    /// Model and PCI address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the context this thread's, which costs some tens of nanoseconds; fails once the card is lost.
    pub fn enter(&self) -> Result<(), DeviceError> {
        if let Some(reason) = self.lost.get() {
            return Err(DeviceError::Lost { device: self.name.clone(), reason: reason.clone() });
        }
        // SAFETY: the context lives as long as `self`.
        self.check(unsafe { result::ctx::set_current(self.context) })
    }

    /// Gives a call's error its meaning.
    pub fn check<T>(&self, outcome: Result<T, DriverError>) -> Result<T, DeviceError> {
        outcome.map_err(|error| {
            if is_fatal(error) { self.lose(describe(error)) } else { self.refused(describe(error)) }
        })
    }

    /// The same for a call that takes memory.
    pub fn check_memory<T>(&self, bytes: usize, outcome: Result<T, DriverError>) -> Result<T, DeviceError> {
        match outcome {
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Err(DeviceError::Memory { device: self.name.clone(), bytes })
            }
            other => self.check(other),
        }
    }

    /// Waits until a query of the driver says that work is done.
    pub fn wait(&self, query: impl Fn() -> Result<(), DriverError>) -> Result<(), DeviceError> {
        self.enter()?;
        if wait(ANSWER_LIMIT, || self.reached(query()))? {
            return Ok(());
        }
        Err(self.lose(format!("no answer for {} s", ANSWER_LIMIT.as_secs())))
    }

    /// What a query's outcome says.
    pub fn reached(&self, outcome: Result<(), DriverError>) -> Result<bool, DeviceError> {
        match outcome {
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            other => self.check(other).map(|()| true),
        }
    }

    /// An error after which the card goes on.
    pub fn refused(&self, reason: String) -> DeviceError {
        DeviceError::Refused { device: self.name.clone(), reason }
    }

    /// Bytes free and in all.
    pub fn memory(&self) -> Result<DeviceMemory, DeviceError> {
        self.enter()?;
        let (free_bytes, total_bytes) = self.check(result::mem_get_info())?;
        Ok(DeviceMemory { free_bytes, total_bytes })
    }

    /// Gives something back to the driver, unless the card is lost.
    pub fn give_back(&self, what: &str, call: impl FnOnce() -> Result<(), DriverError>) {
        let outcome = self.enter().and_then(|()| self.check(call()));
        if let (Err(error), None) = (outcome, self.lost.get()) {
            tracing::warn!(%error, what, "not given back to the driver");
        }
    }

    /// Closes the card to all calls; the first reason stays.
    fn lose(&self, reason: String) -> DeviceError {
        let reason = self.lost.get_or_init(|| reason).clone();
        DeviceError::Lost { device: self.name.clone(), reason }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`; all that was made in it holds an `Arc` of it and is gone.
        self.give_back("context", || unsafe { result::primary_ctx::release(self.device) });
    }
}
