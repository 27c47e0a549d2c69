//! What must have come about in the end, when nothing is left to be done: sectors plotted, segments placed and known, no jobs.

use super::kept::{CLUSTER, INFO};
use super::world::World;
use control::messages::{ClusterInfo, Control};

impl World {
    pub fn is_at_rest(&mut self) -> bool {
        self.restless().is_empty()
    }

    /// What is not as it must be in the end.
    pub fn restless(&mut self) -> Vec<String> {
        let mut wrong = Vec::from_iter(self.unplaced());
        // Nothing can be plotted until what nobody has comes by other ways.
        let known = self.history();
        if self.ledger.is_unknowable && (0..known).any(|segment| !self.is_held(segment)) {
            return wrong;
        }
        for process in &self.processes {
            let Some(view) = process.member.as_ref().map(|member| member.view()) else { continue };
            if let Some((plotted, all)) = view.plotted
                && plotted < all
                && !view.holds.is_empty()
            {
                wrong.push(format!("{} has plotted {plotted} of {all}: {:?}", process.name, view.troubles));
            }
        }
        wrong.extend(self.misplaced(known));
        let jobs = self.jetstream.queue.len();
        if jobs > 0 {
            wrong.push(format!("{jobs} jobs are in the queue"));
        }
        wrong
    }

    /// History as the settings have it.
    fn history(&mut self) -> u64 {
        let known = self.jetstream.bucket(CLUSTER).get(INFO, false);
        let info = known.and_then(|(value, _)| ClusterInfo::from_bytes(&value).ok());
        info.map_or(0, |info| info.protocol_info.history_size)
    }

    /// Segments that are held and not placed, or placed and not known to be, and a history that does not tell of what is placed.
    fn unplaced(&mut self) -> Option<String> {
        let segments = self.nodes.iter().map(|node| node.segments).max().unwrap_or_default();
        let first = (0..segments).find(|segment| !self.is_placed(*segment)).unwrap_or(segments);
        if let Some(held) =
            (first..segments).find(|segment| self.is_held(*segment) && !self.is_placed(*segment))
        {
            return Some(format!("segment {held} is held and not placed"));
        }
        if let Some(last) = segments.checked_sub(1).filter(|last| !self.is_placed(*last)) {
            return Some(format!("segment {last}, archived when all was well, is not placed"));
        }
        let placed: Vec<_> = (0..segments).filter(|segment| self.is_placed(*segment)).collect();
        let marks = self.jetstream.bucket(CLUSTER);
        let is_unmarked = |segment: &u64| marks.get(&format!("placed.{segment}"), false).is_none();
        if let Some(segment) = placed.into_iter().find(is_unmarked) {
            return Some(format!("segment {segment} is placed, and the store does not know it"));
        }
        let known = self.history();
        let due = first.max(self.ledger.born_at);
        let mut views =
            self.processes.iter().filter_map(|process| process.member.as_ref().map(|it| it.view()));
        if let Some(agreed) = views.find_map(|view| view.agreed.filter(|agreed| *agreed != known)) {
            return Some(format!("history has {known} segments, and a controller believes in {agreed}"));
        }
        (known < due).then(|| format!("history has {known} segments, and {due} are placed"))
    }
}
