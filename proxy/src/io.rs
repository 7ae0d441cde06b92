//! One type for every byte stream of the request path, so that hyper's state machines are compiled once.

use bytes::{Buf, Bytes};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

/// A stream some of whose bytes were already read, to look at them: they are read again first.
#[derive(Debug)]
pub struct Prefixed<T> {
    prefix: Bytes,
    inner: T,
}

pub type Stream = Prefixed<Transport>;

/// What carries the bytes. TLS is boxed: its state is a hundred times that of a socket.
#[derive(Debug)]
pub enum Transport {
    Tcp(TcpStream),
    /// Accepted by us.
    ServerTls(Box<server::TlsStream<Prefixed<TcpStream>>>),
    /// Opened by us.
    ClientTls(Box<client::TlsStream<TcpStream>>),
    /// The inside of a CONNECT tunnel, or what an `Upgrade` led to.
    Upgraded(TokioIo<hyper::upgrade::Upgraded>),
}

impl<T> Prefixed<T> {
    pub fn new(prefix: Bytes, inner: T) -> Prefixed<T> {
        Prefixed { prefix, inner }
    }

    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    pub fn into_parts(self) -> (Bytes, T) {
        (self.prefix, self.inner)
    }

    /// What was read ahead.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }
}

impl<T: AsyncRead + Unpin> Prefixed<T> {
    /// Waits for bytes or the end, and reads ahead: the prefix stays empty at the end only. Holds no buffer while it waits.
    /// Cancel-safe.
    pub async fn ahead(&mut self) -> io::Result<()> {
        if self.prefix.is_empty() {
            self.prefix = std::future::poll_fn(|cx| {
                let mut piece = [0; 2_048];
                let mut buf = ReadBuf::new(&mut piece);
                ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
                Poll::Ready(io::Result::Ok(Bytes::copy_from_slice(buf.filled())))
            })
            .await?;
        }
        Ok(())
    }
}

impl From<Transport> for Stream {
    fn from(transport: Transport) -> Stream {
        Prefixed::new(Bytes::new(), transport)
    }
}

impl Stream {
    pub fn upgraded(io: hyper::upgrade::Upgraded) -> Stream {
        Transport::Upgraded(TokioIo::new(io)).into()
    }

    /// The socket below, where there is one of our own.
    pub fn socket(&self) -> Option<&TcpStream> {
        match &self.inner {
            Transport::Tcp(tcp) => Some(tcp),
            Transport::ServerTls(tls) => Some(&tls.get_ref().0.inner),
            Transport::ClientTls(tls) => Some(tls.get_ref().0),
            Transport::Upgraded(_) => None,
        }
    }

    /// Makes the close of the socket a reset rather than an orderly end.
    pub fn reset_on_close(&self) {
        if let Some(socket) = self.socket() {
            // A socket that refuses is closed the ordinary way, which is all that is left to do.
            let _ = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

/// A TCP connection to `addr` with our socket options. The caller bounds the time.
pub async fn connect(addr: SocketAddr, options: crate::config::Tcp) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(addr).await?;
    set_options(&socket, options);
    Ok(socket)
}

/// Options are wishes: a socket without them still carries bytes.
pub fn set_options(socket: &TcpStream, options: crate::config::Tcp) {
    let _ = socket.set_nodelay(true);
    let socket = socket2::SockRef::from(socket);
    if let Some(idle) = options.keepalive {
        let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(idle).with_retries(3);
        let _ = socket.set_tcp_keepalive(&keepalive);
    }
    if options.user_timeout.is_some() {
        let _ = socket.set_tcp_user_timeout(options.user_timeout);
    }
}

macro_rules! each {
    ($self:expr, $io:ident => $call:expr) => {
        match $self {
            Transport::Tcp($io) => $call,
            Transport::ServerTls($io) => $call,
            Transport::ClientTls($io) => $call,
            Transport::Upgraded($io) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, io => io.is_write_vectored())
    }
}

/// For a stream that only looks at what is read: writes go to its `inner` as they are.
macro_rules! writes_to_inner {
    ($stream:ident) => {
        impl<T: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for $stream<T> {
            crate::io::all_but_flush!();

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.inner).poll_flush(cx)
            }
        }
    };
}
pub(crate) use writes_to_inner;

/// The same for one that has its own way to flush.
macro_rules! all_but_flush {
    () => {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.inner).poll_write(cx, buf)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
        }

        fn is_write_vectored(&self) -> bool {
            self.inner.is_write_vectored()
        }
    };
}
pub(crate) use all_but_flush;

impl<T: AsyncRead + Unpin> AsyncRead for Prefixed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        if self.prefix.is_empty() {
            // Lets go of the buffer that the prefix is a part of.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

writes_to_inner!(Prefixed);
