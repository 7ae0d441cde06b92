//! `Destination.Get` and `GetProfile`.

use linkerd2_proxy_api::destination::{
    self, WeightedAddr, protocol_hint, tls_identity::Strategy, update::Update,
};
use mesh_tests::{
    mesh::Operator,
    process,
    scripted_proxy::ScriptedProxy,
    story::run,
    wait::{self, SOON},
    world::World,
};
use std::{net::SocketAddr, time::Duration};
use tonic::Code;

const WEB: &str = "web.demo.svc.cluster.local:80";

fn world() -> World {
    World::new("demo")
        .pod("web", "v1", &[80])
        .pod("web", "v2", &[80])
        .service("web", 80)
        .service("nobody", 80)
        .file("external.yaml", EXTERNAL)
}

const EXTERNAL: &str = "apiVersion: v1\nkind: Service\nmetadata: { name: outside, namespace: demo }\nspec: { type: ExternalName, externalName: example.com, ports: [{ port: 80 }] }\n";

async fn operator() -> (Operator, ScriptedProxy) {
    let operator = Operator::start(&world(), &[]).await;
    let proxy = ScriptedProxy::of("web-v1").await;
    (operator, proxy)
}

fn added(update: destination::Update) -> Vec<WeightedAddr> {
    let Some(Update::Add(set)) = update.update else { panic!("not an `add`: {update:?}") };
    set.addrs
}

fn addr(endpoint: &WeightedAddr) -> SocketAddr {
    endpoint.addr.expect("an endpoint has an address").try_into().expect("a valid address")
}

#[test]
fn the_first_message_is_the_whole_set() {
    run(async || {
        let (_operator, proxy) = operator().await;
        let mut watch = proxy.destination(WEB).await.unwrap();
        let mut addrs: Vec<_> = added(watch.next().await).iter().map(addr).collect();
        addrs.sort();
        assert_eq!(addrs, ["127.0.1.1:80".parse().unwrap(), "127.0.1.2:80".parse().unwrap()]);
        watch.is_silent_for(Duration::from_millis(500)).await;
    });
}

#[test]
fn a_meshed_endpoint_has_identity_hint_and_transport_port_and_an_unmeshed_one_nothing() {
    run(async || {
        let mut world = world();
        let unmeshed = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web-v3\n  namespace: demo\n  labels: { app: web, version: v3 }\n  annotations: { mesh.dev/inject: disabled }\nspec:\n  containers:\n  - { name: web, image: test, ports: [{ name: p80, containerPort: 80 }] }\nstatus: { podIP: 127.0.1.9 }\n";
        world.files.insert("unmeshed.yaml".into(), unmeshed.into());
        let _operator = Operator::start(&world, &[]).await;
        let proxy = ScriptedProxy::of("web-v1").await;
        let endpoints = added(proxy.destination(WEB).await.unwrap().next().await);
        assert_eq!(endpoints.len(), 3);
        for endpoint in endpoints {
            if addr(&endpoint) == "127.0.1.9:80".parse().unwrap() {
                assert_eq!((endpoint.tls_identity, endpoint.weight > 0), (None, true));
                continue;
            }
            let tls = endpoint.tls_identity.expect("a meshed endpoint has an identity");
            let Some(Strategy::DnsLikeIdentity(name)) = tls.strategy else { panic!("{:?}", tls.strategy) };
            assert_eq!(name.name, "web.demo.serviceaccount.identity.mesh.cluster.local");
            assert_eq!(tls.server_name.expect("a server name").name, name.name);
            let hint = endpoint.protocol_hint.expect("a hint");
            assert_eq!(hint.opaque_transport.expect("a transport port").inbound_port, 4143);
            assert_eq!(hint.protocol, Some(protocol_hint::Protocol::H2(protocol_hint::H2 {})));
        }
    });
}

#[test]
fn a_service_without_pods_says_so_at_once_and_an_unknown_one_is_not_found() {
    run(async || {
        let (_operator, proxy) = operator().await;
        let first = proxy.destination("nobody.demo.svc.cluster.local:80").await.unwrap().next().await;
        assert_eq!(first.update, Some(Update::NoEndpoints(destination::NoEndpoints { exists: true })));
        assert_eq!(code(&proxy, "absent.demo.svc.cluster.local:80").await, Code::NotFound);
    });
}

/// The status that a question ends with, whether at once or on its stream.
async fn code(proxy: &ScriptedProxy, path: &str) -> Code {
    match proxy.destination(path).await {
        Err(status) => status.code(),
        Ok(mut watch) => match watch.next_or_end().await {
            Err(status) => status.code(),
            Ok(answer) => panic!("{path:?} was answered {answer:?}"),
        },
    }
}

