//! What a node's refusal or silence means.

use jsonrpsee::core::ClientError;

use crate::{ERROR_CODE, SOLUTION_IGNORED, UNSAFE_ERROR_CODE};

/// Why the node did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Nobody listens there, now.
    #[error("node {url} is not reachable, it may be restarting: {reason}")]
    Unreachable {
        /// The node.
        url: String,
        /// The last failure.
        reason: String,
    },
    /// The node runs without the methods that farmers need.
    #[error(
        "node {url} does not allow the RPC methods that farmers need: start it with `--rpc-methods unsafe`"
    )]
    UnsafeMethods {
        /// The node.
        url: String,
    },
    /// Something else, or an old node, listens there.
    #[error("node {url} has no method {method}: is that a node of this network, of a current release?")]
    UnknownMethod {
        /// The node.
        url: String,
        /// The method.
        method: &'static str,
    },
    /// The node did not even queue the solution.
    #[error(
        "node {url} ignored the solution: its slot is not among the last four, or too many are queued already"
    )]
    SolutionIgnored {
        /// The node.
        url: String,
    },
    /// Any other refusal.
    #[error("node {url} refused {method}: {text} (code {code})")]
    Refused {
        /// The node.
        url: String,
        /// The method.
        method: &'static str,
        /// The code.
        code: i32,
        /// The node's reason.
        text: String,
    },
    /// The connection was gone before the call: certainly nothing was sent.
    #[error("node {url} was not told {method}: the connection is gone")]
    NotSent {
        /// The node.
        url: String,
        /// The method.
        method: &'static str,
    },
    /// The connection broke, or time ran out, after the call was sent: it may have been done.
    #[error("node {url} did not answer {method}: {reason}")]
    Unanswered {
        /// The node.
        url: String,
        /// The method.
        method: &'static str,
        /// What happened.
        reason: String,
    },
    /// An answer that cannot be read.
    #[error("node {url} answered {method} with something else: {reason}")]
    BadAnswer {
        /// The node.
        url: String,
        /// The method.
        method: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl NodeError {
    /// The meaning of a failed call.
    pub(super) fn of_call(url: &str, method: &'static str, error: ClientError) -> Self {
        let url = url.to_owned();
        match error {
            ClientError::Call(error) => match (error.code(), error.message()) {
                (ERROR_CODE, text) if text.contains(SOLUTION_IGNORED) => Self::SolutionIgnored { url },
                (UNSAFE_ERROR_CODE, text) if text.contains("unsafe") => Self::UnsafeMethods { url },
                (UNSAFE_ERROR_CODE, _) => Self::UnknownMethod { url, method },
                (code, text) => Self::Refused { url, method, code, text: text.to_owned() },
            },
            ClientError::ParseError(error) => Self::BadAnswer { url, method, reason: error.to_string() },
            other => Self::Unanswered { url, method, reason: other.to_string() },
        }
    }

    /// Whether the node certainly has not even begun to do what was asked, for a reason that another node need not share.
    pub fn is_certainly_not_done(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::NotSent { .. }
                | Self::UnsafeMethods { .. }
                | Self::UnknownMethod { .. }
                | Self::SolutionIgnored { .. }
        )
    }

    /// Whether the node may have done what was asked although it did not say so.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Unanswered { .. } | Self::BadAnswer { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UNSAFE_ERROR;
    use jsonrpsee::types::ErrorObjectOwned;

    fn called(code: i32, text: &str) -> NodeError {
        let error = ErrorObjectOwned::owned(code, text, None::<()>);
        NodeError::of_call("ws://n", "subspace_x", ClientError::Call(error))
    }

    #[test]
    fn refusals_are_told_apart() {
        assert!(matches!(called(9001, "Solution was ignored"), NodeError::SolutionIgnored { .. }));
        assert!(matches!(
            called(9001, "segment_indexes length exceed"),
            NodeError::Refused { code: 9001, .. }
        ));
        let missing = called(-32601, UNSAFE_ERROR);
        assert!(missing.to_string().contains("--rpc-methods unsafe"), "{missing}");
        assert!(matches!(called(-32601, "Method not found"), NodeError::UnknownMethod { .. }));
        let lost = NodeError::of_call("ws://n", "subspace_x", ClientError::RequestTimeout);
        assert!(lost.is_outcome_unknown() && !missing.is_outcome_unknown());
        assert!(missing.is_certainly_not_done() && !lost.is_certainly_not_done());
        let refused = called(9001, "Solution was bad");
        assert!(!refused.is_certainly_not_done() && !refused.is_outcome_unknown());
    }
}
