//! The services over real gRPC, in this process: rows of the contract, and how streams behave.

use super::*;
use crate::{
    random,
    tokens::Tokens,
    world::{manifests, parse, slices, stores::Stores},
};
use k8s_openapi::api::{core::v1::Node, discovery::v1::Endpoint};
use linkerd2_proxy_api::{
    destination::{GetDestination, Update, destination_client::DestinationClient, update},
    identity::{CertifyRequest, identity_client::IdentityClient},
    inbound::{PortSpec, inbound_server_policies_client::InboundServerPoliciesClient},
    outbound::{TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec::Target},
};
use mesh_policy::{Settings, World};
use prost::Message;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::SystemTime};
use tokio::net::TcpListener;
use tonic::{Code, Status, Streaming, transport::Channel};

mod shapes;

const SHOP: &str = include_str!("tests/shop.yaml");

/// A running operator without a folder: tests publish worlds by themselves.
struct Mesh {
    tables: watch::Sender<Arc<Tables>>,
    stop: watch::Sender<bool>,
    tokens: Arc<Tokens>,
    addr: SocketAddr,
    channel: Channel,
    state: tempfile::TempDir,
}

fn tables(yaml: &str) -> Arc<Tables> {
    Arc::new(Tables::build(&world(yaml), &Settings::default()))
}

fn world(yaml: &str) -> World {
    let read = parse::file("shop.yaml", yaml).unwrap();
    let mut stores = Stores::default();
    for change in manifests::relist(&read.iter().collect::<Vec<_>>()) {
        stores.apply(&change);
    }
    let mut world = stores.world();
    slices::complete(&mut world, &Settings::default().control_namespace);
    world
}

impl Mesh {
    async fn start() -> Mesh {
        let state = tempfile::tempdir().unwrap();
        let authority =
            Authority::open(state.path(), "cluster.local", Duration::from_secs(3600), SystemTime::now())
                .unwrap();
        let tokens = Arc::new(Tokens::open(state.path()).unwrap());
        let (tables_tx, tables_rx) = watch::channel(tables(SHOP));
        tokens.keep(tables_rx.borrow().service_accounts()).unwrap();
        let (stop_tx, stop) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (routes, _) = services(
            tables_rx,
            watch::channel(Arc::new(authority)).1,
            Accounts::Files(tokens.clone()),
            Arc::default(),
            Arc::default(),
            stop.clone(),
        );
        tokio::spawn(serve(Door::Plain(listener), routes, watch::channel(Standing::default()).1, stop));
        let channel = connect(addr).await;
        Mesh { tables: tables_tx, stop: stop_tx, tokens, addr, channel, state }
    }

    fn publish(&self, yaml: &str) {
        self.tables.send_replace(tables(yaml));
    }

    async fn destination(&self, path: &str, context: &str) -> Result<Streaming<Update>, Status> {
        let request =
            GetDestination { scheme: String::new(), path: path.into(), context_token: context.into() };
        Ok(DestinationClient::new(self.channel.clone()).get(request).await?.into_inner())
    }

    async fn certify(&self, identity: &str, token: &[u8]) -> Result<(), Status> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![identity.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&key).unwrap();
        let request = CertifyRequest {
            identity: identity.into(),
            token: token.into(),
            certificate_signing_request: csr.der().to_vec(),
        };
        IdentityClient::new(self.channel.clone()).certify(request).await.map(drop)
    }
}

