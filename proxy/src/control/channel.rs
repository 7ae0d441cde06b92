//! The gRPC connection to a service of the control plane: plaintext on loopback, else mesh TLS. Connects when it is first
//! used, and again whenever it is used after it broke; when to try again is the caller's business.

use super::calls::Channel;
use crate::{
    complaint::Complaint,
    config::{HostPort, Security, Service},
    identity::{Credentials, anchors::Anchors},
    telemetry::Worker,
    tls::configs,
};
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time,
};
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

/// TCP and TLS handshake together; also how long a connection waits for our first certificate.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// As Linkerd's; a control plane that has silently gone is noticed within 13 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A Service with some thirty thousand endpoints. What is larger is refused, and the last good answer stays.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// What proves who we are and who they are.
#[derive(Clone, Debug)]
enum Trust {
    /// Only they prove something: we have no certificate yet.
    Anchors(watch::Receiver<Anchors>),
    Credentials(watch::Receiver<Option<Arc<Credentials>>>),
}

/// A channel with our certificate. Fails calls until there is one, unless the address is loopback.
pub fn channel(
    service: &Service,
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    worker: &Worker,
) -> Channel {
    lazy(Connector::new(service, Trust::Credentials(credentials)), worker)
}

/// Channels without a certificate of ours, to ask for one.
pub fn anonymous(
    service: &Service,
    anchors: watch::Receiver<Anchors>,
    worker: &Worker,
) -> impl Fn() -> Channel {
    let connector = Connector::new(service, Trust::Anchors(anchors));
    let worker = worker.clone();
    move || lazy(connector.clone(), &worker)
}

fn lazy(connector: Connector, worker: &Worker) -> Channel {
    let addr = connector.service.addr.to_string();
    let channel = Endpoint::from_shared(format!("http://{addr}"))
        .expect("a host that was parsed is an authority")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector);
    Channel::new(channel, &addr, worker)
}

#[derive(Clone)]
struct Connector {
    service: Service,
    trust: Trust,
    /// The one place that says that the control plane is away: its many users need not.
    complaint: Arc<Mutex<Complaint>>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let connected = time::timeout(CONNECT_TIMEOUT, connector.connect()).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            connected.map(TokioIo::new).map_err(|error| {
                let text = format!("connect to control plane at {}: {error}", connector.service.addr);
                let mut complaint = connector.complaint.lock().unwrap_or_else(PoisonError::into_inner);
                complaint.tell(&format!("{text}; trying again"));
                io::Error::new(error.kind(), text)
            })
        })
    }
}

impl Connector {
    fn new(service: &Service, trust: Trust) -> Connector {
        Connector { service: service.clone(), trust, complaint: Arc::default() }
    }

    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let HostPort { host, port } = &self.service.addr;
        let tls = match &self.service.security {
            Security::Plaintext => None,
            Security::Tls(identity) => Some((self.client_config().await?, server_name(identity)?)),
        };
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        tcp.set_nodelay(true)?;
        let Some((config, name)) = tls else { return Ok(Box::new(tcp)) };
        Ok(Box::new(TlsConnector::from(config).connect(name, tcp).await?))
    }

    async fn client_config(&self) -> io::Result<Arc<ClientConfig>> {
        match self.trust.clone() {
            Trust::Anchors(anchors) => {
                let roots = anchors.borrow().roots.clone();
                configs::anonymous_client(&roots).map(Arc::new).map_err(io::Error::other)
            }
            Trust::Credentials(mut credentials) => {
                let credentials = credentials.wait_for(Option::is_some).await.map_err(io::Error::other)?;
                credentials
                    .as_ref()
                    .map(|credentials| credentials.client_plain.clone())
                    .ok_or_else(|| io::Error::other("no certificate"))
            }
        }
    }
}

fn server_name(identity: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(identity.to_owned()).map_err(io::Error::other)
}
