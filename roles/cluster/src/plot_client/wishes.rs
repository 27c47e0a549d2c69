//! Which farms operators wish a plot-client to have, by whom: its command line, its farms file, and requests while it runs.
//!
//! One rule: what was asked for by request holds until the file's line of that farm changes, or the plot-client ends. So a SIGHUP for one farm
//! undoes nothing that was done to the others, and a line that somebody has changed is obeyed.
//!
//! Never: the operator's file (it is read only), or what becomes of a farm.

use super::farms_file::{self, FarmsFileError};
use super::spec::FarmSpec;
use control::fleet::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Farms that may be here by request.
pub(super) const MAX_ADDED: usize = 64;

/// The farms that operators wish for.
#[derive(Debug, Clone)]
pub struct Wishes {
    named: Vec<FarmSpec>,
    file: Option<PathBuf>,
    in_file: Vec<FarmSpec>,
    /// By requests, which differ from what is named.
    added: Vec<FarmSpec>,
    /// Of those that are named, by requests.
    removed: BTreeSet<PathBuf>,
    /// Whether SIGHUP is listened to.
    listens: bool,
}

impl Wishes {
    /// Those of the command line.
    pub fn new(named: Vec<FarmSpec>) -> Self {
        let (in_file, added, removed) = Default::default();
        Self { named, file: None, in_file, added, removed, listens: false }
    }

    /// Those of the command line and of a farms file, which is read now, and again at each SIGHUP from the start of the plot-client on.
    /// Without a file SIGHUP is told to do nothing. Must be called inside a tokio runtime with its I/O driver.
    pub fn with_file(named: Vec<FarmSpec>, file: Option<PathBuf>) -> Result<Self, FarmsFileError> {
        let in_file = file.as_ref().map_or(Ok(Vec::new()), |file| farms_file::read(file, &named))?;
        // What comes before the desk is there must not end the process either.
        drop(listen());
        Ok(Self { file, in_file, listens: true, ..Self::new(named) })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// The folders.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.all().into_keys().collect()
    }

    pub(super) fn all(&self) -> BTreeMap<PathBuf, FarmSpec> {
        let named = self.named.iter().chain(&self.in_file).filter(|farm| !self.removed.contains(&farm.path));
        named.chain(&self.added).map(|farm| (farm.path.clone(), farm.clone())).collect()
    }

    pub(super) fn event(&self) -> Event<FarmSpec> {
        Event::Named(self.all().into_iter().collect())
    }

    /// SIGHUPs from now on, if they are listened to.
    pub(super) fn hangups(&self) -> Option<Signal> {
        if self.listens { listen() } else { None }
    }

    /// The farms file and the farms of the command line, which it must not name.
    pub(super) fn file(&self) -> Option<(PathBuf, Vec<FarmSpec>)> {
        Some((self.file.clone()?, self.named.clone()))
    }

    /// The file says this now.
    pub(super) fn read_again(&mut self, in_file: Vec<FarmSpec>) {
        let is_as_before = |path: &Path| line_of(&self.in_file, path) == line_of(&in_file, path);
        self.added.retain(|added| is_as_before(&added.path));
        self.removed.retain(|path| is_as_before(path));
        self.in_file = in_file;
    }

    /// What requests have made of farms that are named otherwise, for people; empty: nothing.
    pub(super) fn overruled(&self) -> String {
        let removed = self.removed.iter().map(|path| format!("{} stays removed", path.display()));
        let is_named = |farm: &&FarmSpec| self.line(&farm.path).is_some();
        let added = self.added.iter().filter(is_named);
        let added = added.map(|farm| format!("{} keeps the size that was asked for", farm.path.display()));
        removed.chain(added).collect::<Vec<_>>().join(", ")
    }

    /// Whether one more may be added.
    pub(super) fn may_add(&self, path: &Path) -> bool {
        self.added.iter().filter(|added| added.path != path).count() < MAX_ADDED
    }

    pub(super) fn add(&mut self, farm: FarmSpec) {
        self.removed.remove(&farm.path);
        self.added.retain(|added| added.path != farm.path);
        if self.line(&farm.path) != Some(&farm) {
            self.added.push(farm);
        }
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.added.retain(|added| added.path != path);
        if self.line(path).is_some() {
            self.removed.insert(path.to_owned());
        }
    }

    /// What an operator must know of a farm that was added: that it is not named so where it lasts. Empty: it is.
    pub(super) fn remark_on_added(&self, path: &Path) -> String {
        if !self.added.iter().any(|farm| farm.path == path) {
            return String::new();
        }
        let place = self.place_of(path);
        match self.line(path) {
            Some(_) => format!(", until this plot-client ends: {place} names it with another size"),
            None => format!(", until this plot-client ends: {place} does not name it"),
        }
    }