async fn connect(addr: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

/// The next message, which must come soon.
async fn next<T>(stream: &mut Streaming<T>) -> Option<T> {
    time::timeout(Duration::from_secs(5), stream.message())
        .await
        .expect("a message in time")
        .expect("no error")
}

async fn is_silent<T: std::fmt::Debug>(stream: &mut Streaming<T>) {
    let more = time::timeout(Duration::from_millis(100), stream.message()).await;
    assert!(more.is_err(), "{more:?}");
}

/// An update as text: `+10.0.0.2:8080`, `-10.0.0.2:8080`, `none`, `gone`.
fn words(update: Update) -> Vec<String> {
    let addr = |addr: linkerd2_proxy_api::net::TcpAddress| SocketAddr::try_from(addr).unwrap().to_string();
    match update.update.unwrap() {
        update::Update::Add(set) => {
            set.addrs.into_iter().map(|own| format!("+{}", addr(own.addr.unwrap()))).collect()
        }
        update::Update::Remove(set) => set.addrs.into_iter().map(|own| format!("-{}", addr(own))).collect(),
        update::Update::NoEndpoints(none) => vec![if none.exists { "none".into() } else { "gone".into() }],
    }
}

#[tokio::test]
async fn endpoints_are_told_in_full_then_as_differences() {
    let mesh = Mesh::start().await;
    let mut stream = mesh.destination("cart.shop.svc.cluster.local:80", "rubbish").await.unwrap();
    assert_eq!(words(next(&mut stream).await.unwrap()), ["+10.0.0.2:8080", "+10.0.0.3:8080"]);
    mesh.publish(&SHOP.replace("podIP: 10.0.0.1 ", "podIP: 10.0.0.9 "));
    is_silent(&mut stream).await;
    mesh.publish(&SHOP.replace("10.0.0.3", "10.0.0.4"));
    assert_eq!(words(next(&mut stream).await.unwrap()), ["+10.0.0.4:8080"]);
    assert_eq!(words(next(&mut stream).await.unwrap()), ["-10.0.0.3:8080"]);
    mesh.publish(&SHOP.replace("app: cart,", "app: trolley,"));
    assert_eq!(words(next(&mut stream).await.unwrap()), ["none"]);
    mesh.publish(&SHOP.replace("name: cart, namespace", "name: trolley, namespace"));
    assert_eq!(words(next(&mut stream).await.unwrap()), ["gone"]);
    mesh.publish(SHOP);
    assert_eq!(words(next(&mut stream).await.unwrap()), ["+10.0.0.2:8080", "+10.0.0.3:8080"]);
}

#[tokio::test]
async fn pods_of_headless_services_zones_and_nodes() {
    let mesh = Mesh::start().await;
    let mut one = mesh.destination("db-0.db.shop.svc.cluster.local:5000", "").await.unwrap();
    assert_eq!(words(next(&mut one).await.unwrap()), ["+10.0.0.5:5000"]);
    let mut none = mesh.destination("db-7.db.shop.svc.cluster.local:5000", "").await.unwrap();
    assert_eq!(words(next(&mut none).await.unwrap()), ["none"]);
    for (context, wanted) in [
        (r#"{"ns":"shop","nodeName":"n2","pod":"web"}"#, "none"),
        (r#"{"ns":"shop","pod":"web"}"#, "+10.0.0.1:8080"),
    ] {
        let mut local = mesh.destination("local.shop.svc.cluster.local:80", context).await.unwrap();
        assert_eq!(words(next(&mut local).await.unwrap()), [wanted], "{context}");
    }
    let mut zoned =
        mesh.destination("cart.shop.svc.cluster.local:80", r#"{"ns":"shop","pod":"web"}"#).await.unwrap();
    let Some(update::Update::Add(set)) = next(&mut zoned).await.unwrap().update else { panic!() };
    let locality: Vec<&str> =
        set.addrs.iter().map(|addr| addr.metric_labels["zone_locality"].as_str()).collect();
    assert_eq!(locality, ["local", "unknown"]);
}

/// Nodes of two zones, what `cart` prefers, and what its two EndpointSlices' endpoints say beside their address.
fn placed(prefers: Option<&str>, said: [Value; 2]) -> Arc<Tables> {
    let mut world = world(SHOP);
    let node = |(name, zone): (&str, &str)| -> Arc<Node> {
        let labels = json!({ "topology.kubernetes.io/zone": zone });
        Arc::new(serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap())
    };
    world.nodes = Arc::new([("n1", "a"), ("n2", "b")].map(node).into());
    for service in Arc::make_mut(&mut world.services) {
        if service.metadata.name.as_deref() == Some("cart") {
            let spec = Arc::make_mut(service).spec.as_mut().unwrap();
            spec.traffic_distribution = prefers.map(str::to_owned);
        }
    }
    let mut said = said.into_iter().map(|said| serde_json::from_value::<Endpoint>(said).unwrap());
    for slice in Arc::make_mut(&mut world.endpoint_slices) {
        let service = &slice.metadata.labels.as_ref().unwrap()["kubernetes.io/service-name"];
        if service == "cart" {
            for endpoint in &mut Arc::make_mut(slice).endpoints {
                let addresses = std::mem::take(&mut endpoint.addresses);
                *endpoint = Endpoint { addresses, ..said.next().unwrap() };
            }
        }
    }
    Arc::new(Tables::build(&world, &Settings::default()))
}

/// An endpoint for clients of these zones, and of these nodes.
fn hinted(zones: &[&str], nodes: &[&str]) -> Value {
    let named = |names: &[&str]| names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
    json!({ "addresses": [], "hints": { "forZones": named(zones), "forNodes": (!nodes.is_empty()).then(|| named(nodes)) } })
}

const CART: [&str; 2] = ["+10.0.0.2:8080", "+10.0.0.3:8080"];

impl Mesh {
    /// The endpoints of `cart` for a client on this node: the stream, and its first message.
    async fn cart_on(&self, node: &str) -> (Streaming<Update>, Vec<String>) {
        self.cart_for(&json!({ "ns": "shop", "nodeName": node }).to_string()).await
    }

    async fn cart_for(&self, context: &str) -> (Streaming<Update>, Vec<String>) {
        let mut stream = self.destination("cart.shop.svc.cluster.local:80", context).await.unwrap();
        let first = words(next(&mut stream).await.unwrap());
        (stream, first)
    }
}

#[tokio::test]
async fn who_is_hinted_at_is_who_is_told() {
    let mesh = Mesh::start().await;
    let (mut before, all) = mesh.cart_on("n1").await;
    assert_eq!(all, CART);

    mesh.tables.send_replace(placed(None, [hinted(&["a"], &[]), hinted(&["b"], &[])]));
    assert!(next(&mut before).await.is_none(), "whoever asked before is to ask again");
    let (mut one, in_a) = mesh.cart_on("n1").await;
    assert_eq!((in_a, mesh.cart_on("n2").await.1), (vec![CART[0].into()], vec![CART[1].into()]));
    let by_pod = mesh.cart_for(r#"{"ns":"shop","pod":"web"}"#).await.1;
    assert_eq!(by_pod, [CART[0]], "its Pod says where it is");
    assert_eq!(mesh.cart_on("unknown").await.1, CART);
    assert_eq!(mesh.cart_for("rubbish").await.1, CART);

    mesh.tables.send_replace(placed(None, [hinted(&["b"], &[]), hinted(&["a", "b"], &[])]));
    assert_eq!(words(next(&mut one).await.unwrap()), [CART[1]]);
    assert_eq!(words(next(&mut one).await.unwrap()), ["-10.0.0.2:8080"]);

    mesh.publish(SHOP);
    assert!(next(&mut one).await.is_none(), "hints are gone");
    assert_eq!(mesh.cart_on("n1").await.1, CART);
}

/// While a Service is restarted it may have no ready endpoint, and so no hints. Its clients are told by the same stream.
#[tokio::test]
async fn a_stream_outlives_hints_that_come_and_go() {
    let mesh = Mesh::start().await;
    let ready = |zone: &str| hinted(&[zone], &[]);
    let unready = |ending: bool| json!({ "addresses": [], "conditions": { "ready": false, "serving": ending, "terminating": ending } });
    let close = |said: [Value; 2]| drop(mesh.tables.send_replace(placed(Some("PreferClose"), said)));
    close([ready("a"), ready("b")]);
    let (mut near, first) = mesh.cart_on("n1").await;
    assert_eq!(first, [CART[0]]);
    close([unready(true), unready(true)]);
    assert_eq!(words(next(&mut near).await.unwrap()), [CART[1]], "all that still serve");
    close([unready(false), unready(false)]);
    assert_eq!(words(next(&mut near).await.unwrap()), ["none"]);
    close([unready(true), json!({ "addresses": [] })]);
    assert_eq!(words(next(&mut near).await.unwrap()), [CART[1]], "ready, and not hinted at yet");
    close([ready("a"), ready("b")]);
    assert_eq!(words(next(&mut near).await.unwrap()), [CART[0]]);
    assert_eq!(words(next(&mut near).await.unwrap()), ["-10.0.0.3:8080"]);
}

#[tokio::test]
async fn who_is_on_a_node_that_gets_an_endpoint_asks_anew() {
    let mesh = Mesh::start().await;
    let same_node = |said: [Value; 2]| drop(mesh.tables.send_replace(placed(Some("PreferSameNode"), said)));
    same_node([hinted(&["a"], &["n1"]), hinted(&["a"], &["n3"])]);
    assert_eq!(mesh.cart_on("n1").await.1, [CART[0]]);
    let (mut other, all) = mesh.cart_on("n2").await;
    assert_eq!(all, CART, "nobody is for its node or zone");
    same_node([hinted(&["a"], &["n1"]), hinted(&["b"], &["n2"])]);
    next(&mut other).await.expect("what has changed");
    assert!(next(&mut other).await.is_none());
    let (mut own, only) = mesh.cart_on("n2").await;
    assert_eq!(only, [CART[1]]);
    same_node([hinted(&["a"], &["n1"]), json!({ "addresses": [], "conditions": { "ready": false } })]);
    assert_eq!(words(next(&mut own).await.unwrap()), [CART[0]], "it is not left with one that is gone");
}

#[tokio::test]
async fn profiles_always_answer() {
    let mesh = Mesh::start().await;
    let ask = async |path: &str| {
        let request = GetDestination { path: path.into(), ..GetDestination::default() };
        let stream = DestinationClient::new(mesh.channel.clone()).get_profile(request).await?;
        Ok::<_, Status>(next(&mut stream.into_inner()).await.unwrap())
    };
    let service = ask("10.96.0.1:80").await.unwrap();
    assert_eq!(service.fully_qualified_name, "cart.shop.svc.cluster.local");
    assert!(
        service.routes.is_empty()
            && service.endpoint.is_none()
            && service.parent_ref.is_some()
            && service.retry_budget.is_some()
    );
    assert_eq!(ask("cart.shop.svc.cluster.local:80").await.unwrap(), service);
    assert_eq!(ask("10.96.0.1:7").await.unwrap(), Default::default());
    assert!(ask("db.shop.svc.cluster.local:5000").await.unwrap().opaque_protocol);
    let pod = ask("10.0.0.5:5000").await.unwrap();
    assert!(pod.opaque_protocol && pod.endpoint.unwrap().tls_identity.is_some());
    assert!(ask("db-0.db.shop.svc.cluster.local:5000").await.unwrap().endpoint.is_some());
    let unknown = ask("192.0.2.1:443").await.unwrap().endpoint.unwrap();
    assert!(unknown.tls_identity.is_none() && unknown.addr.is_some());
    assert_eq!(ask("absent.shop.svc.cluster.local:80").await.unwrap(), Default::default());
    assert_eq!(ask("example.com:80").await.unwrap_err().code(), Code::InvalidArgument);
    mesh.publish(&SHOP.replace("10.0.0.3", "10.0.0.2"));
    assert_eq!(ask("10.0.0.2:80").await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_policy_is_sent_again_only_when_it_changed_and_ends_with_its_service() {
    let mesh = Mesh::start().await;
    let spec = TrafficSpec {
        source_workload: r#"{"ns":"shop","pod":"web"}"#.into(),
        target: Some(Target::Authority("cart.shop.svc.cluster.local:80".into())),
    };
    let mut client = OutboundPoliciesClient::new(mesh.channel.clone());
    let mut stream = client.watch(spec.clone()).await.unwrap().into_inner();
    let first = next(&mut stream).await.unwrap();
    assert_eq!(client.get(spec).await.unwrap().into_inner(), first);
    mesh.publish(&SHOP.replace("10.0.0.3", "10.0.0.4"));
    is_silent(&mut stream).await;
    mesh.publish(&SHOP.replace("weight: 90", "weight: 10"));
    assert_ne!(next(&mut stream).await.unwrap(), first);
    mesh.publish(&SHOP.replace("name: cart, namespace", "name: trolley, namespace"));
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn a_port_keeps_its_policy_when_its_pod_is_gone() {
    let mesh = Mesh::start().await;
    let spec = PortSpec { workload: "shop:cart-1".into(), port: 8080 };
    let mut client = InboundServerPoliciesClient::new(mesh.channel.clone());
    let mut stream = client.watch_port(spec.clone()).await.unwrap().into_inner();
    next(&mut stream).await.unwrap();
    mesh.publish(&SHOP.replace("default-policy: mesh-only", "default-policy: deny"));
    is_silent(&mut stream).await;
    mesh.publish(&SHOP.replace("name: web }", "name: guest, namespace: other }"));
    next(&mut stream).await.unwrap();
    mesh.publish(&SHOP.replace("name: cart-1, ", "name: cart-9, "));
    assert_eq!(
        next(&mut stream).await,
        None,
        "the stream ends well, so a proxy keeps what it has and asks again"
    );
    assert_eq!(client.get_port(spec).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn stopping_ends_streams_well() {
    let mesh = Mesh::start().await;
    let mut stream = mesh.destination("cart.shop.svc.cluster.local:80", "").await.unwrap();
    next(&mut stream).await.unwrap();
    mesh.stop.send_replace(true);
    assert_eq!(next(&mut stream).await, None);
}

/// 300 changes while one subscriber does not read: others see each in time, and the one that was stuck then sees few, the newest last.
#[tokio::test]
async fn who_does_not_read_delays_nobody_and_catches_up_at_once() {
    let mesh = Mesh::start().await;
    let mut stuck = mesh.destination("cart.shop.svc.cluster.local:80", "").await.unwrap();
    let others = connect(mesh.addr).await;
    let request =
        GetDestination { path: "cart.shop.svc.cluster.local:80".into(), ..GetDestination::default() };
    let mut quick = DestinationClient::new(others).get(request).await.unwrap().into_inner();
    next(&mut quick).await.unwrap();
    for number in 1..=300 {
        let addr = format!("10.1.{}.{}", number / 100, number % 100 + 1);
        mesh.publish(&SHOP.replace("10.0.0.3", &addr));
        assert_eq!(words(next(&mut quick).await.unwrap()), [format!("+{addr}:8080")]);
        assert_eq!(words(next(&mut quick).await.unwrap()).len(), 1);
    }
    let mut live = std::collections::BTreeSet::new();
    while !live.contains("10.1.3.1:8080") || live.len() != 2 {
        for word in words(next(&mut stuck).await.unwrap()) {
            match word.strip_prefix('+') {
                Some(addr) => live.insert(addr.to_owned()),
                None => live.remove(&word[1..]),
            };
        }
    }
}

/// All updates of a step, as text.
fn read(mut step: bytes::Bytes) -> Vec<String> {
    use bytes::Buf;
    let mut all = vec![];
    while step.has_remaining() {
        assert_eq!(step.get_u8(), 0, "not compressed");
        let length = step.get_u32() as usize;
        all.extend(words(Update::decode(step.split_to(length)).unwrap()));
    }
    all
}

/// Many ask the same from zones of their own; one of them misses that an endpoint came and went.
#[tokio::test]
async fn who_asks_the_same_shares_one_encoding_per_zone_and_step() {
    let cart = |zone: &str| {
        let question = destination::Endpoints::everywhere("cart.shop.svc.cluster.local:80");
        (question, Some(zone.to_owned()))
    };
    let (publish, tables_rx) = watch::channel(tables(SHOP));
    let (_stop, stop) = watch::channel(false);
    let topics = Topics::new(tables_rx, Arc::default(), stop);
    let open = |zone: &str| {
        let (question, zone) = cart(zone);
        topics.watch(crate::rate::Peer::Unknown, &question, move |_| (zone.clone(), true)).unwrap()
    };
    let next = async |stream: &mut topics::Steps| {
        use futures_util::StreamExt;
        time::timeout(Duration::from_secs(5), stream.next()).await.expect("in time").unwrap()
    };
    let (mut one, mut same, mut third, mut other) = (open("a"), open("a"), open("a"), open("b"));
    let alone = next(&mut one).await;
    let (first, second, elsewhere) = (next(&mut same).await, next(&mut third).await, next(&mut other).await);
    assert_eq!(read(alone), read(first.clone()));
    assert_eq!((first.as_ptr(), first.len()), (second.as_ptr(), second.len()), "the same bytes");
    assert_ne!(first, elsewhere, "for another zone they say something else");

    publish.send_replace(tables(&SHOP.replace("10.0.0.3", "10.0.0.4")));
    assert_eq!(read(next(&mut one).await), ["+10.0.0.4:8080", "-10.0.0.3:8080"]);
    publish.send_replace(tables(SHOP));
    assert_eq!(read(next(&mut one).await), ["+10.0.0.3:8080", "-10.0.0.4:8080"]);
    let silence = time::timeout(Duration::from_millis(100), futures_util::StreamExt::next(&mut same));
    assert!(silence.await.is_err(), "there and back again is nothing");
    publish.send_replace(tables(&SHOP.replace("10.0.0.3", "10.0.0.5")));
    assert_eq!(read(next(&mut same).await), ["+10.0.0.5:8080", "-10.0.0.3:8080"]);
}

#[tokio::test]
async fn one_account_in_a_loop_does_not_keep_others_from_their_certificates() {
    let mesh = Mesh::start().await;
    let token = |name: &str| std::fs::read(mesh.state.path().join("tokens/shop").join(name)).unwrap();
    let id = |name: &str| format!("{name}.shop.serviceaccount.identity.mesh.cluster.local");
    mesh.certify(&id("web"), &token("web")).await.unwrap();
    let mut refused = 0;
    for _ in 0..150 {
        if let Err(status) = mesh.certify(&id("web"), &token("web")).await {
            assert_eq!(status.code(), Code::ResourceExhausted);
            refused += 1;
        }
    }
    assert!(refused > 0);
    mesh.certify(&id("cart"), &token("cart")).await.unwrap();
    let wrong = mesh.certify(&id("cart"), random::hex::<32>().as_bytes()).await.unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition);
    let others = mesh.certify(&id("cart"), &token("web")).await.unwrap_err();
    assert_eq!(others.code(), Code::FailedPrecondition);
    mesh.tokens.keep(&[]).unwrap();
    assert_eq!(mesh.certify(&id("cart"), &token("cart")).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_flood_of_streams_is_capped_and_others_are_served() {
    let mesh = Mesh::start().await;
    let mut refused = None;
    // Opened far faster than 50 a second: what a new connection may open at once is soon used up.
    for _ in 0..10 * admission::MAX_STREAMS {
        match mesh.destination("cart.shop.svc.cluster.local:80", "").await {
            Ok(stream) => drop(stream),
            Err(status) => {
                refused = Some(status);
                break;
            }
        }
    }
    let refused = refused.expect("the flood is refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let other = Mesh { channel: connect(mesh.addr).await, ..mesh };
    let mut stream = other.destination("cart.shop.svc.cluster.local:80", "").await.unwrap();
    assert!(next(&mut stream).await.is_some());
}
