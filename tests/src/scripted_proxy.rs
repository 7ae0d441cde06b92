//! The scripted proxy: asks a real operator what a proxy asks, and holds on to the streams.

use crate::{mesh::Operator, wait};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use linkerd2_proxy_api::{
    destination::{self, destination_client::DestinationClient},
    identity::{self, identity_client::IdentityClient},
    inbound::{self, inbound_server_policies_client::InboundServerPoliciesClient},
    net,
    outbound::{self, outbound_policies_client::OutboundPoliciesClient, traffic_spec::Target},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest,
        metrics_service_client::MetricsServiceClient,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
        number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message;
use rustls_pki_types::ServerName;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{Status, Streaming, transport::Channel};

/// A proxy of one workload.
#[derive(Clone, Debug)]
pub struct ScriptedProxy {
    channel: Channel,
    /// The text that says whose proxy this is, `{"ns":…,"pod":…}`.
    pub workload: String,
}

impl ScriptedProxy {
    /// The proxy of a pod of the namespace `demo`, on the operator of this story.
    pub async fn of(pod: &str) -> ScriptedProxy {
        ScriptedProxy::connect(Operator::GRPC, &format!(r#"{{"ns":"demo","pod":"{pod}"}}"#)).await
    }

    pub async fn connect(operator: SocketAddr, workload: &str) -> ScriptedProxy {
        let endpoint = Channel::from_shared(format!("http://{operator}")).expect("an address makes a URI");
        let channel =
            endpoint.connect().await.unwrap_or_else(|error| panic!("connect to {operator}: {error}"));
        ScriptedProxy { channel, workload: workload.into() }
    }

    /// As a proxy on a cluster that has no certificate yet: over TLS, of the operator that has this name.
    pub async fn secured(
        operator: SocketAddr,
        tls: Arc<rustls::ClientConfig>,
        name: &str,
        workload: &str,
    ) -> ScriptedProxy {
        let endpoint = Channel::from_shared(format!("http://{operator}")).expect("an address makes a URI");
        let (connector, name) = (TlsConnector::from(tls), name.to_owned());
        let connect = move |_| {
            let (connector, name) = (connector.clone(), name.clone());
            async move {
                let name = ServerName::try_from(name).map_err(io::Error::other)?;
                let connection = connector.connect(name, TcpStream::connect(operator).await?).await?;
                Ok::<_, io::Error>(TokioIo::new(connection))
            }
        };
        let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await;
        let channel = channel.unwrap_or_else(|error| panic!("connect to {operator}: {error}"));
        ScriptedProxy { channel, workload: workload.into() }
    }

    /// The same connection on behalf of another workload.
    pub fn as_workload(&self, workload: &str) -> ScriptedProxy {
        ScriptedProxy { channel: self.channel.clone(), workload: workload.into() }
    }

    pub async fn certify(
        &self,
        name: &str,
        token: &[u8],
        csr: &[u8],
    ) -> Result<identity::CertifyResponse, Status> {
        let request = identity::CertifyRequest {
            identity: name.into(),
            token: token.to_vec(),
            certificate_signing_request: csr.to_vec(),
        };
        Ok(IdentityClient::new(self.channel.clone()).certify(request).await?.into_inner())
    }

    pub async fn destination(&self, path: &str) -> Result<Watch<destination::Update>, Status> {
        let get = self.get(path);
        Watch::new(path, DestinationClient::new(self.channel.clone()).get(get).await)
    }

    pub async fn profile(&self, path: &str) -> Result<Watch<destination::DestinationProfile>, Status> {
        let get = self.get(path);
        Watch::new(path, DestinationClient::new(self.channel.clone()).get_profile(get).await)
    }

    /// By authority, as a standalone proxy or gateway asks.
    pub async fn outbound(&self, authority: &str) -> Result<Watch<outbound::OutboundPolicy>, Status> {
        self.outbound_to(authority, Target::Authority(authority.into())).await
    }

    /// By address, as a sidecar asks.
    pub async fn outbound_addr(&self, addr: SocketAddr) -> Result<Watch<outbound::OutboundPolicy>, Status> {
        self.outbound_to(&addr.to_string(), Target::Addr(net::TcpAddress::from(addr))).await
    }

    /// With any target, or none.
    pub async fn outbound_get(&self, target: Option<Target>) -> Result<outbound::OutboundPolicy, Status> {
        let spec = outbound::TrafficSpec { source_workload: self.workload.clone(), target };
        Ok(OutboundPoliciesClient::new(self.channel.clone()).get(spec).await?.into_inner())
    }

    async fn outbound_to(
        &self,
        what: &str,
        target: Target,
    ) -> Result<Watch<outbound::OutboundPolicy>, Status> {
        let spec = outbound::TrafficSpec { source_workload: self.workload.clone(), target: Some(target) };
        Watch::new(what, OutboundPoliciesClient::new(self.channel.clone()).watch(spec).await)
    }

    pub async fn inbound_get(&self, port: u32) -> Result<inbound::Server, Status> {
        let spec = inbound::PortSpec { workload: self.workload.clone(), port };
        Ok(InboundServerPoliciesClient::new(self.channel.clone()).get_port(spec).await?.into_inner())
    }

    pub async fn inbound(&self, port: u32) -> Result<Watch<inbound::Server>, Status> {
        let spec = inbound::PortSpec { workload: self.workload.clone(), port };
        Watch::new(
            &format!("port {port}"),
            InboundServerPoliciesClient::new(self.channel.clone()).watch_port(spec).await,
        )
    }

    /// One figure, as if of this Pod; answers what of it was refused, and why.
    pub async fn report(&self, namespace: &str, pod: &str) -> Result<ExportMetricsPartialSuccess, Status> {
        let text = |key: &str, value: &str| {
            let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
            KeyValue { key: key.into(), value, ..KeyValue::default() }
        };
        let attributes = vec![text("k8s.namespace.name", namespace), text("k8s.pod.name", pod)];
        let one = Some(number_data_point::Value::AsInt(1));
        let sum = Sum {
            data_points: vec![NumberDataPoint { value: one, ..NumberDataPoint::default() }],
            aggregation_temporality: AggregationTemporality::Delta as i32,
            is_monotonic: true,
        };
        let metric =
            Metric { name: "tcp_open_total".into(), data: Some(Data::Sum(sum)), ..Metric::default() };
        let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
        let resource = Some(Resource { attributes, ..Resource::default() });
        let part = ResourceMetrics { resource, scope_metrics: vec![scope], ..ResourceMetrics::default() };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![part] };
        let answer = MetricsServiceClient::new(self.channel.clone()).export(request).await?.into_inner();
        Ok(answer.partial_success.unwrap_or_default())
    }

    fn get(&self, path: &str) -> destination::GetDestination {
        destination::GetDestination {
            scheme: "k8s".into(),
            path: path.into(),
            context_token: self.workload.clone(),
        }
    }
}

/// `Destination.Get` streams of a proxy that never reads: HTTP/2 windows of no bytes at all, so that whatever is said to it waits
/// where it was said. Dropping it closes the connection.
#[derive(Debug)]
pub struct Stalled {
    _streams: Vec<h2::client::ResponseFuture>,
    connection: tokio::task::JoinHandle<()>,
}

impl Stalled {
    pub async fn destinations(operator: SocketAddr, path: &str, streams: usize) -> Stalled {
        let io = crate::client::connect(operator).await.expect("the operator listens");
        let mut windows = h2::client::Builder::new();
        let (mut client, connection) = windows
            .initial_window_size(0)
            .handshake::<_, Bytes>(io)
            .await
            .expect("the operator speaks HTTP/2");
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let get = destination::GetDestination { path: path.into(), ..Default::default() };
        let message = crate::grpc::framed(&get.encode_to_vec());
        let mut answers = vec![];
        for _ in 0..streams {
            let request = http::Request::post(format!(
                "http://{operator}/io.linkerd.proxy.destination.Destination/Get"
            ))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a valid request");
            client = client.ready().await.expect("an open connection");
            let (answer, mut body) = client.send_request(request, false).expect("a stream");
            body.send_data(message.clone(), true).expect("an open stream");
            answers.push(answer);
        }
        Stalled { _streams: answers, connection }
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Watch<T> {
    what: String,
    stream: Streaming<T>,
}

impl<T> Watch<T> {
    fn new(what: &str, answer: Result<tonic::Response<Streaming<T>>, Status>) -> Result<Watch<T>, Status> {
        Ok(Watch { what: what.into(), stream: answer?.into_inner() })
    }

    /// The next message, promptly.
    pub async fn next(&mut self) -> T {
        match self.next_or_end().await {
            Ok(Some(message)) => message,
            Ok(None) => panic!("the stream of {} ended", self.what),
            Err(status) => panic!("the stream of {} ended: {status}", self.what),
        }
    }

    /// The next message; `None` when the stream ends well.
    pub async fn next_or_end(&mut self) -> Result<Option<T>, Status> {
        let what = format!("a message of {}", self.what);
        wait::within(wait::SOON, &what, self.stream.message()).await
    }

    /// Reads on until a message fits; panics with what it last heard otherwise.
    pub async fn until(&mut self, what: &str, fits: impl Fn(&T) -> bool) -> T
    where
        T: std::fmt::Debug,
    {
        let mut last = None;
        let reading = async {
            loop {
                let message = self.stream.message().await;
                match message {
                    Ok(Some(message)) if fits(&message) => return message,
                    Ok(Some(message)) => last = Some(message),
                    end => panic!("the stream of {} ended ({end:?}) before {what}", self.what),
                }
            }
        };
        match tokio::time::timeout(wait::SOON, reading).await {
            Ok(message) => message,
            Err(_) => panic!("no message of {} was {what}; the last was {last:#?}", self.what),
        }
    }

    /// Panics when a message comes within this time.
    pub async fn is_silent_for(&mut self, time: Duration)
    where
        T: std::fmt::Debug,
    {
        if let Ok(message) = tokio::time::timeout(time, self.stream.message()).await {
            panic!("{} said {message:?} though nothing changed", self.what);
        }
    }
}
