//! The scripted control plane: speaks linkerd2-proxy-api to a real proxy and does exactly what a test says. It decides nothing:
//! whoever asks for something that no test has set gets `NOT_FOUND`.

pub mod message;

use crate::{
    grpc::{self, Answer, Calls, Code, Step},
    pki::{Ca, Validity, requested_names},
    wait::{self, SOON},
};
use bytes::Bytes;
use linkerd2_proxy_api::{destination, identity, inbound, outbound};
use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message;
use std::{
    collections::HashMap,
    marker::PhantomData,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::mpsc;

/// A method of the contract that answers with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rpc {
    Destination,
    Profile,
    Outbound,
    Inbound,
}

/// What a new stream gets first.
#[derive(Clone, Debug)]
enum First {
    Messages(Vec<Bytes>),
    Refuse(Code),
    /// Headers, then nothing.
    Nothing,
    /// Not even headers.
    Silence,
}

/// One question, as all proxies ask it.
#[derive(Debug, Default)]
struct Subject {
    first: Option<First>,
    live: Vec<mpsc::UnboundedSender<Step>>,
    asked: Vec<Bytes>,
}

#[derive(Debug)]
struct State {
    subjects: HashMap<(Rpc, String), Subject>,
    certify: Certify,
    certified: Vec<identity::CertifyRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
    traces: Vec<ExportTraceServiceRequest>,
    otlp_refused: Option<Code>,
    /// How many exports of metrics were refused.
    metrics_refused: usize,
}

/// What may happen to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    End,
    Unavailable,
    NotFound,
    Reset,
    /// A frame that holds no message.
    Garbage,
    /// Not even a frame.
    Raw,
}

/// How certificates are asked for.
#[derive(Clone, Debug)]
pub enum Certify {
    /// Signs for the name that is asked.
    Sign {
        ca: Arc<Ca>,
        validity: Validity,
    },
    /// Signs, but for another name than asked.
    SignAs {
        ca: Arc<Ca>,
        name: String,
    },
    /// This response to whoever asks.
    Response(identity::CertifyResponse),
    /// These bytes in place of a response.
    Garbage(&'static [u8]),
    Refuse(Code),
    Silence,
}

#[derive(Debug)]
pub struct ControlPlane {
    pub addr: SocketAddr,
    pub ca: Arc<Ca>,
    state: Arc<Shared>,
    server: Mutex<Option<grpc::Server>>,
}

#[derive(Debug)]
struct Shared(Mutex<State>);

impl ControlPlane {
    /// Listens on the operator's usual address with a new trust anchor; certificates last a day.
    pub async fn start() -> ControlPlane {
        let control_plane = ControlPlane::stopped();
        control_plane.restart().await;
        control_plane
    }

    /// Listens elsewhere.
    pub async fn listening(addr: SocketAddr) -> ControlPlane {
        let control_plane = ControlPlane { addr, ..ControlPlane::stopped() };
        control_plane.restart().await;
        control_plane
    }

    /// Not listening yet.
    pub fn stopped() -> ControlPlane {
        let ca = Arc::new(Ca::new("mesh of a test"));
        let state = State {
            subjects: HashMap::new(),
            certify: Certify::Sign { ca: ca.clone(), validity: Validity::DAY },
            certified: Vec::new(),
            metrics: Vec::new(),
            traces: Vec::new(),
            otlp_refused: None,
            metrics_refused: 0,
        };
        ControlPlane {
            addr: SocketAddr::from(([127, 0, 0, 1], mesh_api::names::OPERATOR_GRPC_PORT)),
            ca,
            state: Arc::new(Shared(Mutex::new(state))),
            server: Mutex::new(None),
        }
    }

    /// Closes the port and every connection.
    pub async fn stop(&self) {
        let server = self.server.lock().expect("no test panics with this lock").take();
        if let Some(server) = server {
            server.stop().await;
        }
        for subject in self.state.lock().subjects.values_mut() {
            subject.live.clear();
        }
    }

