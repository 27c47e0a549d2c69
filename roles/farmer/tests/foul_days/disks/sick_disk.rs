//! A disk that falls ill when it is told to: a file system over a folder, whose answers can stay away, be errors, or be both now and then.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, WriteFlags,
};
use tempfile::TempDir;

/// Nothing is remembered by the kernel: each question reaches the disk.
const TTL: Duration = Duration::ZERO;
/// What a write may be at most where this is the disk's own.
const LARGEST_BYTES: u32 = 1 << 20;

/// How the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Nothing is answered until it is well again.
    Hangs,
    /// Reads are errors.
    ErrsAtReads,
    /// One read in ten is an error.
    ErrsAtOneReadInTen,
    /// Whatever is asked, there is no such device.
    Gone,
}

/// The mounted disk; dropped, all is answered and it is unmounted.
pub struct SickDisk {
    state: Arc<State>,
    mount: TempDir,
    session: Option<BackgroundSession>,
}

impl SickDisk {
    /// A disk that keeps its files in `folder`; none where this user may not mount one.
    pub fn over(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let (state, mount) = (Arc::new(State::over(folder)), tempfile::tempdir().unwrap());
        match fuser::spawn_mount(SickFs(state.clone()), mount.path(), &Config::default()) {
            Ok(session) => Some(Self { state, mount, session: Some(session) }),
            Err(error) => {
                println!("skipped: this user may not mount a file system of its own: {error}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// From now on it is like this. Those that were kept waiting get their answers when it does not hang any more.
    pub fn becomes(&self, mood: Mood) {
        *lock(&self.state.mood) = mood;
        if mood != Mood::Hangs {
            let held = std::mem::take(&mut *lock(&self.state.held));
            held.into_iter().for_each(|answer| answer(&self.state));
        }
    }
}

impl Drop for SickDisk {
    fn drop(&mut self) {
        self.becomes(Mood::Well);
        if let Some(session) = self.session.take() {
            // Files may still be open: then the mount ends with them.
            let _ = session.umount_and_join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answer = Box<dyn FnOnce(&State) + Send>;

struct State {
    mood: Mutex<Mood>,
    held: Mutex<Vec<Answer>>,
    names: Mutex<Names>,
    files: Mutex<HashMap<u64, Arc<File>>>,
    reads: Mutex<u64>,
}

/// Which number stands for which path.
struct Names {
    by_number: HashMap<u64, PathBuf>,
    next: u64,
}

impl Names {
    fn number_of(&mut self, path: &Path) -> u64 {
        let known = self.by_number.iter().find(|(_, known)| *known == path).map(|(number, _)| *number);
        known.unwrap_or_else(|| {
            self.next += 1;
            self.by_number.insert(self.next, path.to_owned());
            self.next
        })
    }
}

impl State {
    fn over(folder: &Path) -> Self {
        let names = Names { by_number: HashMap::from([(1, folder.to_owned())]), next: 1 };
        Self {
            mood: Mutex::new(Mood::Well),
            held: Mutex::default(),
            names: Mutex::new(names),
            files: Mutex::default(),
            reads: Mutex::default(),
        }
    }

    /// Answers at once, or when the disk does not hang any more.
    fn serve(self: &Arc<Self>, answer: impl FnOnce(&Self) + Send + 'static) {
        // The mood is held, so that nobody is kept waiting by a disk that has just become well.
        let mood = lock(&self.mood);
        if *mood == Mood::Hangs {
            return lock(&self.held).push(Box::new(answer));
        }
        drop(mood);
        answer(self);
    }

    fn check(&self) -> io::Result<()> {
        let gone = *lock(&self.mood) == Mood::Gone;
        if gone { Err(io::Error::from_raw_os_error(libc::ENODEV)) } else { Ok(()) }
    }

    fn check_read(&self) -> io::Result<()> {
        self.check()?;
        let mut reads = lock(&self.reads);
        *reads += 1;
        match *lock(&self.mood) {
            Mood::ErrsAtReads => Err(io::Error::from_raw_os_error(libc::EIO)),
            Mood::ErrsAtOneReadInTen if reads.is_multiple_of(10) => {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, number: INodeNo) -> io::Result<PathBuf> {
        let names = lock(&self.names);
        names.by_number.get(&number.0).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        self.check()?;
        Ok(self.path(parent)?.join(name))
    }

    fn attributes(&self, path: &Path) -> io::Result<FileAttr> {
        self.check()?;
        let metadata = fs::symlink_metadata(path)?;
        Ok(attributes(lock(&self.names).number_of(path), &metadata))
    }

    fn keep(&self, file: File) -> FileHandle {
        let number = u64::try_from(file.as_raw_fd()).unwrap();
        lock(&self.files).insert(number, Arc::new(file));
        FileHandle(number)
    }

    fn file(&self, handle: FileHandle) -> io::Result<Arc<File>> {
        self.check()?;
        let files = lock(&self.files);
        files.get(&handle.0).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn read(&self, handle: FileHandle, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        self.check_read()?;
        let (file, mut bytes) = (self.file(handle)?, vec![0; size as usize]);
        let mut got = 0;
        while got < bytes.len() {
            match file.read_at(&mut bytes[got..], offset + got as u64)? {
                0 => break,
                more => got += more,
            }
        }
        bytes.truncate(got);
        Ok(bytes)
    }

    fn rename(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), keeps: bool) -> io::Result<()> {
        let (from, to) = (self.child(from.0, from.1)?, self.child(to.0, to.1)?);
        if keeps && to.exists() {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        fs::rename(&from, &to)?;
        let mut names = lock(&self.names);
        names.by_number.retain(|_, path| *path != to);
        names.by_number.values_mut().filter(|path| **path == from).for_each(|path| *path = to.clone());
        Ok(())
    }

    fn list(&self, number: INodeNo) -> io::Result<Vec<(u64, FileType, std::ffi::OsString)>> {
        self.check_read()?;
        let mut all = Vec::new();
        for entry in fs::read_dir(self.path(number)?)? {
            let entry = entry?;
            let number = lock(&self.names).number_of(&entry.path());
            all.push((number, kind(&entry.metadata()?), entry.file_name()));
        }
        Ok(all)
    }
}

fn kind(metadata: &Metadata) -> FileType {
    if metadata.is_dir() { FileType::Directory } else { FileType::RegularFile }
}

fn attributes(number: u64, metadata: &Metadata) -> FileAttr {
    let time = metadata.modified().unwrap();
    FileAttr {
        ino: INodeNo(number),
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: kind(metadata),
        perm: (metadata.mode() & 0o7777) as u16,
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Opened for both, since who asks to write reads the rest of a page.
fn open(path: &Path, create: Option<u32>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if let Some(mode) = create {
        options.create(true).truncate(false).mode(mode);
    }
    options.open(path)
}

struct SickFs(Arc<State>);

impl Filesystem for SickFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.0.serve(move |state| {
            match state.child(parent, &name).and_then(|path| state.attributes(&path)) {
                Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
                Err(error) => reply.error(error.into()),
            }
        });
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.0.serve(move |state| match state.path(number).and_then(|path| state.attributes(&path)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error.into()),
        });
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<fuser::TimeOrNow>,
        _: Option<fuser::TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.0.serve(move |state| {
            let set = state.path(number).and_then(|path| {
                state.check()?;
                if let Some(size) = size {
                    open(&path, None)?.set_len(size)?;
                }
                state.attributes(&path)
            });
            match set {
                Ok(attributes) => reply.attr(&TTL, &attributes),
                Err(error) => reply.error(error.into()),
            }
        });
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let name = name.to_owned();
        self.0.serve(move |state| {
            let made = state.child(parent, &name).and_then(|path| {
                fs::create_dir(&path)?;
                state.attributes(&path)
            });
            match made {
                Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
                Err(error) => reply.error(error.into()),
            }
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.0.serve(move |state| empty(reply, state.child(parent, &name).and_then(fs::remove_file)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, to_name) = (name.to_owned(), to_name.to_owned());
        let keeps = flags.contains(RenameFlags::RENAME_NOREPLACE);
        self.0.serve(move |state| {
            empty(reply, state.rename((parent, &name), (to_parent, &to_name), keeps));
        });
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.0.serve(move |state| {
            let opened = state.check().and_then(|()| open(&state.path(number)?, None));
            match opened {
                Ok(file) => reply.opened(state.keep(file), FopenFlags::empty()),
                Err(error) => reply.error(error.into()),
            }
        });
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let name = name.to_owned();
        self.0.serve(move |state| {
            let made = state.child(parent, &name).and_then(|path| {
                let file = open(&path, Some(mode))?;
                Ok((state.attributes(&path)?, file))
            });
            match made {
                Ok((attributes, file)) => {
                    let handle = state.keep(file);
                    reply.created(&TTL, &attributes, Generation(0), handle, FopenFlags::empty());
                }
                Err(error) => reply.error(error.into()),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.serve(move |state| match state.read(handle, offset, size.min(LARGEST_BYTES)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_owned();
        self.0.serve(move |state| {
            match state.file(handle).and_then(|file| file.write_all_at(&data, offset)) {
                Ok(()) => reply.written(data.len() as u32),
                Err(error) => reply.error(error.into()),
            }
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        drop(lock(&self.0.files).remove(&handle.0));
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.serve(move |state| empty(reply, state.file(handle).and_then(|file| file.sync_data())));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.serve(move |state| empty(reply, state.check()));
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.0.serve(move |state| match state.list(number) {
            Ok(all) => {
                let entries = (1..).zip(all).skip(usize::try_from(offset).unwrap());
                for (next, (number, kind, name)) in entries {
                    if reply.add(INodeNo(number), next, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error.into()),
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.0.serve(move |state| match state.check() {
            Ok(()) => reply.statfs(1 << 30, 1 << 29, 1 << 29, 1 << 20, 1 << 19, 4096, 255, 4096),
            Err(error) => reply.error(error.into()),
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        self.0.serve(move |state| {
            let allocated = state.file(handle).and_then(|file| {
                let bytes = (offset + length).max(file.metadata()?.len());
                file.set_len(bytes)
            });
            empty(reply, allocated);
        });
    }
}

fn empty(reply: ReplyEmpty, done: io::Result<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(Errno::from(error)),
    }
}
