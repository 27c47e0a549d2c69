//! A controller's question to all caches: which segments have you? The machine's stretch and the survey's verdict; the way between is the
//! bus.

use super::member::{AskError, Id, Output};
use super::presence::Presence;
use bytes::Bytes;
use control::holdings::Survey;
use control::ids::InstanceId;
use control::messages::{Control, Epoch, HoldingsAnswer, HoldingsRequest, Role, subjects};
use control::segments::{Event, Stretch};
use std::collections::BTreeMap;
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

pub struct Looking {
    stretch: Stretch,
    survey: Survey,
    waiting: BTreeMap<Id, InstanceId>,
    /// For a mutant: one piece is as good as all.
    is_content: bool,
    partly: Vec<u64>,
}

impl Looking {
    pub fn begin(
        stretch: Stretch,
        epoch: &Epoch,
        presence: &Presence,
        is_content: bool,
        ids: &mut Id,
        out: &mut Vec<Output>,
    ) -> Self {
        let Stretch { from_segment, segments } = stretch;
        let request = HoldingsRequest { genesis_hash: [2; 32], from_segment, segments, lets_go_by: None };
        let of = |role| presence.present(role).map(|entry| entry.id).collect::<Vec<_>>();
        let survey = Survey::new(request, epoch, of(Role::ShardedCache), of(Role::FullPieceCache));
        let mut waiting = BTreeMap::new();
        for cache in survey.caches() {
            *ids += 1;
            waiting.insert(*ids, cache);
            let (subject, payload) = (subjects::holdings(cache), request.to_bytes().unwrap());
            out.push(Output::Ask { id: *ids, subject, payload, timeout: ANSWER_TIMEOUT });
        }
        Self { stretch, survey, waiting, is_content, partly: Vec::new() }
    }

    /// Takes an answer, if it is one to this question.
    pub fn answered(&mut self, id: Id, result: &Result<Bytes, AskError>) {
        let Some(cache) = self.waiting.remove(&id) else { return };
        let Some(answer) = result.as_ref().ok().and_then(|it| HoldingsAnswer::from_bytes(it).ok()) else {
            return;
        };
        self.survey.answered(cache, &answer);
        if let HoldingsAnswer::Held { pieces, .. } = answer {
            let sets = (self.stretch.from_segment..).zip(pieces);
            self.partly.extend(sets.filter(|(_, set)| *set != [0; 32]).map(|(segment, _)| segment));
        }
    }

    /// What came of it, when all have answered or could not.
    pub fn ended(&self) -> Option<Event> {
        let placed = if self.is_content { self.partly.clone() } else { self.survey.placed() };
        self.waiting.is_empty().then_some(Event::Seen { stretch: self.stretch, placed })
    }
}
