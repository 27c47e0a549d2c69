//! The seam between the protocol and whoever owns the memory.
//!
//! A payload is a run of bytes that may lie in several places: a piece comes to rest with its record on a
//! 4096 boundary and its commitment and witness in front of it, a sector range may straddle two buffers.
//! The protocol only ever asks "which memory holds the bytes from here on", so nothing is copied to join them.

/// Memory of one payload, in the order of the wire.
pub trait PayloadBuf {
    /// Bytes of the payload.
    fn len(&self) -> usize;
    /// Contiguous bytes that begin at `offset`; empty only at the end.
    fn chunk(&self, offset: usize) -> &[u8];
    /// The same, to be filled from the wire.
    fn chunk_mut(&mut self, offset: usize) -> &mut [u8];

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// BLAKE3 of the bytes.
    fn blake3(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < self.len() {
            let chunk = self.chunk(at);
            hasher.update(chunk);
            at += chunk.len();
        }
        hasher.finalize().into()
    }
}

impl PayloadBuf for Vec<u8> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn chunk(&self, offset: usize) -> &[u8] {
        &self[offset..]
    }

    fn chunk_mut(&mut self, offset: usize) -> &mut [u8] {
        &mut self[offset..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes in two places.
    struct Halves(Vec<u8>, Vec<u8>);

    impl PayloadBuf for Halves {
        fn len(&self) -> usize {
            self.0.len() + self.1.len()
        }

        fn chunk(&self, offset: usize) -> &[u8] {
            offset.checked_sub(self.0.len()).map_or_else(|| &self.0[offset..], |rest| &self.1[rest..])
        }

        fn chunk_mut(&mut self, offset: usize) -> &mut [u8] {
            match offset.checked_sub(self.0.len()) {
                None => &mut self.0[offset..],
                Some(rest) => &mut self.1[rest..],
            }
        }
    }

    #[test]
    fn hash_does_not_depend_on_where_the_bytes_lie() {
        let bytes: Vec<u8> = (0..100).collect();
        let halves = Halves(bytes[..33].to_vec(), bytes[33..].to_vec());
        assert_eq!(halves.blake3(), bytes.blake3());
        assert_eq!(halves.blake3(), *blake3::hash(&bytes).as_bytes());
    }
}
