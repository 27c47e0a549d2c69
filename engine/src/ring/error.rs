//! Why a ring could not be made, and what to do about it.

use std::io;

/// What the queues of one ring lock on kernels before 5.12.
pub(crate) const RING_BYTES: u64 = 512 * 1024;

/// Why a ring could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The process may not use io_uring.
    #[error("io_uring is forbidden here: {reason}")]
    Forbidden {
        /// Who forbids it, and what to change.
        reason: String,
    },
    /// The pool's memory could not be pinned.
    #[error(
        "the locked-memory limit is too small: {needed_bytes} bytes are needed; set LimitMEMLOCK=infinity in the systemd \
         unit, or `ulimit -l unlimited` (container: --ulimit memlock=-1), or give less buffer memory"
    )]
    Memlock {
        /// Bytes to be locked.
        needed_bytes: u64,
    },
    /// Anything else.
    #[error("cannot set up io_uring: {source}")]
    Setup {
        /// The system's answer.
        source: io::Error,
    },
}

impl RingError {
    pub(crate) fn from_setup(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
                Self::Forbidden { reason: why_forbidden(&source) }
            }
            Some(libc::ENOMEM) => Self::Memlock { needed_bytes: RING_BYTES },
            _ => Self::Setup { source },
        }
    }
}

/// Who refuses io_uring, as far as one can see from here, and what to do about it.
fn why_forbidden(error: &io::Error) -> String {
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    explain(error, switch.trim())
}

fn explain(error: &io::Error, switch: &str) -> String {
    match switch {
        "1" => "kernel.io_uring_disabled is 1: set it to 0 (sysctl -w kernel.io_uring_disabled=0), or put the user into the \
                group of kernel.io_uring_group"
            .into(),
        "2" => "kernel.io_uring_disabled is 2: set it to 0 (sysctl -w kernel.io_uring_disabled=0)".into(),
        _ => format!(
            "{error}; a seccomp filter denies io_uring_setup (Docker's and Podman's default profiles do: run with \
             --security-opt seccomp=unconfined or a profile that allows io_uring_setup, io_uring_enter and \
             io_uring_register), or the kernel is older than 5.8"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_of_the_kernel_is_named() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        assert!(explain(&refused, "2").contains("kernel.io_uring_disabled=0"));
        assert!(explain(&refused, "1").contains("kernel.io_uring_group"));
        assert!(explain(&refused, "0").contains("seccomp"));
    }
}
