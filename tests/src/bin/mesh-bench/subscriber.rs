//! Subscribers: gRPC streams with nothing around them, over mutual TLS as proxies come, each proxy on a connection of its own.

use crate::{api_server::ApiServer, objects};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use linkerd2_proxy_api::{destination::GetDestination, inbound::PortSpec, outbound::TrafficSpec};
use mesh_tests::grpc::framed;
use prost::Message;
use rcgen::{CertificateParams, DistinguishedName, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

const OPERATOR: &str = "mesh-operator.mesh.serviceaccount.identity.mesh.cluster.local";
const PROXY: &str = "bench.n0.serviceaccount.identity.mesh.cluster.local";

/// What all subscribers share: a certificate of the mesh.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// Signed with the issuer that the operator has left at the API server.
    pub fn new(server: &ApiServer) -> Result<Tls> {
        let secret = server.get("/api/v1/secrets", "mesh/mesh-identity");
        let secret = secret.context("the operator has made no Secret")?;
        let field = |name: &str| -> Result<String> {
            let text = secret["data"][name].as_str().with_context(|| format!("the Secret has no {name}"))?;
            Ok(String::from_utf8(STANDARD.decode(text)?)?)
        };
        let (issuer, anchors) = (field("tls.crt")?, field("ca.crt")?);
        let signer = Issuer::from_ca_cert_pem(&issuer, KeyPair::from_pem(&field("tls.key")?)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![PROXY.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        let leaf = params.signed_by(&key, &signer)?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(CertificateDer::pem_slice_iter(issuer.as_bytes()).collect::<Result<Vec<_>, _>>()?);
        let mut roots = RootCertStore::empty();
        for anchor in CertificateDer::pem_slice_iter(anchors.as_bytes()) {
            roots.add(anchor?)?;
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }

    async fn connect(&self, operator: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(operator).await?;
        tcp.set_nodelay(true)?;
        Ok(self.0.connect(ServerName::try_from(OPERATOR)?, tcp).await?)
    }
}

/// One proxy's connection. Its streams end with it.
pub struct Proxy {
    send: SendRequest<Bytes>,
    /// Where it is, as proxies say it when they ask for endpoints.
    context: String,
    tasks: JoinSet<()>,
}

impl Proxy {
    /// The one beside the first Pod of a Service.
    pub async fn connect(tls: &Tls, operator: SocketAddr, of: usize) -> Result<Proxy> {
        let io = tls.connect(operator).await?;
        let (send, connection) = h2::client::handshake(io).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            let _ = connection.await;
        });
        Ok(Proxy { send, context: objects::context(of), tasks })
    }

    /// Watches a Service's endpoints; each message is told as it comes.
    pub async fn destination(
        &mut self,
        service: usize,
        told: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<()> {
        let (name, namespace) = objects::names(service);
        let request = GetDestination {
            path: format!("{name}.{namespace}.svc.cluster.local:80"),
            context_token: self.context.clone(),
            ..GetDestination::default()
        };
        self.open("io.linkerd.proxy.destination.Destination/Get", &request, told).await
    }

    /// Watches what a proxy watches beside that: where to go, and who may come in.
    pub async fn policies(&mut self, service: usize) -> Result<()> {
        let (name, namespace) = objects::names(service);
        let workload = format!(r#"{{"ns":"{namespace}","pod":"{}"}}"#, objects::pod_name(service, 0));
        let target = linkerd2_proxy_api::outbound::traffic_spec::Target::Authority(format!(
            "{name}.{namespace}.svc.cluster.local:80"
        ));
        let outbound = TrafficSpec { source_workload: workload.clone(), target: Some(target) };
        self.open("io.linkerd.proxy.outbound.OutboundPolicies/Watch", &outbound, |_| ()).await?;
        let inbound = PortSpec { workload, port: 8080 };
        self.open("io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort", &inbound, |_| ()).await
    }

    /// Returns when the first message has come.
    async fn open(
        &mut self,
        method: &str,
        request: &impl Message,
        mut told: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<()> {
        let head = http::Request::post(format!("https://{OPERATOR}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (answer, mut body) = self.send.clone().ready().await?.send_request(head, false)?;
        body.send_data(framed(&request.encode_to_vec()), true)?;
        let answer = answer.await?;
        let status = answer.headers().get("grpc-status").cloned();
        ensure!(status.is_none(), "{method}: {status:?} {:?}", answer.headers().get("grpc-message"));
        let mut messages = Messages { body: answer.into_body(), read: BytesMut::new() };
        let first = messages.next().await.with_context(|| format!("{method} ended at once"))?;
        told(&first);
        self.tasks.spawn(async move {
            while let Some(message) = messages.next().await {
                told(&message);
            }
        });
        Ok(())
    }
}

struct Messages {
    body: h2::RecvStream,
    read: BytesMut,
}

impl Messages {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = self.read.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
                if self.read.len() >= 5 + length {
                    self.read.advance(5);
                    return Some(self.read.split_to(length).freeze());
                }
            }
            let data = self.body.data().await?.ok()?;
            let _ = self.body.flow_control().release_capacity(data.len());
            self.read.extend_from_slice(&data);
        }
    }
}

/// A subscriber that has asked and then reads nothing at all.
pub struct Stuck {
    _connection: h2::client::Connection<TlsStream<TcpStream>, Bytes>,
    _streams: (SendRequest<Bytes>, h2::client::ResponseFuture),
}

impl Stuck {
    pub async fn connect(tls: &Tls, operator: SocketAddr, service: usize) -> Result<Stuck> {
        let (mut send, mut connection) = h2::client::handshake(tls.connect(operator).await?).await?;
        let (name, namespace) = objects::names(service);
        let path = format!("{name}.{namespace}.svc.cluster.local:80");
        let head =
            http::Request::post(format!("https://{OPERATOR}/io.linkerd.proxy.destination.Destination/Get"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())?;
        let (mut answer, mut body) = send.send_request(head, false)?;
        let request = GetDestination { path, ..GetDestination::default() };
        body.send_data(framed(&request.encode_to_vec()), true)?;
        // Driven until it is answered, and never again.
        tokio::select! {
            answered = &mut answer => drop(answered?),
            ended = &mut connection => ended?,
        }
        Ok(Stuck { _connection: connection, _streams: (send, answer) })
    }
}
