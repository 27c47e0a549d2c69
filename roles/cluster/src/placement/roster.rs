//! Who of the cluster runs on this host: a folder with a file for each process, which holds a lock on it for as long as it lives.
//!
//! Owns: the own file, and what the others' say. Never: what follows from it. Files are not removed: one that nobody locks is nobody's, and
//! the next process of that role and number takes it. A killed process loses its lock with its last breath.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, OFlags, access};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use topology::placement::{INSTANCE_LIMIT, Member};
use topology::{Cpus, Role};

/// Most bytes of a file that are read: a list of all CPUs and sixteen GPUs takes a few KiB.
const ENTRY_LIMIT_BYTES: u64 = 64 << 10;
/// Whoever looks at the roster locks a file for a moment, to see whether it can: a lock that is refused is tried again.
const LOCK_TRIES: u32 = 5;
const LOCK_RETRY: Duration = Duration::from_millis(2);
/// Folder for all users of the host; whoever makes it lets everybody put files there, and nobody touch another's.
const SHARED_FOLDER: &str = "/run/lock/autonomys-farmer";
const SHARED_MODE: u32 = 0o1777;

/// Why a process is not in the roster.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// No folder takes a file.
    #[error("no folder for the roster of this host's processes: {folder}: {source}; name one that exists by --roster", folder = folder.display())]
    Folder {
        /// The last one tried.
        folder: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Every number is taken.
    #[error("{role}: {INSTANCE_LIMIT} of them run on this host already, or their files in {folder} cannot be written", folder = folder.display())]
    Full {
        /// The role.
        role: Role,
        /// The roster.
        folder: PathBuf,
    },
    /// The own file cannot be written.
    #[error("{path}: {source}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// What a file says.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    role: String,
    number: u32,
    pid: u32,
    cpus: String,
    gpus: Vec<String>,
    disks: Vec<String>,
    executors: Option<u32>,
    no_pin: bool,
}

impl Entry {
    fn of(member: &Member) -> Self {
        Self {
            role: member.role.token().into(),
            number: member.number,
            pid: std::process::id(),
            cpus: member.cpus.to_string(),
            gpus: member.gpus.clone(),
            disks: member.disks.clone(),
            executors: member.executors,
            no_pin: member.no_pin,
        }
    }

    /// None when it does not say what a member can be.
    fn member(self) -> Option<Member> {
        let role = Role::ALL.into_iter().find(|role| role.token() == self.role)?;
        let cpus: Cpus = self.cpus.parse().ok()?;
        let is_possible = self.number < INSTANCE_LIMIT
            && self.executors.is_none_or(|count| (count as usize) <= cpus.len().max(64));
        is_possible.then_some(Member {
            role,
            number: self.number,
            gpus: self.gpus,
            disks: self.disks,
            executors: self.executors,
            cpus,
            no_pin: self.no_pin,
        })
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Roster(PathBuf);

/// The own place in it, until dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// Locked.
    file: File,
    /// Which of those with the own role this is.
    pub number: u32,
}

impl Roster {
    /// The roster in `folder`, else in the first of the usual folders that takes files.
    pub fn open(folder: Option<&Path>) -> Result<Self, RosterError> {
        if let Some(folder) = folder {
            return make(folder, SHARED_MODE)
                .map(|()| Self(folder.into()))
                .map_err(|source| RosterError::Folder { folder: folder.into(), source });
        }
        let mut last = None;
        for (folder, mode) in usual_folders() {
            match make(&folder, mode) {
                Ok(()) => return Ok(Self(folder)),
                Err(source) => last = Some(RosterError::Folder { folder, source }),
            }
        }
        Err(last.expect("there is a usual folder"))
    }

    /// The roster in `folder`, else in the first of the usual folders that is there, to look at.
    pub fn find(folder: Option<&Path>) -> Result<Self, RosterError> {
        let Some(folder) = folder else {
            let usual = usual_folders().into_iter().map(|(folder, _)| folder);
            return Ok(Self(
                usual.into_iter().find(|folder| folder.is_dir()).unwrap_or_else(|| SHARED_FOLDER.into()),
            ));
        };
        let found = folder.read_dir().map(|_| Self(folder.into()));
        found.map_err(|source| RosterError::Folder { folder: folder.into(), source })
    }

    /// Takes the lowest number of `role` that is free.
    pub fn join(&self, role: Role) -> Result<Place, RosterError> {
        let place = |number| {
            let path = self.0.join(format!("{role}-{number}.lock"));
            let file = entry(&path, OpenOptions::new().write(true).create(true))?;
            lock(&file).then_some(Place { path, file, number })
        };
        let place = (0..INSTANCE_LIMIT).find_map(place);
        let place = place.ok_or_else(|| RosterError::Full { role, folder: self.0.clone() })?;
        // What the one before wrote is not ours.
        place.file.set_len(0).map_err(|source| RosterError::Write { path: place.path.clone(), source })?;
        Ok(place)
    }

