//! What a peer answers to a request.

use engine::pool::SlabMut;
use transport::message::Response;

/// An answer whose payload has the hash its header names; but for ranges of sectors, whose bytes nobody has compared with it yet.
#[derive(Debug)]
pub struct HostReply {
    /// The answer; it fits the request.
    pub response: Response,
    /// Its payload, laid out as [`transport::message::Request::response_layout`] says.
    pub payload: Option<SlabMut>,
}
