//! What happens, in words a person can read.

use super::member::{Input, NodeInput, Output};
use std::fmt::Write;

fn short(bytes: &[u8]) -> String {
    bytes.iter().take(3).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn input(input: &Input) -> String {
    match input {
        Input::Message { subject, payload, .. } => format!("{subject} ({} bytes)", payload.len()),
        Input::Answer { id, result } => format!(
            "answer {id}: {}",
            result.as_ref().map_or_else(|e| format!("{e:?}"), |b| format!("{} bytes", b.len()))
        ),
        Input::Kv { bucket, key, value, revision } => {
            format!(
                "{bucket}/{key} = {} at {revision}",
                value.as_ref().map_or("deleted".to_owned(), |value| format!("{} bytes", value.len()))
            )
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
        Output::Publish { subject, payload } => format!("{subject} ({} bytes)", payload.len()),
        Output::Ask { id, subject, .. } => format!("ask {id}: {subject}"),
        Output::Reply { to, payload } => {
            format!("reply to {}.{} ({} bytes)", to.member, to.id, payload.len())
        }
        Output::KvWrite { id, bucket, key, expect, .. } => format!("write {id}: {bucket}/{key}, {expect:?}"),
        Output::Push { id, subject, .. } => format!("push {id}: {subject}"),
        Output::Submit { id, slot, .. } => {
            format!("submit {id}: slot {}, challenge {}", slot.slot, short(&slot.global_challenge))
        }
        Output::Sign { hash, .. } => format!("signature of {}", short(hash)),
        Output::Signed { hash, public_key, .. } => format!("signed {} by {}", short(hash), short(public_key)),
        Output::Say(text) => text.clone(),
        other => format!("{other:?}"),
    }
}
