//! A real block device with a real file system, whose medium can be taken from under it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Room for a small farm.
const DISK_BYTES: u64 = 40 << 20;

/// The mounted disk; dropped, it is unmounted and its device freed.
pub struct LoopDisk {
    image: PathBuf,
    device: String,
    mount: TempDir,
    taken: Option<Vec<u8>>,
}

impl LoopDisk {
    /// A disk whose medium is the file `image`; none where this user may not have one.
    pub fn on(image: PathBuf) -> Option<Self> {
        let mount = tempfile::tempdir().unwrap();
        File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).unwrap();
        let shown = image.to_str().unwrap();
        // Without a journal: ext4 takes no writes any more once that could not be written.
        let made = run(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal", shown]))
            .and_then(|_| run(Command::new("losetup").args(["--find", "--show", shown])));
        let Some(device) = made else {
            println!("skipped: this user may not make a loop device");
            return None;
        };
        let disk = Self { image, device: device.trim().to_owned(), mount, taken: None };
        let is_mounted = run(Command::new("mount").arg(&disk.device).arg(disk.path())).is_some();
        if !is_mounted {
            println!("skipped: this user may not mount a loop device");
        }
        is_mounted.then_some(disk)
    }

    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Its medium is gone: every read from it is an error. Nobody may write to it meanwhile, which would bring part of it back.
    pub fn take_medium(&mut self) {
        self.taken = Some(fs::read(&self.image).unwrap());
        File::options().write(true).open(&self.image).and_then(|file| file.set_len(0)).unwrap();
        self.tell_size();
    }

    /// Has the device look how long its file is.
    fn tell_size(&self) {
        run(Command::new("losetup").args(["--set-capacity", &self.device])).unwrap();
    }

    /// And comes back as it was.
    pub fn give_medium_back(&mut self) {
        if let Some(bytes) = self.taken.take() {
            fs::write(&self.image, bytes).unwrap();
            self.tell_size();
        }
    }
}

impl LoopDisk {
    /// It is pulled out: whoever has files open reads errors, and nothing is mounted there any more.
    pub fn pull_out(&mut self) {
        self.take_medium();
        run(Command::new("umount").arg("-l").arg(self.path())).unwrap();
    }

    /// It is put in again, where the system takes it for another device, and is mounted in the same place.
    pub fn put_in(&mut self) {
        let image = self.image.with_extension("again");
        fs::write(&image, self.taken.take().unwrap()).unwrap();
        run(Command::new("losetup").args(["--detach", &self.device]));
        let shown = image.to_str().unwrap();
        self.device =
            run(Command::new("losetup").args(["--find", "--show", shown])).unwrap().trim().to_owned();
        self.image = image;
        run(Command::new("mount").arg(&self.device).arg(self.path())).unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        self.give_medium_back();
        run(Command::new("umount").arg("-l").arg(self.path()));
        run(Command::new("losetup").args(["--detach", &self.device]));
    }
}

/// What a command says; none if it fails or is not there.
fn run(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}
