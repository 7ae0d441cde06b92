//! Servers of bytes: echo, one that speaks first, WebSocket echo, one that answers with given bytes and records what it got.

use futures_util::{SinkExt, StreamExt};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};

/// Dropping it closes everything.
#[derive(Debug)]
pub struct Server {
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    accept: JoinHandle<()>,
}

impl Server {
    /// All bytes of each connection so far, in order of connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().expect("no test panics with this lock").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

/// Sends everything back.
pub async fn echo(addr: SocketAddr) -> Server {
    serve(addr, |mut stream, keep| async move {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            keep.push(&chunk[..read]);
            if stream.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
        let _ = stream.shutdown().await;
    })
    .await
}

/// Greets as soon as it is connected to, then sends everything back.
pub async fn greets(addr: SocketAddr, greeting: &'static [u8]) -> Server {
    serve(addr, move |mut stream, keep| async move {
        if stream.write_all(greeting).await.is_err() {
            return;
        }
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            keep.push(&chunk[..read]);
            if stream.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Answers every request head with the same bytes, and keeps the connection open.
pub async fn answers(addr: SocketAddr, answer: &'static [u8]) -> Server {
    serve(addr, move |mut stream, keep| async move {
        let mut chunk = vec![0; 16 * 1024];
        let mut seen = Vec::new();
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            keep.push(&chunk[..read]);
            seen.extend_from_slice(&chunk[..read]);
            while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
                seen.drain(..end + 4);
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// A WebSocket server that sends every message back.
pub async fn websocket(addr: SocketAddr) -> Server {
    serve(addr, |stream, keep| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            keep.push(&message.clone().into_data());
            if message.is_close() || socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Where a connection's bytes are recorded.
#[derive(Clone, Debug)]
pub struct Keep {
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    connection: usize,
}

impl Keep {
    pub fn push(&self, bytes: &[u8]) {
        self.received.lock().expect("no test panics with this lock")[self.connection]
            .extend_from_slice(bytes);
    }
}

pub async fn serve<S>(addr: SocketAddr, connection: impl Fn(TcpStream, Keep) -> S + Send + 'static) -> Server
where
    S: Future<Output = ()> + Send + 'static,
{
    let listener = crate::netns::listen(addr).await;
    let received: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let keep = Arc::clone(&received);
    let accept = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let mut all = keep.lock().expect("no test panics with this lock");
            all.push(Vec::new());
            let keep = Keep { received: Arc::clone(&keep), connection: all.len() - 1 };
            connections.spawn(connection(stream, keep));
        }
    });
    Server { addr, received, accept }
}
