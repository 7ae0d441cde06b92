//! `Destination.Get` and `GetProfile`.

use linkerd2_proxy_api::destination::{
    self, WeightedAddr, protocol_hint, tls_identity::Strategy, update::Update,
};
use mesh_tests::{
    mesh::Operator,
    process,
    scripted_proxy::{ScriptedProxy, Stalled, Watch},
    story::{run, run_alone},
    wait::{self, SOON},
    world::World,
};
use prost::Message;
use std::{
    fmt::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tonic::Code;

pub(super) const WEB: &str = "web.demo.svc.cluster.local:80";

fn world() -> World {
    World::new("demo")
        .pod("web", "v1", &[80])
        .pod("web", "v2", &[80])
        .service("web", 80)
        .service("nobody", 80)
        .file("external.yaml", EXTERNAL)
}

const EXTERNAL: &str = "apiVersion: v1\nkind: Service\nmetadata: { name: outside, namespace: demo }\nspec: { type: ExternalName, externalName: example.com, ports: [{ port: 80 }] }\n";

pub(super) async fn operator() -> (Operator, ScriptedProxy) {
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

/// A reader that stops reading costs the operator no more than its stream, and others hear of changes in time.
#[test]
fn a_reader_that_stands_still_neither_fills_the_operators_memory_nor_slows_the_others() {
    run_alone(async || {
        const PODS: usize = 200;
        const STALLED: usize = 100;
        const CHANGES: u8 = 20;
        // An update names all endpoints twice: what goes and what comes.
        let crowd = |generation: u8| {
            let mut yaml = "apiVersion: v1\nkind: Service\nmetadata: { name: crowd, namespace: demo }\nspec: { selector: { app: crowd }, ports: [{ name: http, port: 80 }] }\n".to_owned();
            for pod in 0..PODS {
                let _ = write!(
                    yaml,
                    "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: crowd-{pod}, namespace: demo, labels: {{ app: crowd }} }}\nspec: {{ containers: [{{ name: c, image: i, ports: [{{ name: http, containerPort: 80 }}] }}] }}\nstatus: {{ podIP: 10.{generation}.0.{} }}\n",
                    pod + 1
                );
            }
            yaml
        };
        let (operator, proxy) = operator().await;
        let file = operator.manifests().join("crowd.yaml");
        process::save(&file, &crowd(0));
        let path = "crowd.demo.svc.cluster.local:80";
        wait::until("the crowd", SOON, async || {
            proxy.destination(path).await.map(drop).map_err(|status| status.to_string())
        })
        .await;
        let _stalled = Stalled::destinations(Operator::GRPC, path, STALLED).await;
        let other = ScriptedProxy::connect(Operator::GRPC, r#"{"ns":"demo","pod":"web-v2"}"#).await;
        let mut watch = other.destination(path).await.unwrap();
        let update_bytes = watch.next().await.encoded_len() as u64 * 2;
        let change = async |generation: u8, watch: &mut Watch<destination::Update>| {
            process::save(&file, &crowd(generation));
            let prefix = format!("10.{generation}.");
            watch
                .until("the change", |update| {
                    matches!(&update.update, Some(Update::Add(set)) if addr(&set.addrs[0]).to_string().starts_with(&prefix))
                })
                .await;
        };
        // The allocator keeps what the first changes needed.
        for generation in 1..=3 {
            change(generation, &mut watch).await;
        }
        let before = operator.process.resident_bytes();
        let mut slowest = Duration::ZERO;
        for generation in 4..4 + CHANGES {
            let start = Instant::now();
            change(generation, &mut watch).await;
            slowest = slowest.max(start.elapsed());
        }
        let grown = operator.process.resident_bytes().saturating_sub(before);
        let all = update_bytes * STALLED as u64 * u64::from(CHANGES);
        assert!(grown < all / 5, "grew by {grown} bytes; all that was said to nobody is {all}");
        assert!(slowest <= Duration::from_secs(1), "a change took {slowest:?}");
    });
}

#[test]
fn profiles_are_of_services_pods_and_whatever_else_is_asked_for() {
    run(async || {
        let pod = |name: &str, ip: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: demo }}\nspec: {{ containers: [] }}\nstatus: {{ podIP: {ip} }}\n"
            )
        };
        let twins = format!("{}---\n{}", pod("one", "127.0.1.99"), pod("two", "127.0.1.99"));
        let world = world().pod("db", "v1", &[3306]).service("db", 3306).file("twins.yaml", &twins);
        let _operator = Operator::start(&world, &[]).await;
        let proxy = ScriptedProxy::connect(Operator::GRPC, r#"{"ns":"demo","pod":"web-v1"}"#).await;
        // Name, whether opaque, whether one endpoint.
        for (path, name, opaque, endpoint) in [
            (WEB, "web.demo.svc.cluster.local", false, false),
            ("db.demo.svc.cluster.local:3306", "db.demo.svc.cluster.local", true, false),
            ("web.demo.svc.cluster.local:81", "", false, false),
            ("absent.demo.svc.cluster.local:80", "", false, false),
            ("127.0.1.1:80", "", false, true),
            ("127.0.1.3:3306", "", true, true),
        ] {
            let profile = proxy.profile(path).await.unwrap().next().await;
            assert_eq!(
                (profile.fully_qualified_name.as_str(), profile.opaque_protocol, profile.endpoint.is_some()),
                (name, opaque, endpoint),
                "{path}"
            );
        }
        for (path, expected) in [
            ("127.0.1.99:80", Code::FailedPrecondition),
            ("127.0.1.256:80", Code::InvalidArgument),
            ("", Code::InvalidArgument),
        ] {
            let ended = match proxy.profile(path).await {
                Err(status) => status.code(),
                Ok(mut watch) => watch.next_or_end().await.expect_err("an answer").code(),
            };
            assert_eq!(ended, expected, "{path:?}");
        }
    });
}

