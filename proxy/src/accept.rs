//! Listens, accepts, sets socket options, and hands connections on. Never ends because of one connection.

use crate::{
    config::Tcp,
    drain::{Guard, Observer},
    io::{Stream, Transport, set_options},
    orig_dst::{self, OrigDst},
};
use std::{cell::Cell, io, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::spawn_local,
    time,
};

/// Pending connections that the kernel keeps; it caps this at its own limit.
const BACKLOG: u32 = 4_096;
/// Connections of one listener of one worker; more wait in the kernel. Each costs some 16 kB.
const MAX_OPEN: usize = 16_384;
/// After an error that the next accept would meet again, such as no file descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// What a listener's connections were meant for.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Redirected to us, or sent to us by name.
    Redirected,
    /// The listener stands in for the application's port.
    Direct,
}

#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    pub client: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    pub dst: OrigDst,
}

/// Opens a listener that several workers share: the kernel deals connections out.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// When a listener closes.
#[derive(Debug)]
pub enum Until {
    /// Peers go elsewhere: a connection that is refused has not been sent anything.
    Drain(Guard),
    /// The application needs its way out for as long as it has work.
    End(Observer),
}

impl Until {
    async fn reached(&self) {
        match self {
            Until::Drain(guard) => guard.draining().await,
            Until::End(_) => std::future::pending().await,
        }
    }

    /// For one connection; `None` when it is too late for one.
    fn hold(&self) -> Option<Guard> {
        match self {
            Until::Drain(guard) => Some(guard.clone()),
            Until::End(observer) => observer.guard(),
        }
    }
}

/// Accepts until then. Each connection holds the drain.
pub async fn run<F>(
    listener: TcpListener,
    kind: Kind,
    until: Until,
    options: Tcp,
    serve: impl Fn(Accepted) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let Ok(addr) = listener.local_addr() else { return };
    let open = Rc::new(Cell::new(0));
    loop {
        if open.get() >= MAX_OPEN {
            time::sleep(PAUSE).await;
            continue;
        }
        let accepted = tokio::select! {
            biased;
            () = until.reached() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%addr, %error, "cannot accept a connection");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        set_options(&socket, options);
        let connection = serve(describe(socket, client, addr, kind));
        let Some(guard) = until.hold() else { return };
        let place = Place::new(&open);
        spawn_local(async move {
            connection.await;
            drop((place, guard));
        });
    }
}

fn describe(socket: TcpStream, client: SocketAddr, listener: SocketAddr, kind: Kind) -> Accepted {
    let dst = match kind {
        Kind::Redirected => orig_dst::of(&socket, listener),
        Kind::Direct => OrigDst::Fixed(listener),
    };
    let local = socket.local_addr().unwrap_or(listener);
    Accepted { stream: Transport::Tcp(socket).into(), client, local, dst }
}

/// One of `MAX_OPEN`.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn new(open: &Rc<Cell<usize>>) -> Place {
        open.set(open.get() + 1);
        Place(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
