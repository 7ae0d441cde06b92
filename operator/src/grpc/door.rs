//! How callers come in and who they are: in plaintext from loopback (standalone), or over TLS, where all but `Certify` wants a
//! certificate of the mesh.

use crate::{
    held::{Held, Place},
    listen,
    rate::Peer,
};
use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use futures_util::Stream;
use linkerd2_proxy_api::identity::identity_server;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    transport::server::{Connected, TcpConnectInfo},
};
use x509_parser::extensions::GeneralName;

/// Where callers come in.
#[derive(Debug)]
pub enum Door {
    /// Whoever can reach it is believed: to be bound to loopback only.
    Plain(TcpListener),
    /// Always with the newest configuration; clients' certificates are optional there and demanded per service here.
    Tls(TcpListener, watch::Receiver<Arc<ServerConfig>>),
}

/// Who asks. Stands in the extensions of every request that came over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub addr: SocketAddr,
    /// The one name in the certificate; `None` where there was no certificate.
    pub identity: Option<Arc<str>>,
}

/// A connection whose handshake is done.
pub struct Secured {
    tls: TlsStream<TcpStream>,
    caller: Caller,
    _place: Place<Peer>,
}

/// A handshake that has not ended by then never will.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way; more wait to be accepted.
const HANDSHAKES: usize = 512;

/// Connections as their handshakes end, so many from each host at a time: anybody may knock here. A client that dawdles holds up
/// nobody; one that fails is forgotten.
pub fn handshakes(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    per_host: u32,
) -> impl Stream<Item = io::Result<Secured>> {
    // When the server takes none for a while, finished handshakes wait here and then in their tasks, which are bounded.
    let (done, ready) = mpsc::channel(64);
    tokio::spawn(async move {
        let under_way = Arc::new(Semaphore::new(HANDSHAKES));
        let held = Held::new(per_host);
        loop {
            let Ok(permit) = under_way.clone().acquire_owned().await else { return };
            let (tcp, addr, place) = tokio::select! {
                accepted = listen::accept(&listener, &held) => accepted,
                () = done.closed() => return,
            };
            let acceptor = TlsAcceptor::from(config.borrow().clone());
            let done = done.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let shaken = time::timeout(HANDSHAKE, async {
                    tcp.set_nodelay(true)?;
                    Secured::new(acceptor.accept(tcp).await?, addr, place)
                });
                match shaken.await {
                    // Nobody takes it when the server has stopped: then it is closed.
                    Ok(Ok(secured)) => drop(done.send(Ok(secured)).await),
                    Ok(Err(error)) => tracing::debug!(%addr, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%addr, "TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(ready)
}

/// Puts the question who is calling before every service.
pub fn guarded(routes: Router) -> Router {
    routes.layer(middleware::from_fn(admit))
}

async fn admit(mut request: Request, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return refuse(Status::internal("who is calling is not known"));
    };
    let service = request.uri().path().split('/').nth(1);
    if caller.identity.is_none() && service != Some(identity_server::SERVICE_NAME) {
        return refuse(Status::unauthenticated("a certificate of the mesh is needed"));
    }
    // Where tonic looks for the peer's address.
    request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(caller.addr) });
    next.run(request).await
}

fn refuse(status: Status) -> Response {
    status.into_http::<Body>()
}

impl Secured {
    fn new(tls: TlsStream<TcpStream>, addr: SocketAddr, place: Place<Peer>) -> io::Result<Secured> {
        let certificates = tls.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(<[_]>::first);
        let identity = match certificate.map(name) {
            None => None,
            Some(Some(name)) => Some(name),
            Some(None) => return Err(io::Error::other("the certificate has no identity")),
        };
        Ok(Secured { tls, caller: Caller { addr, identity }, _place: place })
    }
}

/// The one DNS name of a certificate that the handshake has verified.
fn name(certificate: &CertificateDer<'static>) -> Option<Arc<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    match names.value.general_names[..] {
        [GeneralName::DNSName(name)] => Some(name.into()),
        _ => None,
    }
}

/// Tonic puts this into every request's extensions.
impl Connected for Secured {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        all: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
