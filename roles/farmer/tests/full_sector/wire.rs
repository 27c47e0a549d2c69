//! What came over the wire, as the kernel counts it for each connection.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;

/// `tcpi_bytes_received` in the kernel's `struct tcp_info`, in words of 8 bytes.
const BYTES_RECEIVED_AT: usize = 16;

/// Connections of this process; each is held, so that its count outlives it.
#[derive(Default)]
pub struct Wire(HashMap<u64, OwnedFd>);

impl Wire {
    /// Takes note of new connections to `peer`.
    pub fn look(&mut self, peer: SocketAddr) {
        let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        for entry in fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap) {
            let Some(inode) = socket_inode(&entry.path()) else { continue };
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            if self.0.contains_key(&inode) {
                continue;
            }
            // It may be closed meanwhile, or another file by now.
            let Ok(socket) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else { continue };
            let connected_to = rustix::net::getpeername(&socket).ok().flatten();
            if connected_to.and_then(|address| SocketAddr::try_from(address).ok()) == Some(peer) {
                self.0.insert(inode, socket);
            }
        }
    }

    /// Connections noted so far.
    pub fn connections(&self) -> usize {
        self.0.len()
    }

    /// Bytes that have come over all of them.
    pub fn received_bytes(&self) -> u64 {
        self.0.values().map(received_bytes).sum()
    }
}

/// The inode of a socket, from the link in `/proc/self/fd`.
fn socket_inode(link: &std::path::Path) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn received_bytes(socket: &OwnedFd) -> u64 {
    let mut info = [0u64; 32];
    let mut bytes = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes into `info`, which has as many and takes any.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    assert!(result == 0 && bytes as usize >= (BYTES_RECEIVED_AT + 1) * 8, "TCP_INFO of {bytes} bytes");
    info[BYTES_RECEIVED_AT]
}
