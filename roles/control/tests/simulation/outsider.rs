//! A client of the bus that is no member: asks for signatures of hashes that nobody wants signed, and publishes bytes that mean nothing.

use super::member::{Input, Member, Output};
use super::random::Random;
use bytes::Bytes;
use control::ids::InstanceId;
use control::messages::{Control, RewardSigningRequest, SlotInfo, subjects};
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(700);

pub struct Outsider {
    until: Duration,
    random: Random,
    keys: Vec<[u8; 32]>,
    /// Controllers that it heard of.
    controllers: Vec<InstanceId>,
    at: Duration,
    next_id: u64,
}

impl Outsider {
    /// Falls silent `until` after its start.
    pub fn new(random: Random, keys: Vec<[u8; 32]>, until: Duration) -> Self {
        Self { until, random, keys, controllers: vec![InstanceId([7; 16])], at: Duration::ZERO, next_id: 0 }
    }

    fn act(&mut self, out: &mut Vec<Output>) {
        let Some(&public_key) = self.random.pick(&self.keys) else { return };
        let Some(&controller) = self.random.pick(&self.controllers) else { return };
        let subject = match self.random.below(4) {
            0 => subjects::SLOT.to_owned(),
            1 => subjects::solution(controller),
            2 => subjects::farm(&public_key),
            _ => subjects::signature(&public_key),
        };
        let bytes: Vec<u8> = (0..self.random.below(500)).map(|_| self.random.next() as u8).collect();
        out.push(Output::Publish { subject, payload: Bytes::from(bytes) });
        let hash = *blake3::hash(&self.random.next().to_le_bytes()).as_bytes();
        let payload = RewardSigningRequest { controller, hash, public_key }.to_bytes().unwrap();
        let (subject, timeout) = (subjects::signature(&public_key), Duration::from_millis(500));
        self.next_id += 1;
        out.push(Output::Ask { id: self.next_id, subject, payload, timeout });
    }
}

impl Member for Outsider {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        match input {
            Input::Start => out.push(Output::Subscribe(subjects::SLOT.to_owned())),
            Input::Message { payload, .. } => {
                if let Ok(info) = SlotInfo::from_bytes(&payload)
                    && !self.controllers.contains(&info.controller)
                {
                    self.controllers.push(info.controller);
                }
            }
            Input::Tick if now >= self.at && now < self.until => {
                self.at = now + EVERY;
                self.act(out);
            }
            _ => {}
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        (self.at < self.until).then_some(self.at)
    }
}
