//! Notices that an HTTP/1 client has gone while it waits for its answer. hyper does not read then, since a client may have said all it
//! has to say and still listen; and what nobody waits for any more would be held for as long as a server takes.

use crate::io::Stream;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Between two looks.
pub const LOOK: Duration = Duration::from_secs(5);
/// Who has said all and has no answer after so long is taken to have gone: an end says no more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for a look at the next flush: hyper flushes whenever it is polled. An atomic only because hyper wants streams that could move
/// to another thread.
#[derive(Clone, Debug, Default)]
pub struct Look(Arc<AtomicBool>);

impl Look {
    pub fn ask(&self) {
        self.0.store(true, Relaxed);
    }
}

#[derive(Debug)]
pub struct Watched {
    inner: Stream,
    look: Look,
    /// When the client was first seen to have ended.
    ended: Option<Instant>,
}

impl Watched {
    pub fn new(inner: Stream, look: Look) -> Watched {
        Watched { inner, look, ended: None }
    }

    /// What stands unread in the socket is behind what is being answered: as long as there is something, nobody can tell.
    fn has_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(socket) = self.inner.socket() else { return false };
        let mut byte = [0];
        match socket.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0)) => self.ended.get_or_insert_with(Instant::now).elapsed() >= PATIENCE,
            Poll::Ready(Err(_)) => true,
            Poll::Ready(Ok(_)) | Poll::Pending => false,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    crate::io::all_but_flush!();

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.look.0.load(Relaxed) {
            self.look.0.store(false, Relaxed);
            if self.has_gone(cx) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Http2KeepAlive,
        drain,
        http::{Version, body::ResponseBody, gate::Switch, server::serve},
        io::Transport,
        testing::run,
    };
    use http::Response;
    use std::{convert::Infallible, future::pending, rc::Rc};
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        sync::Notify,
        task::spawn_local,
        time,
    };

    /// A server that hangs would hold the places of all who have given up, until there is none left for anybody.
    #[test]
    fn a_client_that_has_gone_does_not_keep_its_place() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let asked = Rc::<Notify>::default();
            let (_drain, guard) = drain::new();
            let observer = guard.observer();
            let heard = asked.clone();
            let served = spawn_local(async move {
                let keep_alive = Http2KeepAlive { interval: None, timeout: LOOK };
                let service = move |_| {
                    heard.notify_one();
                    pending::<Result<Response<ResponseBody>, Infallible>>()
                };
                let stream = Transport::Tcp(socket).into();
                serve(stream, Version::Http1, keep_alive, Switch::default(), &observer, service).await
            });
            client.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
            asked.notified().await;
            drop(client);
            time::pause();
            let start = Instant::now();
            assert!(served.await.unwrap().is_err());
            let took = start.elapsed();
            assert!(took >= PATIENCE && took <= PATIENCE + 2 * LOOK, "after {took:?}");
        });
    }
}
