//! Hosts that forbid what the engine needs: a child of this very test program is confined, and says why it cannot start.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

use engine::pool::Pool;
use engine::{Executors, ExecutorsConfig, Limits};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const CHILD: &str = "ENGINE_START_CHECK_CHILD";

/// Runs as the child only: tries to start an executor over a pool of one slab.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let pool = Pool::new(1, 1).unwrap();
    let config = ExecutorsConfig { name: "child".into(), cores: vec![None], ring_depth: 8 };
    match Executors::start(&config, &pool) {
        Ok(executors) => {
            let disks = executors.spawner(0).spawn(|local| async move {
                let all: Vec<_> = (0..3).map(|_| local.disk(Path::new("/"), Limits::default())).collect();
                all.into_iter().find_map(|disk| disk.err().map(|error| error.to_string()))
            });
            println!("DISKS {}", disks.wait().unwrap().unwrap_or_default());
            executors.shutdown(Duration::from_secs(10)).unwrap();
            println!("STARTED");
        }
        Err(error) => println!("REFUSED {error}"),
    }
}

/// What the child says when `confine` ran in it before it started.
fn child_under(confine: fn() -> std::io::Result<()>) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, "1");
    // SAFETY: `confine` makes system calls only; it neither allocates nor takes locks between fork and exec.
    unsafe { command.pre_exec(confine) };
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn check(result: libc::c_long) -> std::io::Result<()> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes CAP_IPC_LOCK and CAP_SYS_RESOURCE from what the child gets at exec; one without them has nothing to lose.
fn drop_privileges() {
    for capability in [14, 24] {
        // SAFETY: a call with plain numbers.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

fn limit_memlock(bytes: libc::rlim_t) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the structure lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }.into())
}

/// Makes the system call `number` fail with `errno` from now on.
fn deny(number: libc::c_long, errno: i32) -> std::io::Result<()> {
    let code = |code: u32| u16::try_from(code).expect("BPF codes are small");
    let line = |op, jt, jf, k| libc::sock_filter { code: code(op), jt, jf, k };
    let program = [
        line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        line(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            u32::try_from(number).expect("call numbers are small"),
        ),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_ptr().cast_mut() };
    // SAFETY: program and filter live through the calls, which copy them.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter).into())
    }
}

#[test]
fn an_unconfined_child_starts() {
    let said = child_under(|| Ok(()));
    assert!(said.contains("STARTED"), "{said}");
}

#[test]
fn a_small_memlock_limit_is_named_with_the_bytes_needed() {
    let said = child_under(|| {
        drop_privileges();
        limit_memlock(1 << 20)
    });
    let needed = engine::checks::locked_bytes(1, 2 << 20).to_string();
    for word in ["REFUSED", "LimitMEMLOCK", "ulimit -l", &needed] {
        assert!(said.contains(word), "{word} is missing in: {said}");
    }
}

#[test]
fn enough_memlock_starts_without_privilege() {
    let said = child_under(|| {
        drop_privileges();
        limit_memlock(4 << 20)
    });
    assert!(said.contains("STARTED"), "{said}");
    // Rings of disks lock nothing more where the kernel can share what is locked; elsewhere each names what it needs.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split('.').take(2).map_while(|number| number.parse().ok()).collect();
    let word = if numbers >= vec![6, 12] { "DISKS \n" } else { "ulimit -l" };
    assert!(said.contains(word), "{word} is missing in: {said}");
}

#[test]
fn a_seccomp_filter_is_named() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let said = if errno == libc::EPERM {
            child_under(|| deny(libc::SYS_io_uring_setup, libc::EPERM))
        } else {
            child_under(|| deny(libc::SYS_io_uring_setup, libc::ENOSYS))
        };
        for word in ["REFUSED", "io_uring is forbidden", "seccomp"] {
            assert!(said.contains(word), "{word} is missing in: {said}");
        }
    }
}
