//! The three tasks that keep a connection going.
//!
//! ```text
//!   socket ─▶ receive ─▶ core ─▶ events ─▶ client or server
//!   socket ◀─ send ◀─────┘└──── tick: deadlines, silence
//! ```

use super::link::{Link, OnEvent, Wire};
use super::memory::Memory;
use super::wire;
use crate::connection::Config;
use engine::net::TcpStream;
use engine::task::{spawn_local, timeout};
use futures::future::{Either, select};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Time for last words and the alert when a connection ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts the tasks of a connection; they end by themselves when it does.
pub(super) fn start(
    stream: TcpStream,
    peer: SocketAddr,
    wire: Wire,
    config: Config,
    memory: Memory,
    on_event: OnEvent,
) -> Rc<Link> {
    let link = Link::new(peer, wire, config, memory, on_event);
    spawn_local(run(link.clone(), stream)).detach();
    link
}

async fn run(link: Rc<Link>, stream: TcpStream) {
    let TcpStream { reader, writer } = stream;
    let receiving = link.clone();
    let receiving = spawn_local(async move { wire::receive(&receiving, reader).await });
    let sending = link.clone();
    let mut sending = spawn_local(async move { wire::send(&sending, writer).await });
    let over = match select(pin!(link.tick_to_the_end()), &mut sending).await {
        Either::Left(_) => false,
        Either::Right(_) => true,
    };
    if !over {
        // A peer that does not read must not keep the socket open.
        let _ = timeout(LAST_WORDS, &mut sending).await;
    }
    receiving.cancel().await;
}