#[test]
fn questions_that_make_no_sense_are_invalid_arguments() {
    run(async || {
        let (_operator, proxy) = operator().await;
        for path in [
            "",
            "web",
            "web.demo.svc.cluster.local:0",
            "web.demo.svc.cluster.local:65536",
            "web.demo.svc.cluster.local:http",
            "127.0.1.1:80",
            "[::1]:80",
            "web.demo.svc.example.com:80",
            "a..b.svc.cluster.local:80",
            "web%00.demo.svc.cluster.local:80",
            "outside.demo.svc.cluster.local:80",
            &format!("{}.demo.svc.cluster.local:80", "x".repeat(10_000)),
        ] {
            let code = code(&proxy, path).await;
            let shown = &path[..path.len().min(60)];
            assert!(code == Code::InvalidArgument, "{shown:?} is {code:?}");
        }
    });
}

#[test]
fn pods_that_come_and_go_are_told_as_differences() {
    run(async || {
        let (operator, proxy) = operator().await;
        let mut watch = proxy.destination(WEB).await.unwrap();
        assert_eq!(added(watch.next().await).len(), 2);
        let fewer = World::new("demo").pod("web", "v1", &[80]).service("web", 80).service("nobody", 80);
        process::save(&operator.manifests().join("world.yaml"), &fewer.yaml());
        let update = watch.next().await;
        let Some(Update::Remove(set)) = update.update else { panic!("not a `remove`: {update:?}") };
        let gone: Vec<SocketAddr> = set.addrs.into_iter().map(|addr| addr.try_into().unwrap()).collect();
        assert_eq!(gone, ["127.0.1.2:80".parse().unwrap()]);
        process::save(&operator.manifests().join("world.yaml"), &world().yaml());
        let back: Vec<_> = added(watch.next().await).iter().map(addr).collect();
        assert!(back.contains(&"127.0.1.2:80".parse().unwrap()), "{back:?}");
    });
}

#[test]
fn a_service_that_is_deleted_ends_its_endpoints() {
    run(async || {
        let (operator, proxy) = operator().await;
        let mut watch = proxy.destination(WEB).await.unwrap();
        assert_eq!(added(watch.next().await).len(), 2);
        let without = World::new("demo").pod("web", "v1", &[80]).pod("web", "v2", &[80]);
        process::save(&operator.manifests().join("world.yaml"), &without.yaml());
        let gone = |update: &Option<Update>| {
            matches!(update, Some(Update::NoEndpoints(_)))
                || matches!(update, Some(Update::Remove(set)) if set.addrs.len() == 2)
        };
        match watch.next_or_end().await {
            Ok(None) | Err(_) => {}
            Ok(Some(update)) => assert!(gone(&update.update), "{update:?}"),
        }
    });
}

#[test]
fn get_profile_always_answers() {
    run(async || {
        let (_operator, proxy) = operator().await;
        let pod = proxy.profile("127.0.1.1:80").await.unwrap().next().await;
        let endpoint = pod.endpoint.expect("a pod's address has an endpoint");
        assert!(endpoint.tls_identity.is_some() && !pod.opaque_protocol);
        let unknown = proxy.profile("10.9.8.7:80").await.unwrap().next().await;
        assert!(unknown.routes.is_empty() && unknown.fully_qualified_name.is_empty());
    });
}

#[test]
fn shutdown_ends_streams_well_and_the_process_soon() {
    run(async || {
        let (mut operator, proxy) = operator().await;
        let mut watch = proxy.destination(WEB).await.unwrap();
        watch.next().await;
        operator.process.signal(rustix::process::Signal::TERM);
        let end = watch.next_or_end().await;
        assert!(!matches!(end, Ok(Some(_))), "{end:?}");
        assert!(operator.process.exit(SOON).await.success());
    });
}

/// A reader that stops reading costs the operator nothing, and others hear of changes in time.
#[test]
fn a_slow_reader_does_not_slow_the_others() {
    run(async || {
        let (operator, proxy) = operator().await;
        let mut stalled = vec![];
        for _ in 0..20 {
            stalled.push(proxy.destination(WEB).await.unwrap());
        }
        let other = ScriptedProxy::of("web-v2").await;
        let mut watch = other.destination(WEB).await.unwrap();
        watch.next().await;
        let one = World::new("demo").pod("web", "v1", &[80]).service("web", 80).service("nobody", 80);
        for _ in 0..10 {
            for world in [&one, &world()] {
                process::save(&operator.manifests().join("world.yaml"), &world.yaml());
                wait::within(SOON, "the change", watch.next()).await;
            }
        }
    });
}
