//! Where a connection was meant to go before it was redirected to us.

use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;

/// How the destination of an accepted connection is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrigDst {
    /// The kernel redirected the connection and remembers this address.
    Socket(SocketAddr),
    /// The client connected to us on purpose (`http_proxy`): each request names its destination.
    Authority,
    /// The listener stands in for this address.
    Fixed(SocketAddr),
}

/// Asks the kernel. A connection that was not redirected answers with our own address, or with none.
pub fn of(socket: &TcpStream, listener: SocketAddr) -> OrigDst {
    let socket = socket2::SockRef::from(socket);
    let original = match listener.ip() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    match original.ok().and_then(|addr| addr.as_socket()) {
        Some(addr) if !is_listener(addr, listener) => OrigDst::Socket(addr),
        Some(_) | None => OrigDst::Authority,
    }
}

/// A listener on the unspecified address is reached by every address of its port.
pub fn is_listener(addr: SocketAddr, listener: SocketAddr) -> bool {
    addr.port() == listener.port() && (listener.ip().is_unspecified() || addr.ip() == listener.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_was_not_redirected_goes_by_authority() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let _client = TcpStream::connect(addr).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        assert_eq!(of(&socket, addr), OrigDst::Authority);
    }
}
