//! What a member knows of the settings, and tells a controller that finds none.

use super::kept::{CLUSTER, INFO};
use super::member::{Input, Output};
use control::messages::{ClusterInfo, Control, SettingsWanted, subjects};

/// The settings as a member knows them.
#[derive(Default)]
pub struct Recall {
    known: Option<ClusterInfo>,
}

impl Recall {
    /// One who remembers this.
    pub fn new(known: Option<ClusterInfo>) -> Self {
        Self { known }
    }

    /// The length of the history that it knows.
    pub fn history(&self) -> Option<u64> {
        self.known.as_ref().map(|info| info.protocol_info.history_size)
    }

    /// The cluster has agreed on this.
    pub fn learn(&mut self, info: ClusterInfo) {
        self.known = Some(info);
    }

    /// Answers who asks, and follows the settings where `follows`; whether something new was learnt.
    pub fn on(&mut self, input: &Input, follows: bool, out: &mut Vec<Output>) -> bool {
        match input {
            Input::Start => {
                out.push(Output::Subscribe(subjects::SETTINGS_WANTED.to_owned()));
                out.extend(
                    follows.then_some(Output::KvWatch { bucket: CLUSTER, filters: vec![INFO.to_owned()] }),
                );
            }
            Input::Message { subject, payload, .. } if subject == subjects::SETTINGS_WANTED => {
                let Ok(SettingsWanted { controller }) = SettingsWanted::from_bytes(payload) else {
                    return false;
                };
                let subject = subjects::settings_known(controller);
                let told = self.known.as_ref().map(|info| info.to_bytes().unwrap());
                out.extend(told.map(|payload| Output::Publish { subject, payload }));
            }
            Input::Kv { bucket: CLUSTER, key, value: Some(value), .. } if follows && key == INFO => {
                if let Ok(info) = ClusterInfo::from_bytes(value) {
                    let is_new = self.known.as_ref() != Some(&info);
                    self.known = Some(info);
                    return is_new;
                }
            }
            _ => {}
        }
        false
    }
}
