//! The signatures of one slot's block and votes.

use consensus::identity::is_reward_signature_valid;

use super::block::{AuthoredBlock, BlockHeader};
use super::report::{Reason, Report, SignatureCounts};

/// Something a farm is asked to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningRequest {
    /// What to sign.
    pub hash: [u8; 32],
    /// Who is asked.
    pub public_key: [u8; 32],
}

/// A block or vote that waits for its signature.
#[derive(Debug)]
pub(super) struct Claim {
    request: SigningRequest,
    /// The block; none when it is a vote.
    block: Option<Box<BlockHeader>>,
    signature: ClaimSignature,
}

#[derive(Debug, Clone, Copy)]
enum ClaimSignature {
    Missing,
    Valid([u8; 64]),
    Invalid,
}

impl Claim {
    pub(super) fn new(hash: [u8; 32], public_key: [u8; 32], block: Option<BlockHeader>) -> Self {
        let request = SigningRequest { hash, public_key };
        Self { request, block: block.map(Box::new), signature: ClaimSignature::Missing }
    }
}

/// All claims of a slot.
#[derive(Debug)]
pub(super) struct Round {
    claims: Vec<Claim>,
}

impl Round {
    pub(super) fn new(claims: Vec<Claim>) -> Self {
        Self { claims }
    }

    pub(super) fn requests(&self) -> Vec<SigningRequest> {
        self.claims.iter().map(|claim| claim.request).collect()
    }

    /// Takes a signature for a hash of this round; others are passed over. The first one for a hash decides, as on the network.
    /// Several controllers of a farm may send the same one; two that differ are an equivocation there.
    pub(super) fn sign(&mut self, hash: &[u8; 32], signature: &[u8; 64], counts: &mut SignatureCounts) {
        let Some(claim) = self.claims.iter_mut().find(|claim| claim.request.hash == *hash) else { return };
        let valid = || is_reward_signature_valid(hash, signature, &claim.request.public_key);
        match claim.signature {
            ClaimSignature::Missing if valid() => {
                claim.signature = ClaimSignature::Valid(*signature);
                counts.valid += 1;
            }
            ClaimSignature::Missing => {
                claim.signature = ClaimSignature::Invalid;
                counts.invalid += 1;
            }
            ClaimSignature::Valid(first) if first != *signature && valid() => {
                tracing::warn!(
                    hash = hex::encode(hash),
                    "a farm has signed one hash twice, with two signatures"
                );
                counts.invalid += 1;
            }
            ClaimSignature::Valid(_) | ClaimSignature::Invalid => {}
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.claims.iter().any(|claim| matches!(claim.signature, ClaimSignature::Missing))
    }

    /// Counts what is decided now and gives the block, if there is one and it is signed.
    pub(super) fn finish(self, report: &mut Report) -> Option<AuthoredBlock> {
        let mut block = None;
        for claim in self.claims {
            match (claim.signature, claim.block) {
                (ClaimSignature::Valid(signature), Some(header)) => {
                    block = Some(AuthoredBlock { header: *header, signature });
                }
                (ClaimSignature::Valid(_), None) => report.solutions.accepted += 1,
                (ClaimSignature::Missing, _) => report.reject(Reason::NotSigned),
                (ClaimSignature::Invalid, _) => report.reject(Reason::BadSignature),
            }
        }
        block
    }
}
