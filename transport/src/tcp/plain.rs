//! Bytes without TLS: a payload goes from the kernel into its slab and from its slab to the kernel.

use super::link::{Link, PEER_ENDED};
use super::payload::SlabPayload;
use crate::connection::Space;
use crate::payload::PayloadBuf;
use engine::net::{TcpReader, TcpWriter};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;

/// Receives until the connection is over.
pub(super) async fn receive(link: &Link, reader: &mut TcpReader) -> Result<(), String> {
    loop {
        if !link.find_memory().await? {
            return Ok(());
        }
        // The core is borrowed only while the kernel copies into its buffer.
        let got = poll_fn(|context| {
            let mut core = link.core.borrow_mut();
            let Space::Bytes(space) = core.space() else { return Ok(None).into() };
            pin!(reader.read(space)).poll(context).map_ok(Some)
        })
        .await;
        match got.map_err(|error| error.to_string())? {
            None => {}
            Some(0) => return Err(PEER_ENDED.into()),
            Some(count) => {
                link.core.borrow_mut().filled(count, link.now_ms());
                link.changed();
            }
        }
    }
}

/// Sends until the connection is over and its last words are out.
pub(super) async fn send(link: &Link, writer: &mut TcpWriter) -> io::Result<()> {
    loop {
        while let Some(frame) = link.next_frame() {
            let mut parts = vec![IoSlice::new(&frame.head)];
            if let Some(payload) = &frame.payload {
                let mut at = 0;
                while at < payload.len() {
                    let chunk = payload.chunk(at);
                    parts.push(IoSlice::new(chunk));
                    at += chunk.len();
                }
            }
            writer.write_all_vectored(&mut parts).await?;
            frame.payload.iter().for_each(SlabPayload::went_through);
        }
        if link.core.borrow().is_closed() {
            return Ok(());
        }
        link.to_send.wait().await;
    }
}
