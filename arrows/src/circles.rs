//! Circles: files that import each other, at once or by way of others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};

/// One file uses what another defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    /// Who uses.
    pub from: PathBuf,
    /// Who defines.
    pub to: PathBuf,
    /// A path in the text of `from` that leads there.
    pub path: String,
}

/// Arrows that come back to where the first begins; two where two files import each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle(pub Vec<Arrow>);

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for Arrow { from, to, path } in &self.0 {
            write!(f, "{comma}{} uses {path} of {}", from.display(), to.display())?;
            comma = ", ";
        }
        Ok(())
    }
}

/// The shortest circle through each arrow that lies in one; circles of the same files once.
pub fn circles_among(arrows: &[Arrow]) -> Vec<Circle> {
    let by_file = by_file(arrows);
    let mut seen = BTreeSet::new();
    let circles = arrows.iter().filter_map(|arrow| {
        let circle = circle_through(arrow, &by_file)?;
        let files: BTreeSet<_> = circle.0.iter().map(|arrow| arrow.from.clone()).collect();
        seen.insert(files).then_some(circle)
    });
    circles.collect()
}

type ByFile<'a> = BTreeMap<&'a Path, Vec<&'a Arrow>>;

fn by_file(arrows: &[Arrow]) -> ByFile<'_> {
    let mut by_file = ByFile::new();
    for arrow in arrows {
        by_file.entry(&arrow.from).or_default().push(arrow);
    }
    by_file
}

fn circle_through(arrow: &Arrow, by_file: &ByFile<'_>) -> Option<Circle> {
    let back = way(by_file, &arrow.to, &arrow.from)?;
    Some(Circle([arrow].into_iter().chain(back).cloned().collect()))
}

/// The shortest way along arrows.
fn way<'a>(by_file: &ByFile<'a>, from: &'a Path, to: &Path) -> Option<Vec<&'a Arrow>> {
    // How each file was come to; none for the first.
    let mut come: BTreeMap<&Path, Option<&Arrow>> = BTreeMap::from([(from, None)]);
    let mut next = VecDeque::from([from]);
    while let Some(file) = next.pop_front() {
        if file == to {
            let mut way = Vec::new();
            let mut at = file;
            while let Some(Some(arrow)) = come.get(at).copied() {
                way.push(arrow);
                at = &arrow.from;
            }
            way.reverse();
            return Some(way);
        }
        for &arrow in by_file.get(file).into_iter().flatten() {
            if !come.contains_key(&*arrow.to) {
                come.insert(&arrow.to, Some(arrow));
                next.push_back(&arrow.to);
            }
        }
    }
    None
}
