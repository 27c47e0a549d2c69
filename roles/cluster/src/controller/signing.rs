//! Reward signing, both ways: the node's hashes to the farms, the farms' signatures to the node, within half a second.

use std::collections::VecDeque;

use consensus::identity::is_reward_signature_valid;

use super::Context;
use bus::{BusError, Subscription};
use control::messages::{Control, RewardSignature, RewardSigningRequest, subjects};
use node::client::FeedEvent;

/// Requests remembered; the node waits for a few at most.
const ASKED_MAX: usize = 64;

/// What the own node wants signed.
#[derive(Debug, Default)]
struct Asked(VecDeque<RewardSigningRequest>);

impl Asked {
    fn ask(&mut self, request: RewardSigningRequest) {
        self.0.retain(|known| *known != request);
        self.0.push_back(request);
        if self.0.len() > ASKED_MAX {
            self.0.pop_front();
        }
    }

    /// Whether the own node waits for exactly this signature; only the first such is told so.
    fn answer(&mut self, signature: &RewardSignature) -> bool {
        let fits = |request: &RewardSigningRequest| {
            request.hash == signature.hash && request.public_key == signature.public_key
        };
        let Some(at) = self.0.iter().position(fits) else { return false };
        if !is_reward_signature_valid(&signature.hash, &signature.signature, &signature.public_key) {
            tracing::warn!(hash = hex::encode(signature.hash), "a reward signature is not valid: not sent");
            return false;
        }
        self.0.remove(at);
        true
    }
}

/// Passes requests and signatures on until the bus is closed.
pub async fn pass(context: &Context) -> Result<(), BusError> {
    let mut requests = context.node.reward_signings();
    let mut signatures: Subscription = context.bus().subscribe(subjects::REWARD_SIGNATURE).await?;
    let mut asked = Asked::default();
    loop {
        tokio::select! {
            event = requests.next() => if let FeedEvent::Item(node::RewardSigning { hash, public_key }) = event {
                let request = RewardSigningRequest { controller: context.host.id(), hash, public_key };
                context.publish(subjects::REWARD_REQUEST, &request).await;
                asked.ask(request);
            },
            message = signatures.next() => match message.map(|message| RewardSignature::from_bytes(&message.payload)) {
                None => return Err(BusError::Closed),
                Some(Err(error)) => tracing::warn!("reward signature: {error}"),
                Some(Ok(signature)) if asked.answer(&signature) => submit(context, &signature).await,
                Some(Ok(_)) => {}
            },
        }
    }
}

async fn submit(context: &Context, signature: &RewardSignature) {
    let RewardSignature { hash, signature, .. } = *signature;
    let submitted = match context.node.connection().await {
        Ok(connection) => connection.submit_reward_signature(node::RewardSignature { hash, signature }).await,
        Err(error) => Err(error),
    };
    match submitted {
        Ok(()) => {
            context.counts.add_signed();
            tracing::info!(hash = hex::encode(hash), "reward hash signed");
        }
        Err(error) => tracing::warn!(hash = hex::encode(hash), "a reward signature was lost: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::identity::Identity;
    use control::ids::InstanceId;

    #[test]
    fn only_what_the_node_waits_for_is_sent_and_once() {
        let identity = Identity::from_entropy([3; 32]);
        let (hash, public_key) = ([1; 32], identity.public_key());
        let good = RewardSignature { hash, public_key, signature: identity.sign_reward_hash(&hash) };
        let mut asked = Asked::default();
        let request = RewardSigningRequest { controller: InstanceId([1; 16]), hash, public_key };
        assert!(!asked.answer(&good), "nobody asked");
        asked.ask(request);
        assert!(!asked.answer(&RewardSignature { signature: [7; 64], ..good.clone() }), "forged");
        assert!(!asked.answer(&RewardSignature { hash: [2; 32], ..good.clone() }));
        assert!(asked.answer(&good));
        assert!(!asked.answer(&good), "sent before");
        asked.ask(request);
        assert!(asked.answer(&good), "asked again");
        for n in 0..=ASKED_MAX as u8 {
            asked.ask(RewardSigningRequest { hash: [n; 32], ..request });
        }
        assert_eq!(asked.0.len(), ASKED_MAX);
    }
}