    /// Those who are there, in the order of roles and numbers. One who has not written yet, or is writing, is there the next time.
    pub fn members(&self) -> Vec<Member> {
        let paths =
            Role::ALL.into_iter().flat_map(|role| (0..INSTANCE_LIMIT).map(move |number| (role, number)));
        let member = |(role, number): (Role, u32)| {
            let file = entry(&self.0.join(format!("{role}-{number}.lock")), &mut OpenOptions::new())?;
            // Its own lock is the only one that keeps others out; that of a look ends with `file`.
            let is_nobodys = file.try_lock_shared().is_ok();
            let member = (!is_nobodys).then(|| read(&file)).flatten()?;
            (member.role == role && member.number == number).then_some(member)
        };
        paths.filter_map(member).collect()
    }
}

impl Place {
    /// Tells the others. What they read meanwhile is no entry, and read again later.
    pub fn write(&self, member: &Member) -> Result<(), RosterError> {
        let text = serde_json::to_string(&Entry::of(member)).expect("an entry is JSON");
        let written = self.file.set_len(0).and_then(|()| self.file.write_all_at(text.as_bytes(), 0));
        written.map_err(|source| RosterError::Write { path: self.path.clone(), source })
    }
}

fn read(file: &File) -> Option<Member> {
    let mut text = String::new();
    file.take(ENTRY_LIMIT_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str::<Entry>(&text).ok()?.member()
}

/// Opens a file of the folder. Everybody may put things there, so what is no plain file of one name (a link, a pipe) is not touched.
fn entry(path: &Path, options: &mut OpenOptions) -> Option<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.nlink() == 1).then_some(file)
}

/// Whether the file could be locked; somebody who only looks has gone in a moment.
fn lock(file: &File) -> bool {
    (0..LOCK_TRIES).any(|attempt| {
        if attempt > 0 {
            std::thread::sleep(LOCK_RETRY);
        }
        file.try_lock().is_ok()
    })
}

fn usual_folders() -> Vec<(PathBuf, u32)> {
    const PRIVATE_MODE: u32 = 0o700;
    let of_session = std::env::var_os("XDG_RUNTIME_DIR")
        .map(|folder| (PathBuf::from(folder).join("autonomys-farmer"), PRIVATE_MODE));
    let of_user = format!("/tmp/autonomys-farmer-{}", geteuid().as_raw());
    [(SHARED_FOLDER.into(), SHARED_MODE)]
        .into_iter()
        .chain(of_session)
        .chain([(of_user.into(), PRIVATE_MODE)])
        .collect()
}

/// Makes the folder if it is not there, and asks whether it takes files.
fn make(folder: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(folder) {
        // The process's mask took bits away.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(mode))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(role: Role, number: u32) -> Member {
        let cpus = "0-3,8".parse().unwrap();
        let (gpus, disks) = (vec!["0000:01:00.0".into()], vec!["nvme0n1".into()]);
        Member { role, number, gpus, disks, executors: Some(2), cpus, no_pin: false }
    }

    #[test]
    fn members_are_there_while_they_hold_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::open(Some(folder.path())).unwrap();
        let (first, second) =
            (roster.join(Role::PlotServer).unwrap(), roster.join(Role::PlotServer).unwrap());
        let other = roster.join(Role::Controller).unwrap();
        assert_eq!((first.number, second.number, other.number), (0, 1, 0));
        assert_eq!(roster.members(), [], "nobody has told anything");
        first.write(&member(Role::PlotServer, 0)).unwrap();
        second.write(&member(Role::PlotServer, 1)).unwrap();
        other.write(&Member { executors: None, ..member(Role::Controller, 0) }).unwrap();
        let all = roster.members();
        assert_eq!(
            all.iter().map(|one| (one.role, one.number)).collect::<Vec<_>>(),
            [(Role::Controller, 0), (Role::PlotServer, 0), (Role::PlotServer, 1)]
        );
        assert_eq!(all[1], member(Role::PlotServer, 0));
        drop(first);
        assert_eq!(roster.members().len(), 2);
        assert_eq!(roster.join(Role::PlotServer).unwrap().number, 0, "its number is free");
        assert_eq!(roster.members().len(), 2, "what the one before wrote does not count");
    }

    #[test]
    fn what_is_no_entry_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::open(Some(folder.path())).unwrap();
        let place = roster.join(Role::PlotClient).unwrap();
        let good = serde_json::to_string(&Entry::of(&member(Role::PlotClient, 0))).unwrap();
        for text in [
            "",
            "{",
            &good[..good.len() - 1],
            &good.replace("plot-client", "plot-server"),
            &good.replace("0-3,8", "8-3"),
            &good.replace("\"number\":0", "\"number\":64"),
            &good.replace("\"executors\":2", "\"executors\":4000000"),
            &format!("{}{good}", " ".repeat(1 << 17)),
        ] {
            place.file.set_len(0).unwrap();
            place.file.write_all_at(text.as_bytes(), 0).unwrap();
            assert_eq!(roster.members(), [], "{text:.200}");
        }
        place.write(&member(Role::PlotClient, 0)).unwrap();
        assert_eq!(roster.members(), [member(Role::PlotClient, 0)]);
    }

    #[test]
    fn what_is_no_plain_file_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::open(Some(folder.path())).unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "bytes").unwrap();
        let at = |number: u32| folder.path().join(format!("{}-{number}.lock", Role::PlotServer));
        std::os::unix::fs::symlink(&precious, at(0)).unwrap();
        fs::hard_link(&precious, at(1)).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at(2), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::create_dir(at(3)).unwrap();
        assert_eq!(roster.members(), []);
        assert_eq!(roster.join(Role::PlotServer).unwrap().number, 4);
        assert_eq!(fs::read(&precious).unwrap(), b"bytes");
    }

    #[test]
    fn whoever_looks_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Roster::find(Some(folder.path())).unwrap().members(), []);
        let missing = folder.path().join("missing");
        let error = Roster::find(Some(&missing)).unwrap_err().to_string();
        assert!(error.contains("missing") && !missing.exists(), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error() {
        let error = Roster::open(Some(Path::new("/proc/roster"))).unwrap_err().to_string();
        assert!(error.contains("/proc/roster") && error.contains("--roster"), "{error}");
    }
}