    /// Listens again. What was set before still holds.
    pub async fn restart(&self) {
        let server = grpc::Server::start(self.addr, self.state.clone()).await;
        *self.server.lock().expect("no test panics with this lock") = Some(server);
    }

    /// Endpoints of a path such as `web.demo.svc.cluster.local:80`.
    pub fn destination(&self, path: &str) -> Topic<'_, destination::Update> {
        self.topic(Rpc::Destination, path)
    }

    pub fn profile(&self, path: &str) -> Topic<'_, destination::DestinationProfile> {
        self.topic(Rpc::Profile, path)
    }

    /// Policy towards a target: an authority, or `ip:port` where the proxy asks by address.
    pub fn outbound(&self, target: &str) -> Topic<'_, outbound::OutboundPolicy> {
        self.topic(Rpc::Outbound, target)
    }

    /// Policy of a port of the application whose workload text is `workload`.
    pub fn inbound(&self, workload: &str, port: u16) -> Topic<'_, inbound::Server> {
        self.topic(Rpc::Inbound, &format!("{workload}:{port}"))
    }

    fn topic<M>(&self, rpc: Rpc, key: &str) -> Topic<'_, M> {
        Topic { state: &self.state, key: (rpc, key.to_owned()), of: PhantomData }
    }

    /// From now on certificates are handled so.
    pub fn certify(&self, how: Certify) {
        self.state.lock().certify = how;
    }

    /// All requests for a certificate so far.
    pub fn certified(&self) -> Vec<identity::CertifyRequest> {
        self.state.lock().certified.clone()
    }

    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.state.lock().metrics.clone()
    }

    pub fn traces(&self) -> Vec<ExportTraceServiceRequest> {
        self.state.lock().traces.clone()
    }

    /// How many exports of metrics were refused so far.
    pub fn metrics_refused(&self) -> usize {
        self.state.lock().metrics_refused
    }

    /// From now on telemetry is refused with this code, or taken again.
    pub fn refuse_telemetry(&self, code: Option<Code>) {
        self.state.lock().otlp_refused = code;
    }

    /// Every question that was asked, as text: for messages of failed tests.
    pub fn asked(&self) -> Vec<String> {
        let mut asked: Vec<_> =
            self.state.lock().subjects.keys().map(|(rpc, key)| format!("{rpc:?} {key}")).collect();
        asked.sort();
        asked
    }
}

/// One question and how it is answered, for every proxy that asks it.
#[derive(Debug)]
pub struct Topic<'a, M> {
    state: &'a Shared,
    key: (Rpc, String),
    of: PhantomData<M>,
}