    /// What an operator must know of a farm that was removed: that it comes again. Empty: it does not.
    pub(super) fn remark_on_removed(&self, path: &Path) -> String {
        match self.line(path) {
            Some(_) => format!(
                "; {} names it still: it stays closed until `farms add`, another size in that place, or the next start",
                self.place_of(path)
            ),
            None => String::new(),
        }
    }

    fn line(&self, path: &Path) -> Option<&FarmSpec> {
        line_of(&self.named, path).or_else(|| line_of(&self.in_file, path))
    }

    /// Where the farm is named, or would best be.
    fn place_of(&self, path: &Path) -> String {
        match &self.file {
            Some(file) if line_of(&self.named, path).is_none() => file.display().to_string(),
            _ => "its command line".to_owned(),
        }
    }
}

fn line_of<'a>(farms: &'a [FarmSpec], path: &Path) -> Option<&'a FarmSpec> {
    farms.iter().find(|farm| farm.path == path)
}

/// From now on SIGHUP does not end the process.
fn listen() -> Option<Signal> {
    let told = |error: io::Error| tracing::warn!("SIGHUP is not listened to: {error}");
    signal(SignalKind::hangup()).map_err(told).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn farm(text: &str) -> FarmSpec {
        text.parse().unwrap()
    }

    fn all(wishes: &Wishes) -> Vec<String> {
        wishes.all().values().map(|farm| format!("{} {:?}", farm.path.display(), farm.size)).collect()
    }

    fn read_again(wishes: &mut Wishes, text: &str) {
        let (file, named) = wishes.file().unwrap();
        std::fs::write(&file, text).unwrap();
        wishes.read_again(farms_file::read(&file, &named).unwrap());
    }

    #[tokio::test]
    async fn a_request_holds_until_the_files_line_of_that_farm_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("farms");
        std::fs::write(&file, "path=/b,sectors=1\npath=/e,sectors=1\n").unwrap();
        let mut wishes = Wishes::with_file(vec![farm("path=/a,sectors=1")], Some(file.clone())).unwrap();
        assert_eq!(all(&wishes), ["/a Sectors(1)", "/b Sectors(1)", "/e Sectors(1)"]);
        wishes.add(farm("path=/c,sectors=1"));
        wishes.add(farm("path=/b,sectors=2"));
        assert_eq!(all(&wishes), ["/a Sectors(1)", "/b Sectors(2)", "/c Sectors(1)", "/e Sectors(1)"]);
        assert!(wishes.remark_on_added(Path::new("/b")).contains("farms names it with another size"));
        assert!(wishes.remark_on_added(Path::new("/c")).contains("farms does not name it"));
        wishes.remove(Path::new("/a"));
        wishes.remove(Path::new("/e"));
        assert!(wishes.remark_on_removed(Path::new("/a")).contains("its command line names it still"));
        let asked_for = ["/b Sectors(2)", "/c Sectors(1)"];
        assert_eq!(all(&wishes), asked_for);
        // A SIGHUP for another farm undoes none of that, and what it leaves is told.
        read_again(&mut wishes, "path=/b,sectors=1\npath=/e,sectors=1\npath=/f,sectors=1\n");
        assert_eq!(all(&wishes), [&asked_for[..], &["/f Sectors(1)"]].concat());
        let told = wishes.overruled();
        assert!(told == "/a stays removed, /e stays removed, /b keeps the size that was asked for", "{told}");
        // A line that has changed is obeyed, also one that went and came again.
        read_again(&mut wishes, "path=/b,sectors=3\n");
        read_again(&mut wishes, "path=/b,sectors=3\npath=/e,sectors=1\n");
        assert_eq!(all(&wishes), ["/b Sectors(3)", "/c Sectors(1)", "/e Sectors(1)"]);
        // Asked for as it is named, it is one of those that are named.
        wishes.add(farm("path=/a,sectors=1"));
        wishes.remove(Path::new("/e"));
        wishes.add(farm("path=/e,sectors=1"));
        for path in ["/a", "/e"].map(Path::new) {
            assert_eq!(wishes.remark_on_added(path), "");
        }
        assert_eq!((wishes.overruled(), wishes.remark_on_removed(Path::new("/c"))), Default::default());
        assert_eq!(wishes.count(), 4);
        // So many by request, and no more.
        for number in 1..MAX_ADDED {
            assert!(wishes.may_add(Path::new("/more")));
            wishes.add(farm(&format!("path=/d/{number},sectors=1")));
        }
        assert!(!wishes.may_add(Path::new("/more")) && wishes.may_add(Path::new("/c")));
    }
}
