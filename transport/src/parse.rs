//! From untrusted bytes to messages that keep their rules: the whole surface a stranger's bytes can reach.

use crate::frame::{FrameError, HeaderBuf, Kind, PREFIX_BYTES, Prefix, VERSION};
use crate::message::{Credit, GoAway, Header, Hello, MessageError, Ping, Refusal, RequestHeader, Response};

/// The header of a frame, read and checked by all rules that do not need the request it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the kinds of frame")]
pub enum Message {
    Hello(Hello),
    Request(RequestHeader),
    Response(Response),
    Refusal(Refusal),
    Cancel,
    Credit(Credit),
    Ping(Ping),
    Pong(Ping),
    GoAway(GoAway),
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The frame is wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The header is wrong.
    #[error("{0:?} frame: {1}")]
    Message(Kind, MessageError),
    /// The bytes end before the header does.
    #[error("frame is cut short")]
    Short,
}

/// Reads the header of a frame; `header` lies on a 16-byte boundary and passed its checksum.
pub fn header(prefix: Prefix, header: &[u8]) -> Result<Message, MessageError> {
    Ok(match prefix.kind {
        Kind::Hello => {
            let hello = Hello::read(header)?;
            hello.check(VERSION)?;
            Message::Hello(hello)
        }
        Kind::Request => {
            let request = RequestHeader::read(header)?;
            request.check(prefix.payload_length)?;
            Message::Request(request)
        }
        Kind::Response => Message::Response(Response::read(header)?),
        Kind::Refusal => {
            let refusal = Refusal::read(header)?;
            refusal.check()?;
            Message::Refusal(refusal)
        }
        Kind::Cancel => Message::Cancel,
        Kind::Credit => Message::Credit(Credit::read(header)?),
        Kind::Ping => Message::Ping(Ping::read(header)?),
        Kind::Pong => Message::Pong(Ping::read(header)?),
        Kind::GoAway => {
            let words = GoAway::read(header)?;
            words.check()?;
            Message::GoAway(words)
        }
    })
}

/// Reads prefix and header from the start of `bytes`, anywhere in memory.
pub fn frame(bytes: &[u8]) -> Result<(Prefix, Message), ParseError> {
    let (prefix_bytes, rest) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or(ParseError::Short)?;
    let prefix = Prefix::decode(prefix_bytes)?;
    let header_bytes = rest.get(..prefix.header_length).ok_or(ParseError::Short)?;
    Prefix::verify(prefix_bytes, header_bytes)?;
    let mut aligned = HeaderBuf::with_capacity(prefix.header_length);
    aligned.extend_from_slice(header_bytes);
    let message = header(prefix, &aligned).map_err(|error| ParseError::Message(prefix.kind, error))?;
    Ok((prefix, message))
}

#[cfg(test)]
mod tests;
