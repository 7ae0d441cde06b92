//! Discovery against a control plane that a test scripts, over real sockets.

use super::{Discovery, decode::fixture::*};
use crate::{
    config::Config,
    policy::{endpoint::Endpoints, inbound, outbound::Lookup, outbound::Target},
    telemetry::{Telemetry, metrics::exposition},
};
use linkerd2_proxy_api::{
    destination::{
        AddrSet, DestinationProfile, GetDestination, NoEndpoints, Update, WeightedAddrSet,
        destination_server::{Destination, DestinationServer},
        update,
    },
    inbound::{
        PortSpec, Server as PortPolicy,
        inbound_server_policies_server::{InboundServerPolicies, InboundServerPoliciesServer},
    },
    outbound::{
        OutboundPolicy, TrafficSpec,
        outbound_policies_server::{OutboundPolicies, OutboundPoliciesServer},
    },
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::LocalSet,
    time,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

type Answers<T> = mpsc::Sender<Result<T, Status>>;
type Asked<Q, A> = mpsc::UnboundedReceiver<(Q, Answers<A>)>;

/// Hands every question to the test, with the stream to answer on.
struct Script<Q, A>(mpsc::UnboundedSender<(Q, Answers<A>)>);

impl<Q, A> Script<Q, A> {
    fn ask(&self, question: Request<Q>) -> Response<ReceiverStream<Result<A, Status>>> {
        let (answers, stream) = mpsc::channel(8);
        // A test that has ended asks no more.
        let _ = self.0.send((question.into_inner(), answers));
        Response::new(ReceiverStream::new(stream))
    }
}

#[tonic::async_trait]
impl OutboundPolicies for Script<TrafficSpec, OutboundPolicy> {
    async fn get(&self, _: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        Err(Status::unimplemented("get"))
    }

    type WatchStream = ReceiverStream<Result<OutboundPolicy, Status>>;

    async fn watch(&self, question: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(self.ask(question))
    }
}

#[tonic::async_trait]
impl InboundServerPolicies for Script<PortSpec, PortPolicy> {
    async fn get_port(&self, _: Request<PortSpec>) -> Result<Response<PortPolicy>, Status> {
        Err(Status::unimplemented("get"))
    }

    type WatchPortStream = ReceiverStream<Result<PortPolicy, Status>>;

    async fn watch_port(
        &self,
        question: Request<PortSpec>,
    ) -> Result<Response<Self::WatchPortStream>, Status> {
        Ok(self.ask(question))
    }
}

#[tonic::async_trait]
impl Destination for Script<GetDestination, Update> {
    type GetStream = ReceiverStream<Result<Update, Status>>;

    async fn get(&self, question: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        Ok(self.ask(question))
    }

    type GetProfileStream = ReceiverStream<Result<DestinationProfile, Status>>;

    async fn get_profile(
        &self,
        _: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        Err(Status::unimplemented("profile"))
    }
}

struct Plane {
    telemetry: Telemetry,
    discovery: Discovery,
    outbound: Asked<TrafficSpec, OutboundPolicy>,
    endpoints: Asked<GetDestination, Update>,
    inbound: Asked<PortSpec, PortPolicy>,
}

/// Runs a story with a control plane and our side of it, on one thread as in the proxy.
fn with_plane<F: Future>(story: impl FnOnce(Plane) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (outbound_tx, outbound) = mpsc::unbounded_channel();
        let (endpoints_tx, endpoints) = mpsc::unbounded_channel();
        let (inbound_tx, inbound) = mpsc::unbounded_channel();
        let server = Server::builder()
            .add_service(OutboundPoliciesServer::new(Script(outbound_tx)))
            .add_service(DestinationServer::new(Script(endpoints_tx)))
            .add_service(InboundServerPoliciesServer::new(Script(inbound_tx)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let telemetry = Telemetry::new(0.0, false).0;
        let worker = telemetry.worker();
        let discovery = Discovery::start(config(&addr.to_string()), watch::channel(None).1, &worker);
        let story = story(Plane { telemetry, discovery, outbound, endpoints, inbound });
        time::timeout(Duration::from_secs(20), story).await.expect("the story ends");
    });
}

fn config(operator: &str) -> Arc<Config> {
    let get = |name: &str| {
        Some(match name.strip_prefix("MESH_PROXY_")? {
            "OPERATOR_ADDR" => operator.to_owned(),
            "IDENTITY_LOCAL_NAME" => WEB.to_owned(),
            "IDENTITY_TOKEN_FILE" => "token".to_owned(),
            "IDENTITY_TRUST_ANCHORS" => crate::tls::testing::Authority::default().pem(),
            "POLICY_WORKLOAD" => r#"{"ns":"demo","pod":"web-0"}"#.to_owned(),
            "CONTROL_STREAM_INITIAL_TIMEOUT" => "500ms".to_owned(),
            "OUTBOUND_DISCOVERY_IDLE_TIMEOUT" => "50ms".to_owned(),
            _ => return None,
        })
    };
    Arc::new(Config::from_env(&get, &[]).unwrap())
}

fn target() -> Target {
    Target::Authority(PATH.into())
}

/// The next value that is not the current one, in short.
async fn next(lookup: &mut watch::Receiver<Lookup>) -> String {
    lookup.changed().await.unwrap();
    match &*lookup.borrow_and_update() {
        Lookup::Pending => "pending".to_owned(),
        Lookup::Policy(policy) => format!("policy {}", policy.meta.name),
        Lookup::Unknown => "unknown".to_owned(),
        Lookup::Invalid(reason) => format!("invalid {reason}"),
    }
}

fn named(name: &str) -> OutboundPolicy {
    OutboundPolicy { metadata: service(name), ..outbound_policy() }
}

fn nonsense() -> OutboundPolicy {
    OutboundPolicy { protocol: None, ..outbound_policy() }
}

#[test]
fn the_last_good_policy_outlives_nonsense_and_the_stream() {
    with_plane(|mut plane| async move {
        let mut lookup = plane.discovery.outbound(target()).await;
        let (spec, answers) = plane.outbound.recv().await.unwrap();
        assert_eq!(spec.source_workload, r#"{"ns":"demo","pod":"web-0"}"#);
        answers.send(Ok(named("one"))).await.unwrap();
        assert_eq!(next(&mut lookup).await, "policy one");
        answers.send(Ok(nonsense())).await.unwrap();
        drop(answers);
        // Asked again. The same policy is no news, so the next news is the third.
        let (_, answers) = plane.outbound.recv().await.unwrap();
        assert!(matches!(&*lookup.borrow(), Lookup::Policy(policy) if &*policy.meta.name == "one"));
        answers.send(Ok(named("one"))).await.unwrap();
        answers.send(Ok(named("two"))).await.unwrap();
        assert_eq!(next(&mut lookup).await, "policy two");
        answers.send(Err(Status::unavailable("restarting"))).await.unwrap();
        let (_, answers) = plane.outbound.recv().await.unwrap();
        answers.send(Err(Status::not_found("deleted"))).await.unwrap();
        assert_eq!(next(&mut lookup).await, "unknown");
    });
}

#[test]
fn calls_are_counted_by_address() {
    with_plane(|mut plane| async move {
        let mut lookup = plane.discovery.outbound(target()).await;
        let (_, answers) = plane.outbound.recv().await.unwrap();
        answers.send(Ok(named("one"))).await.unwrap();
        next(&mut lookup).await;
        let page: String = exposition::pages(&plane.telemetry).collect();
        for family in ["control_request_total", "control_response_total", "control_response_latency_ms_count"]
        {
            let line = page.lines().find(|line| line.starts_with(family) && !line.contains("failure"));
            assert!(
                line.is_some_and(|line| line.contains("addr=\"127.0.0.1:") && line.ends_with(" 1")),
                "{family}: {line:?}"
            );
        }
    });
}

#[test]
fn refusals_say_what_they_mean() {
    for (status, meaning) in [
        (Status::not_found(""), "unknown"),
        (Status::unimplemented(""), "unknown"),
        (Status::invalid_argument("no such port"), "invalid no such port"),
        (Status::failed_precondition("two pods"), "invalid two pods"),
    ] {
        with_plane(|mut plane| async move {
            let mut lookup = plane.discovery.outbound(target()).await;
            let (_, answers) = plane.outbound.recv().await.unwrap();
            answers.send(Err(status)).await.unwrap();
            assert_eq!(next(&mut lookup).await, meaning);
            // What was refused is asked again.
            let (_, answers) = plane.outbound.recv().await.unwrap();
            answers.send(Ok(named("web"))).await.unwrap();
            assert_eq!(next(&mut lookup).await, "policy web");
        });
    }
}

#[test]
fn nonsense_as_the_first_answer_is_an_error_with_a_reason() {
    with_plane(|mut plane| async move {
        let mut lookup = plane.discovery.outbound(target()).await;
        let (_, answers) = plane.outbound.recv().await.unwrap();
        answers.send(Ok(nonsense())).await.unwrap();
        assert_eq!(next(&mut lookup).await, "invalid invalid client policy configuration: protocol: missing");
        answers.send(Ok(named("web"))).await.unwrap();
        assert_eq!(next(&mut lookup).await, "policy web");
    });
}

#[test]
fn a_silent_stream_is_asked_again() {
    with_plane(|mut plane| async move {
        let mut lookup = plane.discovery.outbound(target()).await;
        let _silent = plane.outbound.recv().await.unwrap();
        let (_, answers) = plane.outbound.recv().await.unwrap();
        answers.send(Ok(named("web"))).await.unwrap();
        assert_eq!(next(&mut lookup).await, "policy web");
    });
}

#[test]
fn one_stream_for_all_and_none_when_nobody_cares() {
    with_plane(|mut plane| async move {
        let mut first = plane.discovery.outbound(target()).await;
        let second = plane.discovery.outbound(target()).await;
        let (_, answers) = plane.outbound.recv().await.unwrap();
        answers.send(Ok(named("web"))).await.unwrap();
        assert_eq!(next(&mut first).await, "policy web");
        assert!(plane.outbound.try_recv().is_err());
        drop((first, second));
        answers.closed().await;
        // Whoever comes later asks anew.
        let third = plane.discovery.outbound(target()).await;
        assert!(matches!(*third.borrow(), Lookup::Pending));
        plane.outbound.recv().await.unwrap();
    });
}

#[test]
fn what_cannot_be_asked_again_is_not_forgotten() {
    with_plane(|mut plane| async move {
        let mut lookup = plane.discovery.outbound(target()).await;
        let (_, answers) = plane.outbound.recv().await.unwrap();
        answers.send(Ok(named("web"))).await.unwrap();
        assert_eq!(next(&mut lookup).await, "policy web");
        drop(lookup);
        answers.send(Err(Status::unavailable("stopping"))).await.unwrap();
        // Unanswered questions for longer than the idle time.
        for _ in 0..2 {
            plane.outbound.recv().await.unwrap();
        }
        let lookup = plane.discovery.outbound(target()).await;
        assert!(matches!(*lookup.borrow(), Lookup::Policy(_)));
    });
}

fn add(addrs: &[&str]) -> Result<Update, Status> {
    let addrs = addrs.iter().map(|addr| endpoint(addr)).collect();
    Ok(Update {
        update: Some(update::Update::Add(WeightedAddrSet { addrs, metric_labels: Default::default() })),
    })
}

fn remove(addr: &str) -> Result<Update, Status> {
    Ok(Update { update: Some(update::Update::Remove(AddrSet { addrs: vec![tcp(addr)] })) })
}

fn none(exists: bool) -> Result<Update, Status> {
    Ok(Update { update: Some(update::Update::NoEndpoints(NoEndpoints { exists })) })
}

async fn next_endpoints(endpoints: &mut watch::Receiver<Endpoints>) -> String {
    endpoints.changed().await.unwrap();
    match &*endpoints.borrow_and_update() {
        Endpoints::Pending => "pending".to_owned(),
        Endpoints::Known(set) => set.keys().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Endpoints::Gone => "gone".to_owned(),
        Endpoints::Invalid(reason) => format!("invalid {reason}"),
    }
}

#[test]
fn the_first_add_of_a_stream_replaces_what_was_known() {
    with_plane(|mut plane| async move {
        let mut endpoints = plane.discovery.endpoints(PATH.into()).await;
        let (question, answers) = plane.endpoints.recv().await.unwrap();
        assert_eq!(question.path, PATH);
        answers.send(add(&["10.0.0.1:80", "10.0.0.2:80"])).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "10.0.0.1:80 10.0.0.2:80");
        answers.send(add(&["10.0.0.3:80"])).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
        answers.send(remove("10.0.0.1:80")).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "10.0.0.2:80 10.0.0.3:80");
        let kept = match &*endpoints.borrow() {
            Endpoints::Known(set) => set[&"10.0.0.3:80".parse().unwrap()].clone(),
            other => panic!("{other:?}"),
        };
        drop(answers);
        let (_, answers) = plane.endpoints.recv().await.unwrap();
        // Not a first message: nothing of this stream is known yet. Nor is an empty set a reason to forget.
        answers.send(remove("10.0.0.2:80")).await.unwrap();
        answers.send(add(&[])).await.unwrap();
        answers.send(add(&["10.0.0.3:80", "10.0.0.4:80"])).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "10.0.0.3:80 10.0.0.4:80");
        match &*endpoints.borrow() {
            Endpoints::Known(set) => assert!(Arc::ptr_eq(&set[&"10.0.0.3:80".parse().unwrap()], &kept)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn no_endpoints_means_it() {
    with_plane(|mut plane| async move {
        let mut endpoints = plane.discovery.endpoints(PATH.into()).await;
        let (_, answers) = plane.endpoints.recv().await.unwrap();
        answers.send(none(true)).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "");
        answers.send(add(&["10.0.0.1:80"])).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "10.0.0.1:80");
        answers.send(none(false)).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "gone");
    });
}

#[test]
fn a_bad_endpoint_is_left_out_and_a_set_of_them_changes_nothing() {
    with_plane(|mut plane| async move {
        let mut endpoints = plane.discovery.endpoints(PATH.into()).await;
        let (_, answers) = plane.endpoints.recv().await.unwrap();
        let mut bad = endpoint("10.0.0.9:80");
        bad.tls_identity.as_mut().unwrap().strategy = None;
        let set = |addrs| {
            Ok(Update {
                update: Some(update::Update::Add(WeightedAddrSet {
                    addrs,
                    metric_labels: Default::default(),
                })),
            })
        };
        answers.send(set(vec![bad.clone(), endpoint("10.0.0.1:80")])).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "10.0.0.1:80");
        drop(answers);
        let (_, answers) = plane.endpoints.recv().await.unwrap();
        answers.send(set(vec![bad])).await.unwrap();
        answers.send(Err(Status::not_found(""))).await.unwrap();
        let (_, answers) = plane.endpoints.recv().await.unwrap();
        answers.send(add(&["10.0.0.2:80"])).await.unwrap();
        assert_eq!(next_endpoints(&mut endpoints).await, "10.0.0.2:80");
    });
}

#[test]
fn a_port_has_the_default_policy_until_the_control_plane_answers() {
    with_plane(|mut plane| async move {
        let mut policy: watch::Receiver<Arc<inbound::Policy>> = plane.discovery.inbound(80).await;
        let opaque = plane.discovery.inbound(3306).await;
        assert_eq!(&*policy.borrow().meta.name, "all-unauthenticated");
        assert!(matches!(opaque.borrow().protocol, inbound::Protocol::Opaque));
        let (question, answers) = plane.inbound.recv().await.unwrap();
        assert_eq!(question.port, 80);
        answers.send(Ok(PortPolicy { labels: Default::default(), ..server() })).await.unwrap();
        answers.send(Ok(server())).await.unwrap();
        policy.changed().await.unwrap();
        assert_eq!(&*policy.borrow_and_update().meta.name, "all-authenticated");
        answers.send(Err(Status::invalid_argument("workload"))).await.unwrap();
        answers.closed().await;
        assert_eq!(&*policy.borrow().meta.name, "all-authenticated");
    });
}
