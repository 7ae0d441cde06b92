//! Listens, accepts, sets socket options, and hands connections on. Never ends because of one connection.

use crate::{
    config::Tcp,
    drain::{Guard, Observer},
    io::{Stream, Transport, set_options},
    orig_dst::{self, OrigDst},
};
use std::{
    cell::Cell,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::spawn_local,
    time,
};

/// Pending connections that the kernel keeps; it caps this at its own limit.
const BACKLOG: u32 = 4_096;
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

/// Who listens at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Several workers: the kernel deals connections out.
    Workers,
    Nobody,
}

/// Opens an address. `[::]` stands for every address of both families, a listener for each, so that none of IPv4 comes in the guise
/// of one of IPv6; where the kernel has no IPv6, what is left is IPv4.
pub fn listen(addr: SocketAddr, share: Share) -> io::Result<Vec<TcpListener>> {
    if addr.is_ipv4() || !addr.ip().is_unspecified() {
        return Ok(vec![open(addr, share)?]);
    }
    let v4 = open((Ipv4Addr::UNSPECIFIED, addr.port()).into(), share)?;
    // The kernel has chosen one if it was to.
    let port = v4.local_addr()?.port();
    match open((Ipv6Addr::UNSPECIFIED, port).into(), share) {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(error) if lacks_ipv6(&error) => Ok(vec![v4]),
        Err(error) => Err(error),
    }
}

/// Whether listening failed because this kernel, or this network, does not speak IPv6.
pub fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn open(addr: SocketAddr, share: Share) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            socket2::SockRef::from(&socket).set_only_v6(true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(share == Share::Workers)?;
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

/// Accepts until then, so many at once. Each connection holds the drain.
pub async fn run<F>(
    listener: TcpListener,
    kind: Kind,
    until: Until,
    places: usize,
    options: Tcp,
    serve: impl Fn(Accepted) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let Ok(addr) = listener.local_addr() else { return };
    let open = Rc::new(Cell::new(0));
    loop {
        if open.get() >= places {
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

/// One of those that there are.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families_each_in_its_own_form() {
        let listeners = listen("[::]:0".parse().unwrap(), Share::Nobody).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        let clients = ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        for (listener, to) in listeners.iter().zip(clients) {
            let client = TcpStream::connect(to).await.unwrap();
            let (accepted, from) = listener.accept().await.unwrap();
            assert_eq!((from, accepted.local_addr().unwrap()), (client.local_addr().unwrap(), to));
        }
    }

    #[tokio::test]
    async fn what_another_listens_at_is_refused_and_is_no_lack_of_ipv6() {
        let first = listen("[::]:0".parse().unwrap(), Share::Nobody).unwrap();
        let error = listen(first[0].local_addr().unwrap(), Share::Nobody).unwrap_err();
        assert!(error.kind() == io::ErrorKind::AddrInUse && !lacks_ipv6(&error), "{error}");
        // An address of documentation is nobody's.
        assert!(lacks_ipv6(&listen("[2001:db8::1]:0".parse().unwrap(), Share::Nobody).unwrap_err()));
    }
}
