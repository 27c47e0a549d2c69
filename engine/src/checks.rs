//! What must hold before any executor starts: io_uring allowed, memory lockable. Says what to change, never changes more
//! than this process's own limit.

use crate::ring::{RING_BYTES, RingError};
use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory each executor of glommio locks: three rings register its smallest buffer of 64 KiB.
const GLOMMIO_LOCKED_BYTES: u64 = 3 * 64 * 1024;
/// glommio starts under no smaller limit, whoever runs it.
const GLOMMIO_LEAST_LIMIT_BYTES: u64 = 512 * 1024;
/// Bit of CAP_IPC_LOCK in a capability set.
const CAP_IPC_LOCK: u32 = 14;

/// Bytes of memory that `executors` executors lock over a pool of `pool_bytes`: each counts the pool again. The rings of disks
/// share what their executor has locked; on kernels before 6.12 each of them counts like an executor.
pub fn locked_bytes(executors: usize, pool_bytes: usize) -> u64 {
    executors as u64 * (pool_bytes as u64 + GLOMMIO_LOCKED_BYTES + RING_BYTES)
}

/// Whether this process may use io_uring, with every operation the engine and glommio need.
pub fn check_io_uring() -> Result<(), RingError> {
    let ring = IoUring::new(2).map_err(RingError::from_setup)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(RingError::from_setup)?;
    let needed = [
        ("READ_FIXED", opcode::ReadFixed::CODE),
        ("WRITE_FIXED", opcode::WriteFixed::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("FALLOCATE", opcode::Fallocate::CODE),
        ("READ", opcode::Read::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("TIMEOUT", opcode::Timeout::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("CONNECT", opcode::Connect::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("RECVMSG", opcode::RecvMsg::CODE),
        ("STATX", opcode::Statx::CODE),
        ("CLOSE", opcode::Close::CODE),
    ];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((name, _)) => Err(RingError::Forbidden {
            reason: format!(
                "the kernel lacks the operation {name}; Linux 5.8 or newer is needed, 6.0 is better"
            ),
        }),
    }
}

/// Whether `needed_bytes` can be locked. Raises this process's soft limit as far as it may.
pub fn check_memlock(needed_bytes: u64) -> Result<(), RingError> {
    let privileged = has_cap_ipc_lock();
    let needed_bytes =
        if privileged { GLOMMIO_LEAST_LIMIT_BYTES } else { needed_bytes.max(GLOMMIO_LEAST_LIMIT_BYTES) };
    let enough = |limit: Rlimit| limit.current.is_none_or(|bytes| bytes >= needed_bytes);
    let limit = getrlimit(Resource::Memlock);
    if enough(limit) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|bytes| bytes.max(needed_bytes));
    // The soft limit may always rise to the hard one; the hard one rises for root only.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum })
        .or_else(|_| setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, maximum: limit.maximum }));
    if enough(getrlimit(Resource::Memlock)) { Ok(()) } else { Err(RingError::Memlock { needed_bytes }) }
}

fn has_cap_ipc_lock() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_allows_io_uring() {
        check_io_uring().unwrap();
    }

    #[test]
    fn every_executor_counts_the_pool_again() {
        assert_eq!(locked_bytes(2, 1 << 30), 2 * ((1 << 30) + 196_608 + 524_288));
    }
}
