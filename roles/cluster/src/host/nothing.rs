//! The handler of members that only ask.

use std::rc::Rc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use transport::message::{Refusal, RefusalCode, Request};
use transport::tcp::{Answer, Handler, PeerInfo, Received};

/// Nobody has anything to ask of this member.
pub struct ServesNothing;

impl Handler for ServesNothing {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        _: Request,
        _: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        Box::pin(async { Err(Refusal::new(RefusalCode::Invalid, "this member serves nothing")) })
    }
}