impl<M: Message + Default> Topic<'_, M> {
    /// The answer from now on: sent to new streams first and to open ones now.
    pub fn set(&self, message: M) {
        self.first([&message]);
        self.push(&message);
    }

    /// What new streams are sent first; open ones hear nothing.
    pub fn first<'m>(&self, messages: impl IntoIterator<Item = &'m M>)
    where
        M: 'm,
    {
        let messages = messages.into_iter().map(|message| message.encode_to_vec().into()).collect();
        self.with(|subject| subject.first = Some(First::Messages(messages)));
    }

    /// Sends to open streams only.
    pub fn push(&self, message: &M) {
        self.step(|| Step::Message(message.encode_to_vec().into()));
    }

    /// Sends bytes that are no message, correctly framed, to open streams.
    pub fn push_garbage(&self, bytes: &'static [u8]) {
        self.step(|| Step::Message(Bytes::from_static(bytes)));
    }

    /// Sends bytes that are not even a frame to open streams.
    pub fn push_raw(&self, bytes: &'static [u8]) {
        self.step(|| Step::Raw(Bytes::from_static(bytes)));
    }

    /// New streams are refused.
    pub fn refuse(&self, code: Code) {
        self.with(|subject| subject.first = Some(First::Refuse(code)));
    }

    /// New streams open and stay empty.
    pub fn hold(&self) {
        self.with(|subject| subject.first = Some(First::Nothing));
    }

    /// New streams are not even opened.
    pub fn silence(&self) {
        self.with(|subject| subject.first = Some(First::Silence));
    }

    /// Ends the open streams with a status.
    pub fn end(&self, code: Code) {
        self.step(|| Step::Status(code, "the test says so".into()));
        self.with(|subject| subject.live.clear());
    }

    /// Resets the open streams.
    pub fn reset(&self) {
        self.step(|| Step::Reset);
        self.with(|subject| subject.live.clear());
    }

    /// How often it was asked.
    pub fn times_asked(&self) -> usize {
        self.with(|subject| subject.asked.len())
    }

    /// The requests, encoded as they came.
    pub fn requests<R: Message + Default>(&self) -> Vec<R> {
        let asked = self.with(|subject| subject.asked.clone());
        asked.into_iter().map(|bytes| R::decode(bytes).expect("a valid request")).collect()
    }

    /// Streams that are open now.
    pub fn streams(&self) -> usize {
        self.with(|subject| {
            subject.live.retain(|stream| !stream.is_closed());
            subject.live.len()
        })
    }

    /// Waits until it was asked at least `times`.
    pub async fn asked(&self, times: usize, within: Duration) {
        let what = format!("{:?} of {} to be asked {times} times", self.key.0, self.key.1);
        wait::until(&what, within, async || match self.times_asked() {
            asked if asked >= times => Ok(()),
            asked => Err(format!("asked {asked} times")),
        })
        .await;
    }

    /// Breaks the open stream.
    pub fn fault(&self, fault: Fault) {
        match fault {
            Fault::End => self.end(Code::Ok),
            Fault::Unavailable => self.end(Code::Unavailable),
            Fault::NotFound => self.end(Code::NotFound),
            Fault::Reset => self.reset(),
            Fault::Garbage => self.push_garbage(b"\xff\xff\xff\xff"),
            Fault::Raw => self.push_raw(b"\x07\xff\xff\xff\xffno frame"),
        }
    }

    /// Waits until exactly one stream is open.
    pub async fn has_a_stream(&self) {
        let what = format!("a stream of {:?} of {}", self.key.0, self.key.1);
        wait::until(&what, SOON, async || match self.streams() {
            1 => Ok(()),
            other => Err(format!("{other} are open")),
        })
        .await;
    }

    /// Holds that it is not asked again and again: a few times in two seconds at most.
    pub async fn is_asked_seldom(&self) {
        let asked = self.times_asked();
        wait::always("patience", Duration::from_secs(2), async || match self.times_asked() - asked {
            0..=4 => Ok(()),
            more => Err(format!("asked {more} times more")),
        })
        .await;
    }

    fn step(&self, step: impl Fn() -> Step) {
        self.with(|subject| subject.live.retain(|stream| stream.send(step()).is_ok()));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Subject) -> T) -> T {
        act(self.state.lock().subjects.entry(self.key.clone()).or_default())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with this lock")
    }

    fn watch(&self, rpc: Rpc, key: String, request: Bytes) -> Answer {
        let mut state = self.lock();
        let subject = state.subjects.entry((rpc, key)).or_default();
        subject.asked.push(request);
        let messages = match subject.first.clone() {
            None => return Answer::Refuse(Code::NotFound, "no test has set it".into()),
            Some(First::Refuse(code)) => return Answer::Refuse(code, "the test says so".into()),
            Some(First::Silence) => return Answer::Silence,
            Some(First::Nothing) => vec![],
            Some(First::Messages(messages)) => messages,
        };
        let (tx, rx) = mpsc::unbounded_channel();
        for message in messages {
            let _ = tx.send(Step::Message(message));
        }
        subject.live.push(tx);
        Answer::Stream(rx)
    }

    fn certify(&self, request: identity::CertifyRequest) -> Answer {
        let how = {
            let mut state = self.lock();
            state.certified.push(request.clone());
            state.certify.clone()
        };
        let identity::CertifyRequest { identity: asked, certificate_signing_request: csr, .. } = request;
        match how {
            Certify::Refuse(code) => Answer::Refuse(code, "the test says so".into()),
            Certify::Silence => Answer::Silence,
            Certify::Garbage(bytes) => once(Bytes::from_static(bytes)),
            Certify::Response(response) => once(response.encode_to_vec().into()),
            Certify::Sign { ca, validity } => {
                if requested_names(&csr) != [asked.clone()] {
                    return Answer::Refuse(
                        Code::FailedPrecondition,
                        "the request names something else".into(),
                    );
                }
                once(certificate(&ca, &csr, &asked, validity).encode_to_vec().into())
            }
            Certify::SignAs { ca, name } => {
                once(certificate(&ca, &csr, &name, Validity::DAY).encode_to_vec().into())
            }
        }
    }
}

