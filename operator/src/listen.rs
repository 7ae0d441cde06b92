//! Opens the ports at which others ask us.

use anyhow::Context;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

/// `[::]` is every address of both families; where there is no IPv6, of IPv4.
pub async fn listen(addr: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let mut listening = TcpListener::bind(addr).await;
    if listening.is_err() && addr.is_ipv6() && addr.ip().is_unspecified() {
        listening = TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await;
    }
    listening.with_context(|| {
        format!("listening on {addr} (is another operator running? choose another with {flag})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = listen("[::]:0".parse().unwrap(), "--addr").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for ip in ["127.0.0.1", "::1"] {
            let _client = TcpStream::connect((ip, port)).await.unwrap();
            let (_, from) = listener.accept().await.unwrap();
            assert_eq!(from.ip().to_canonical().to_string(), ip);
        }
        let taken = listen(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), "--addr").await;
        assert!(format!("{:#}", taken.unwrap_err()).contains("--addr"));
    }
}
