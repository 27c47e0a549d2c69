//! What happens, in words a person can read.

use super::member::{Input, NodeInput, Output};
use control::messages::{
    Control, FarmHeld, MessageError, RewardSigningRequest, SigningAnswer, SlotInfo, SolutionAnswer,
    SolutionFound,
};
use std::fmt::Write;

pub fn short(bytes: &[u8]) -> String {
    bytes.iter().take(3).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A subject, without most of a key.
fn on(subject: &str) -> &str {
    match subject.split_once('.') {
        Some(("signature" | "farm", key)) if key.len() == 64 => &subject[..subject.len() - 58],
        _ => subject,
    }
}

/// A message in a few words.
fn words(payload: &[u8]) -> String {
    let told = |text: Result<String, MessageError>| text.unwrap_or_else(|_| "garbage".to_owned());
    match payload.get(1) {
        Some(&SlotInfo::KIND) => told(SlotInfo::from_bytes(payload).map(|info| {
            format!(
                "slot {}, challenge {}, at {} ms",
                info.slot,
                short(&info.global_challenge),
                info.announced_ms
            )
        })),
        Some(&SolutionFound::KIND) => {
            told(SolutionFound::from_bytes(payload).map(|found| format!("solution of slot {}", found.slot)))
        }
        Some(&SolutionAnswer::KIND) => told(SolutionAnswer::from_bytes(payload).map(|it| format!("{it:?}"))),
        Some(&RewardSigningRequest::KIND) => told(
            RewardSigningRequest::from_bytes(payload).map(|request| format!("sign {}", short(&request.hash))),
        ),
        Some(&SigningAnswer::KIND) => told(SigningAnswer::from_bytes(payload).map(|answer| match answer {
            SigningAnswer::Signed { .. } => "signed".to_owned(),
            refused @ SigningAnswer::Refused { .. } => format!("{refused:?}"),
        })),
        Some(&FarmHeld::KIND) => told(
            FarmHeld::from_bytes(payload)
                .map(|held| format!("held by {} for {} ms, over {:?}", held.client, held.held_ms, held.over)),
        ),
        _ => format!("{} bytes", payload.len()),
    }
}

/// Whether it comes all the time and says nothing.
pub fn is_noise_in(input: &Input) -> bool {
    match input {
        Input::Tick | Input::KvReady { .. } => true,
        Input::Message { subject, .. } => subject.starts_with("heartbeat."),
        Input::Kv { bucket, .. } => *bucket == super::presence::BUCKET,
        _ => false,
    }
}

/// The same of what is done.
pub fn is_noise_out(output: &Output) -> bool {
    match output {
        Output::Publish { subject, .. } => subject.starts_with("heartbeat."),
        Output::KvWatch { .. } | Output::Subscribe(_) => true,
        _ => false,
    }
}

pub fn input(input: &Input) -> String {
    match input {
        Input::Message { subject, payload, .. } => format!("{}: {}", on(subject), words(payload)),
        Input::Answer { id, result } => format!(
            "answer {id}: {}",
            result.as_ref().map_or_else(|e| format!("{e:?}"), |payload| words(payload))
        ),
        Input::Kv { bucket, key, value, revision } => {
            format!(
                "{bucket}/{key} = {} at {revision}",
                value.as_ref().map_or("deleted".to_owned(), |value| format!("{} bytes", value.len()))
            )
        }
        Input::KvGot { id, result: Ok(found) } => {
            let revision = found.as_ref().map(|(_, revision)| revision);
            format!("read {id}: {}", revision.map_or("nothing".to_owned(), |at| format!("revision {at}")))
        }
        Input::Node(NodeInput::Slot { slot, challenge }) => {
            format!("slot {slot}, challenge {}", short(challenge))
        }
        Input::Node(NodeInput::Sign { hash, public_key }) => {
            format!("sign {} by {}", short(hash), short(public_key))
        }
        Input::Pulled { id, job } => {
            format!("pulled {id}: {}", job.as_ref().map_or("nothing", |job| &job.subject))
        }
        other => format!("{other:?}"),
    }
}

pub fn output(output: &Output) -> String {
    match output {
        Output::Publish { subject, payload } => format!("{}: {}", on(subject), words(payload)),
        Output::Ask { id, subject, payload, .. } => format!("ask {id}: {}: {}", on(subject), words(payload)),
        Output::Reply { to, payload } => {
            format!("reply to {}.{}: {}", to.member, to.id, words(payload))
        }
        Output::KvWrite { id, bucket, key, expect, .. } => format!("write {id}: {bucket}/{key}, {expect:?}"),
        Output::KvGet { id, bucket, key } => format!("read {id}: {bucket}/{key}"),
        Output::Place { id, segment, epoch, .. } => {
            format!("place {id}: segment {segment} by epoch {}", epoch.number)
        }
        Output::Gather { id, sector } => format!("gather {id}: pieces of {sector}"),
        Output::Copy { id, server, sector } => format!("copy {id}: {sector} from {server}"),
        Output::Write { id, change, .. } => match change {
            super::disk::Change::Signature { hash, .. } => {
                format!("write {id}: signature of {}", short(hash))
            }
            super::disk::Change::Handover(handover) => {
                format!("write {id}: a solution of slot {} leaves", handover.solution.slot)
            }
            change => format!("write {id}: {change:?}"),
        },
        Output::Push { id, subject, .. } => format!("push {id}: {subject}"),
        Output::Submit { id, slot, solution, .. } => {
            format!("submit {id}: slot {slot}, challenge {}", short(&solution.reward_address))
        }
        Output::Sign { hash, .. } => format!("signature of {}", short(hash)),
        Output::Found { slot, .. } => format!("a solution of slot {}", slot.slot),
        Output::Ended { outcome, .. } => format!("a solution ended: {outcome:?}"),
        Output::Say(text) => text.clone(),
        other => format!("{other:?}"),
    }
}