/// A response as the contract wants it.
pub fn certificate(ca: &Ca, request: &[u8], name: &str, validity: Validity) -> identity::CertifyResponse {
    identity::CertifyResponse {
        leaf_certificate: ca.sign(request, name, validity),
        intermediate_certificates: vec![],
        valid_until: Some(prost_types::Timestamp {
            seconds: validity.not_after().unix_timestamp(),
            nanos: 0,
        }),
    }
}

impl Calls for Shared {
    fn call(&self, path: &str, request: Bytes) -> Answer {
        let invalid = |error: prost::DecodeError| Answer::Refuse(Code::InvalidArgument, error.to_string());
        match path {
            "/io.linkerd.proxy.identity.Identity/Certify" => {
                match identity::CertifyRequest::decode(request) {
                    Ok(request) => self.certify(request),
                    Err(error) => invalid(error),
                }
            }
            "/io.linkerd.proxy.destination.Destination/Get" => {
                match destination::GetDestination::decode(request.clone()) {
                    Ok(get) => self.watch(Rpc::Destination, get.path, request),
                    Err(error) => invalid(error),
                }
            }
            "/io.linkerd.proxy.destination.Destination/GetProfile" => {
                match destination::GetDestination::decode(request.clone()) {
                    Ok(get) => self.watch(Rpc::Profile, get.path, request),
                    Err(error) => invalid(error),
                }
            }
            "/io.linkerd.proxy.outbound.OutboundPolicies/Watch" => {
                match outbound::TrafficSpec::decode(request.clone()) {
                    Ok(spec) => self.watch(Rpc::Outbound, message::target(spec), request),
                    Err(error) => invalid(error),
                }
            }
            "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort" => {
                match inbound::PortSpec::decode(request.clone()) {
                    Ok(spec) => self.watch(Rpc::Inbound, format!("{}:{}", spec.workload, spec.port), request),
                    Err(error) => invalid(error),
                }
            }
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
                match ExportMetricsServiceRequest::decode(request) {
                    Ok(metrics) => self.telemetry(|state| match state.otlp_refused {
                        None => state.metrics.push(metrics),
                        Some(_) => state.metrics_refused += 1,
                    }),
                    Err(error) => invalid(error),
                }
            }
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
                match ExportTraceServiceRequest::decode(request) {
                    Ok(traces) => self.telemetry(|state| {
                        if state.otlp_refused.is_none() {
                            state.traces.push(traces);
                        }
                    }),
                    Err(error) => invalid(error),
                }
            }
            _ => Answer::Refuse(Code::Unimplemented, format!("{path} is not of the contract")),
        }
    }
}

impl Shared {
    fn telemetry(&self, keep: impl FnOnce(&mut State)) -> Answer {
        let mut state = self.lock();
        keep(&mut state);
        match state.otlp_refused {
            Some(code) => Answer::Refuse(code, "the test says so".into()),
            None => once(Bytes::new()),
        }
    }
}

/// A unary answer.
fn once(message: Bytes) -> Answer {
    let (tx, rx) = mpsc::unbounded_channel();
    let _ = tx.send(Step::Message(message));
    let _ = tx.send(Step::Status(Code::Ok, String::new()));
    Answer::Stream(rx)
}
