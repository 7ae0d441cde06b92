//! A TCP relay that keeps every byte that passes, for looking at the hop between two proxies, and that can be cut or stand still.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};

#[derive(Debug)]
pub struct Relay {
    pub addr: SocketAddr,
    passed: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    refuses: Arc<AtomicBool>,
    /// How often the connections of then were told to stand still.
    stalls: Arc<AtomicUsize>,
    accept: JoinHandle<()>,
}

impl Relay {
    pub async fn start(addr: SocketAddr, to: SocketAddr) -> Relay {
        let listener = crate::netns::listen(addr).await;
        let passed: Arc<Mutex<Vec<u8>>> = Arc::default();
        let connections: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let refuses: Arc<AtomicBool> = Arc::default();
        let stalls: Arc<AtomicUsize> = Arc::default();
        let (keep, open, shut) = (Arc::clone(&passed), Arc::clone(&connections), Arc::clone(&refuses));
        let stalled = Arc::clone(&stalls);
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shut.load(Ordering::Relaxed) {
                    continue;
                }
                let relayed = relay(client, to, Arc::clone(&keep), Arc::clone(&stalled));
                open.lock().expect("no test panics with this lock").spawn(relayed);
            }
        });
        Relay { addr, passed, connections, refuses, stalls, accept }
    }

    /// Everything that has passed, both directions mixed.
    pub fn passed(&self) -> Vec<u8> {
        self.passed.lock().expect("no test panics with this lock").clone()
    }

    /// Whether a text stood anywhere in what has passed.
    pub fn has_passed(&self, text: &str) -> bool {
        let passed = self.passed.lock().expect("no test panics with this lock");
        passed.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
    }

    /// Closes every connection, open or new, until told otherwise.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
        self.cut();
    }

    /// From now on no byte passes on the connections that are open, as if the other machine had lost its power; new ones work.
    pub fn stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes every open connection; new ones are taken.
    pub fn cut(&self) {
        self.connections.lock().expect("no test panics with this lock").abort_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accept.abort();
        self.cut();
    }
}

async fn relay(client: TcpStream, to: SocketAddr, keep: Arc<Mutex<Vec<u8>>>, stalls: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let begun = stalls.load(Ordering::Relaxed);
    let stands_still = || stalls.load(Ordering::Relaxed) != begun;
    tokio::join!(
        copy(from_client, to_server, &keep, stands_still),
        copy(from_server, to_client, &keep, stands_still)
    );
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    keep: &Mutex<Vec<u8>>,
    stands_still: impl Fn() -> bool,
) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut chunk).await {
        if stands_still() {
            return std::future::pending().await;
        }
        if read == 0 {
            break;
        }
        keep.lock().expect("no test panics with this lock").extend_from_slice(&chunk[..read]);
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