#[test]
fn a_pods_own_name_is_one_endpoint_and_a_node_local_service_has_only_its_nodes() {
    run(async || {
        let mut yaml = "apiVersion: v1\nkind: Service\nmetadata: { name: store, namespace: demo }\nspec: { clusterIP: None, selector: { app: store }, ports: [{ name: http, port: 80 }] }\n---\n\
                        apiVersion: v1\nkind: Service\nmetadata: { name: near, namespace: demo }\nspec: { internalTrafficPolicy: Local, selector: { app: store }, ports: [{ name: http, port: 80 }] }\n"
            .to_owned();
        for number in [0, 1] {
            let _ = write!(
                yaml,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: store-{number}, namespace: demo, labels: {{ app: store }} }}\nspec: {{ hostname: store-{number}, subdomain: store, nodeName: node-{number}, containers: [{{ name: c, image: i, ports: [{{ name: http, containerPort: 80 }}] }}] }}\nstatus: {{ podIP: 10.0.0.{number} }}\n"
            );
        }
        let _operator = Operator::start(&world().file("store.yaml", &yaml), &[]).await;
        let proxy = ScriptedProxy::connect(Operator::GRPC, r#"{"ns":"demo","nodeName":"node-1"}"#).await;
        for (path, expected) in [
            ("store.demo.svc.cluster.local:80", vec!["10.0.0.0:80", "10.0.0.1:80"]),
            ("store-0.store.demo.svc.cluster.local:80", vec!["10.0.0.0:80"]),
            ("near.demo.svc.cluster.local:80", vec!["10.0.0.1:80"]),
        ] {
            let endpoints = added(proxy.destination(path).await.unwrap().next().await);
            let mut addrs: Vec<_> = endpoints.iter().map(|endpoint| addr(endpoint).to_string()).collect();
            addrs.sort();
            assert_eq!(addrs, expected, "{path}");
        }
    });
}
