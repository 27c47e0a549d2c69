//! Ciphertext that waits for the socket, at the front of a buffer that only grows.

use rustls::unbuffered::{EncodeError, InsufficientSizeError};

/// What is to be sent, in order.
#[derive(Debug, Default)]
pub struct Outgoing {
    buffer: Vec<u8>,
    used: usize,
}

impl Outgoing {
    /// The next `bytes` bytes to be written, all of them.
    pub fn room(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.used;
        self.used += bytes;
        if self.buffer.len() < self.used {
            self.buffer.resize(self.used, 0);
        }
        &mut self.buffer[start..self.used]
    }

    /// Lets rustls append, with more room on its demand.
    pub(super) fn encode(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), EncodeError> {
        loop {
            match write(&mut self.buffer[self.used..]) {
                Ok(count) => {
                    self.used += count;
                    return Ok(());
                }
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                    self.buffer.resize(self.used + required_size, 0);
                }
                Err(error @ EncodeError::AlreadyEncoded) => return Err(error),
            }
        }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.used
    }

    /// Exchanges `buffer`, whose content is spent, for what waits; returns its length.
    pub fn take(&mut self, buffer: &mut Vec<u8>) -> usize {
        std::mem::swap(&mut self.buffer, buffer);
        std::mem::take(&mut self.used)
    }
}
