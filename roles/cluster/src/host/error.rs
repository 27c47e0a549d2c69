//! Why a host does not start or gets no answer.

use bus::BusError;
use control::ids::InstanceId;
use control::messages::Role;
use engine::executor::StartError;
use engine::pool::PoolError;
use transport::message::RefusalCode;
use transport::tcp::{ClientError, ServeError};
use transport::tls::TlsError;

/// What can go wrong with a member of the cluster.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No memory for payloads.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No executors.
    #[error(transparent)]
    Executors(#[from] StartError),
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No server.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The host was shut down, or an executor ended by a panic (which is in the log).
    #[error("this member has ended")]
    Ended,
    /// Too many requests wait to be sent.
    #[error("too many requests wait to be sent to other members")]
    Busy,
    /// The peer is not among the members.
    #[error("member {peer} is not in the cluster: it has left, or its heartbeats do not reach this member")]
    Absent {
        /// Who was to be asked.
        peer: InstanceId,
    },
    /// The peer announced no address that can be used.
    #[error("{} {peer} announces no usable address: start it with --advertise", role.token())]
    NoAddress {
        /// Who was to be asked.
        peer: InstanceId,
        /// Its role.
        role: Role,
    },
    /// The peer gave no answer, or refused.
    #[error("{} {peer}: {source}", role.token())]
    Request {
        /// Who was asked.
        peer: InstanceId,
        /// Its role.
        role: Role,
        /// What happened.
        source: ClientError,
    },
    /// The peer's answer is not what it says.
    #[error("{} {peer} sent bytes that fail their own hash: its memory or its software is damaged", role.token())]
    Damaged {
        /// Who was asked.
        peer: InstanceId,
        /// Its role.
        role: Role,
    },
}

impl HostError {
    /// The peer's refusal, when it refused.
    pub fn refusal(&self) -> Option<RefusalCode> {
        match self {
            Self::Request { source: ClientError::Refused { refusal, .. }, .. } => Some(refusal.code),
            _ => None,
        }
    }
}
