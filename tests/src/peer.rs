//! A peer in the mesh by hand: mutual TLS to a proxy's inbound port with whatever certificate, name and header a test wants.

use crate::client;
use anyhow::{Context, Result};
use bytes::{BufMut, BytesMut};
use prost::Message;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{net::SocketAddr, sync::Arc};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What a peer offers that will send a transport header.
pub const ALPN: &[&[u8]] = &[mesh_api::names::TRANSPORT_ALPN];

/// The transport header: what follows the TLS handshake on a connection with its ALPN.
#[derive(Clone, PartialEq, Message)]
pub struct TransportHeader {
    /// Port of the application.
    #[prost(int32, tag = "1")]
    pub port: i32,
    /// A gateway's target; empty for the pod's own application.
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub protocol: Option<SessionProtocol>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SessionProtocol {
    #[prost(oneof = "Session", tags = "1, 2")]
    pub kind: Option<Session>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Session {
    #[prost(message, tag = "1")]
    Http1(Empty),
    #[prost(message, tag = "2")]
    Http2(Empty),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Empty {}

const PREFIX: &[u8] = b"transport.l5d.io/v1\r\n\r\n";

impl TransportHeader {
    pub fn to_port(port: u16, session: Option<Session>) -> TransportHeader {
        let protocol = session.map(|kind| SessionProtocol { kind: Some(kind) });
        TransportHeader { port: port.into(), name: String::new(), protocol }
    }

    pub fn on_wire(&self) -> Vec<u8> {
        let message = self.encode_to_vec();
        let mut out = BytesMut::from(PREFIX);
        out.put_u32(message.len() as u32);
        out.put_slice(&message);
        out.to_vec()
    }
}

/// A TLS connection to `addr` that asks for `name`. TLS 1.3 clients learn of a refused certificate only with their first read.
pub async fn tls(addr: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).context("server name")?;
    let stream = client::connect(addr).await?;
    TlsConnector::from(config).connect(name, stream).await.context("TLS handshake")
}

/// A TLS connection that has sent a transport header for the application's port.
pub async fn through_header(
    addr: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
    header: TransportHeader,
) -> Result<TlsStream<TcpStream>> {
    let mut stream = tls(addr, name, config).await?;
    stream.write_all(&header.on_wire()).await?;
    stream.flush().await?;
    Ok(stream)
}
