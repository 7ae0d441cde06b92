//! Bytes between two streams, unread, until both directions have ended. Each ends by itself (half-close); an error of either
//! side ends both, and is passed on as a reset.

use crate::{io::Stream, telemetry::metrics::tcp::OpenConnection};
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One read's worth. Larger than a socket's usual burst; one per thread, so idle connections hold no buffer.
const SCRATCH: usize = 64 * 1_024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Is told of the bytes as they flow.
pub trait Count {
    fn to_server(&self, bytes: u64);
    fn to_client(&self, bytes: u64);
}

#[derive(Debug)]
pub struct Uncounted;

impl Count for Uncounted {
    fn to_server(&self, _: u64) {}
    fn to_client(&self, _: u64) {}
}

impl Count for OpenConnection {
    fn to_server(&self, bytes: u64) {
        self.read(bytes);
    }

    fn to_client(&self, bytes: u64) {
        self.written(bytes);
    }
}

/// One direction.
#[derive(Default)]
struct Half {
    /// Read but not yet taken by the other side.
    rest: Vec<u8>,
    sent: usize,
    unflushed: bool,
    ended: bool,
    shut: bool,
}

/// Copies until both directions have ended. Dropping the future cuts the connection.
pub async fn copy(mut client: Stream, mut server: Stream, count: &impl Count) -> io::Result<()> {
    let (mut up, mut down) = (Half::default(), Half::default());
    let result = std::future::poll_fn(|cx| {
        let up = up.poll(cx, &mut client, &mut server, |bytes| count.to_server(bytes))?;
        let down = down.poll(cx, &mut server, &mut client, |bytes| count.to_client(bytes))?;
        match up.is_ready() && down.is_ready() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await;
    if result.is_err() {
        client.reset_on_close();
        server.reset_on_close();
    }
    result
}

impl Half {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        count: impl Fn(u64),
    ) -> Poll<io::Result<()>> {
        loop {
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            while self.sent < self.rest.len() {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest[self.sent..]))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.sent += n;
            }
            // Gives a burst's memory back.
            (self.rest, self.sent) = (Vec::new(), 0);
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.shut = true;
                continue;
            }
            match self.read(cx, from, to, &count)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// One read, and the write of as much as the other side takes at once.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        count: &impl Fn(u64),
    ) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buf = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(cx, &mut buf))?;
            let bytes = buf.filled();
            if bytes.is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            count(bytes.len() as u64);
            self.unflushed = true;
            let sent = match Pin::new(to).poll_write(cx, bytes)? {
                Poll::Ready(n) => n,
                Poll::Pending => 0,
            };
            self.rest.extend_from_slice(&bytes[sent..]);
            Poll::Ready(Ok(()))
        })
    }
}
