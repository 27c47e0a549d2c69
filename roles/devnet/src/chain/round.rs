//! The signatures of one slot's block and votes, one after another: the votes, then the block, which was proposed meanwhile.

use consensus::identity::is_reward_signature_valid;

use super::block::{AuthoredBlock, BlockHeader, Vote};
use super::report::{Reason, Report, SignatureCounts};

/// Something a farm is asked to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningRequest {
    /// What to sign.
    pub hash: [u8; 32],
    /// Who is asked.
    pub public_key: [u8; 32],
}

/// What a farm can win by a solution. The signature is still missing.
#[derive(Debug)]
pub(super) enum Prize {
    Block(Box<BlockHeader>),
    Vote(Box<Vote>),
}

/// A block or vote that waits for its signature.
#[derive(Debug)]
pub(super) struct Claim {
    request: SigningRequest,
    prize: Prize,
    signature: ClaimSignature,
}

#[derive(Debug, Clone, Copy)]
enum ClaimSignature {
    Missing,
    Valid([u8; 64]),
    Invalid,
}

impl Claim {
    pub(super) fn block(header: BlockHeader) -> Self {
        let request = SigningRequest { hash: header.hash(), public_key: header.solution.public_key };
        Self { request, prize: Prize::Block(Box::new(header)), signature: ClaimSignature::Missing }
    }

    pub(super) fn vote(vote: Vote) -> Self {
        let request = SigningRequest { hash: vote.hash(), public_key: vote.solution.public_key };
        Self { request, prize: Prize::Vote(Box::new(vote)), signature: ClaimSignature::Missing }
    }
}

/// What was signed in a round.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The block.
    pub block: Option<AuthoredBlock>,
    /// The votes, in the order in which they were asked for.
    pub votes: Vec<Vote>,
}

/// All claims of a slot.
#[derive(Debug)]
pub(super) struct Round {
    claims: Vec<Claim>,
    /// Claims that were asked for: the last of them is the present one.
    asked: usize,
}

impl Round {
    /// A round of claims in the order in which they are to be asked for.
    pub(super) fn new(claims: Vec<Claim>) -> Self {
        Self { claims, asked: 0 }
    }

    /// Asks for the next signature, whatever became of the present one.
    pub(super) fn next_request(&mut self) -> Option<SigningRequest> {
        let next = self.claims.get(self.asked)?;
        self.asked += 1;
        Some(next.request)
    }

    /// Takes a signature for the present hash; others are passed over. The first one decides, as on the network. Several controllers
    /// of a farm may send the same one; two that differ are an equivocation there, even when the second comes late.
    pub(super) fn sign(&mut self, hash: &[u8; 32], signature: &[u8; 64], counts: &mut SignatureCounts) {
        let asked = &mut self.claims[..self.asked];
        let present = asked.len().checked_sub(1);
        let Some(at) = asked.iter().position(|claim| claim.request.hash == *hash) else { return };
        let claim = &mut asked[at];
        let valid = || is_reward_signature_valid(hash, signature, &claim.request.public_key);
        match claim.signature {
            ClaimSignature::Missing if present != Some(at) => {}
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

    /// Whether the present hash needs no signature any more.
    pub(super) fn is_present_decided(&self) -> bool {
        let present = self.asked.checked_sub(1).map(|at| self.claims[at].signature);
        !matches!(present, Some(ClaimSignature::Missing))
    }

    /// Counts what is decided now, all but the block, and gives what was signed.
    pub(super) fn finish(self, report: &mut Report) -> Signed {
        let mut signed = Signed::default();
        for claim in self.claims {
            match (claim.signature, claim.prize) {
                (ClaimSignature::Valid(signature), Prize::Block(header)) => {
                    signed.block = Some(AuthoredBlock { header: *header, signature });
                }
                (ClaimSignature::Valid(signature), Prize::Vote(vote)) => {
                    report.solutions.accepted += 1;
                    signed.votes.push(Vote { signature, ..*vote });
                }
                (ClaimSignature::Missing, _) => report.reject(Reason::NotSigned),
                (ClaimSignature::Invalid, _) => report.reject(Reason::BadSignature),
            }
        }
        signed
    }
}
