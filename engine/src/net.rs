//! Sockets of an executor. Bytes go between the kernel and the caller's memory (a slab's range, mostly) without a copy
//! in between. Never: frames, TLS or protocols, which are `transport`'s.

use crate::task::yield_if_needed;
use futures::io::{AsyncRead, AsyncWrite};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// A TCP socket that waits for connections.
pub struct TcpListener(glommio::net::TcpListener);

impl TcpListener {
    /// Listens on `addr`, which must be free: two processes on one port are a mistake and refused.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        // glommio's own bind would share the port.
        Ok(Self(adopt(std::net::TcpListener::bind(addr)?)))
    }

    /// The next connection, on this executor. [`TcpStream::into_std`] takes it to another.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        Ok(TcpStream::new(self.0.accept().await.map_err(io::Error::from)?))
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr().map_err(io::Error::from)
    }
}

/// A TCP connection: two halves, which may be used by two tasks.
pub struct TcpStream {
    /// What comes.
    pub reader: TcpReader,
    /// What goes.
    pub writer: TcpWriter,
}

/// The receiving half of a connection.
pub struct TcpReader(Rc<RefCell<glommio::net::TcpStream>>);

/// The sending half of a connection. The connection is closed when both halves are dropped.
pub struct TcpWriter(Rc<RefCell<glommio::net::TcpStream>>);

impl TcpStream {
    fn new(stream: glommio::net::TcpStream) -> Self {
        let stream = Rc::new(RefCell::new(stream));
        Self { reader: TcpReader(stream.clone()), writer: TcpWriter(stream) }
    }

    /// Connects within `limit`.
    pub async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = glommio::net::TcpStream::connect_timeout(addr, limit).await.map_err(io::Error::from)?;
        Ok(Self::new(stream))
    }

    /// Takes over a connection, in blocking mode as the standard library makes them.
    pub fn from_std(stream: std::net::TcpStream) -> Self {
        Self::new(adopt(stream))
    }

    /// The connection to carry to another executor, or thread.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        let stream = self.reader.0.borrow();
        // SAFETY: the stream owns the descriptor and outlives this borrow.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        Ok(fd.try_clone_to_owned()?.into())
    }

    /// Whether small writes leave at once.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.reader.0.borrow().set_nodelay(nodelay).map_err(io::Error::from)
    }

    /// The other side's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.reader.0.borrow().peer_addr().map_err(io::Error::from)
    }

    /// This side's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.reader.0.borrow().local_addr().map_err(io::Error::from)
    }
}

impl TcpReader {
    /// Some bytes, as soon as there are any; 0 when the other side ended.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        yield_if_needed().await;
        poll_fn(|context| Pin::new(&mut *self.0.borrow_mut()).poll_read(context, buf)).await
    }

    /// Fills `buf`, or errs when the connection ends before (`UnexpectedEof`). If the future is dropped, some bytes may be
    /// lost: the connection is of no use then.
    pub async fn read_exact(&mut self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let got = self.read(buf).await?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[got..];
        }
        Ok(())
    }
}

impl TcpWriter {
    /// Sends some bytes of `buf`.
    pub async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        yield_if_needed().await;
        poll_fn(|context| Pin::new(&mut *self.0.borrow_mut()).poll_write(context, buf)).await
    }

    /// Sends all of `buf`.
    pub async fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        self.write_all_vectored(&mut [IoSlice::new(buf)]).await
    }

    /// Sends all parts, one after another, in as few calls and packets as the kernel takes them: header and payload of a
    /// frame leave together. If the future is dropped, some bytes may have left: the connection is of no use then.
    pub async fn write_all_vectored(&mut self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            yield_if_needed().await;
            let sent = match self.try_send(parts) {
                // Full: glommio waits until there is room, and sends from the first part.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.write(&parts[0]).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                sent => sent?,
            };
            IoSlice::advance_slices(&mut parts, sent);
        }
        Ok(())
    }

    fn try_send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let stream = self.0.borrow();
        // SAFETY: the stream owns the descriptor and outlives this borrow.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(sendmsg(fd, parts, &mut SendAncillaryBuffer::default(), flags)?)
    }

    /// Tells the other side that nothing more comes.
    pub async fn finish(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut *self.0.borrow_mut()).poll_close(context)).await
    }
}

/// A UDP socket. Batches and segmentation are the caller's, by the descriptor; waiting is done here.
pub struct UdpSocket {
    waiter: glommio::net::UdpSocket,
    socket: std::net::UdpSocket,
}

impl UdpSocket {
    /// A socket on `addr`, which must be free.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(addr)?;
        Ok(Self { waiter: adopt(socket.try_clone()?), socket })
    }

    /// Waits until there is a datagram, which stays in the socket.
    pub async fn readable(&self) -> io::Result<()> {
        // `peek` on an unconnected socket errs at once, for ever; `peek_from` waits.
        self.waiter.peek_from(&mut [0]).await.map(|_| ()).map_err(io::Error::from)
    }

    /// Sends one datagram, waiting for room.
    pub async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.waiter.send_to(datagram, to).await.map_err(io::Error::from)
    }

    /// The socket, for calls that must not wait (MSG_DONTWAIT): it is in blocking mode, which waiting needs.
    pub fn socket(&self) -> &std::net::UdpSocket {
        &self.socket
    }
}

/// Hands a socket's descriptor to glommio.
fn adopt<T: std::os::fd::FromRawFd>(socket: impl IntoRawFd) -> T {
    // SAFETY: the descriptor is given up by `socket` and owned by the result alone.
    #[allow(unsafe_code)]
    unsafe {
        T::from_raw_fd(socket.into_raw_fd())
    }
}
