//! Hosts that forbid what the engine needs, and folders that may not be written to.

use crate::cluster::{self, info};
use crate::farm::make;
use crate::process::{contents, farmer, member, misunderstood, refused};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
const CAP_IPC_LOCK: libc::c_ulong = 14;
const CAP_SYS_RESOURCE: libc::c_ulong = 24;

/// The command under what `confine` does in its process before it starts.
fn under(mut command: Command, confine: fn() -> io::Result<()>) -> Command {
    // SAFETY: `confine` makes system calls only; it neither allocates nor takes locks between fork and exec.
    unsafe { command.pre_exec(confine) };
    command
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a capability from what the child gets at exec; one without it has nothing to lose.
fn drop_capability(capability: libc::c_ulong) {
    // SAFETY: a call with plain numbers.
    unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
}

fn no_superuser() -> io::Result<()> {
    [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH].into_iter().for_each(drop_capability);
    Ok(())
}

fn little_memlock() -> io::Result<()> {
    [CAP_IPC_LOCK, CAP_SYS_RESOURCE].into_iter().for_each(drop_capability);
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: the structure lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }.into())
}

/// Makes io_uring_setup fail from now on, as the default profiles of containers do.
fn no_io_uring() -> io::Result<()> {
    let line = |op: u32, jt, jf, k| libc::sock_filter { code: op as u16, jt, jf, k };
    let program = [
        line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_ptr().cast_mut() };
    // SAFETY: program and filter live through the calls, which copy them.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter).into())
    }
}

fn scrub(farm: &Path) -> Command {
    let mut command = farmer();
    command.arg("scrub").arg(farm);
    command
}

fn farm_line(farm: &Path) -> String {
    format!("path={},sectors=3", farm.display())
}

fn plot_client(nats_url: &str, farm: &Path) -> Command {
    let address = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    let line = ["plot-client", "--exit-on-farm-error", "--reward-address", address, &farm_line(farm)];
    member(nats_url, &line)
}

#[tokio::test]
async fn hosts_that_forbid_what_is_needed_are_told_what_to_allow() {
    let (folder, (nats, _bus)) = (tempfile::tempdir().unwrap(), cluster::start(&info()).await);
    let farm = folder.path().join("farm");
    make(&farm);
    let before = contents(&farm);
    let plot_client = || plot_client(&nats.url(), &farm);
    for command in [scrub(&farm), plot_client()] {
        refused(&mut under(command, little_memlock), &["LimitMEMLOCK", "ulimit -l"]);
    }
    for command in [scrub(&farm), plot_client()] {
        refused(&mut under(command, no_io_uring), &["io_uring is forbidden", "seccomp"]);
    }
    assert!(contents(&farm) == before);
}

#[tokio::test]
async fn folders_that_may_not_be_written_to_are_named() {
    let (folder, (nats, _bus)) = (tempfile::tempdir().unwrap(), cluster::start(&info()).await);
    let (farm, locked) = (folder.path().join("farm"), folder.path().join("locked"));
    make(&farm);
    fs::create_dir(&locked).unwrap();
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(&locked, 0o555);
    let new = locked.join("new");
    let (name, hint) = (new.to_str().unwrap(), "owner");
    refused(&mut under(plot_client(&nats.url(), &new), no_superuser), &[name, hint]);
    let cache = format!("path={name}");
    refused(&mut under(member(&nats.url(), &["sharded-cache", &cache]), no_superuser), &[name, hint]);
    refused(
        &mut under(member(&nats.url(), &["plot-server", "--cpu", name]), no_superuser),
        &[name, "may write"],
    );
    assert!(contents(&locked).is_empty());
    // A farm whose files are another user's.
    let before = contents(&farm);
    for file in before.keys() {
        allow(file, 0o444);
    }
    refused(&mut under(plot_client(&nats.url(), &farm), no_superuser), &[farm.to_str().unwrap(), hint]);
    assert!(contents(&farm) == before);
    allow(&locked, 0o755);
}

#[tokio::test]
async fn paths_that_cannot_be_are_named() {
    let (folder, (nats, _bus)) = (tempfile::tempdir().unwrap(), cluster::start(&info()).await);
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    for path in [file.join("below"), "/proc/below".into()] {
        let name = path.to_str().unwrap();
        refused(&mut plot_client(&nats.url(), &path), &[name]);
        refused(&mut member(&nats.url(), &["sharded-cache", &format!("path={name}")]), &[name]);
        refused(&mut member(&nats.url(), &["plot-server", "--cpu", name]), &[name]);
        refused(&mut scrub(&path), &[name]);
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[tokio::test]
async fn too_little_memory_for_any_sector_is_told_before_it_is_taken() {
    let (folder, (nats, _bus)) = (tempfile::tempdir().unwrap(), cluster::start(&info()).await);
    let base_path = folder.path().join("base");
    let line = ["plot-server", "--cpu", "--max-memory", "100MiB", base_path.to_str().unwrap()];
    refused(&mut member(&nats.url(), &line), &["100 MiB", "2 pieces", "raise --max-memory"]);
    let line = ["plot-server", "--cpu", "--max-memory", "much", base_path.to_str().unwrap()];
    misunderstood(&mut member(&nats.url(), &line), &["--max-memory", "much"]);
}
