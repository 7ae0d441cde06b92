//! `InboundServerPolicies.WatchPort`.

use linkerd2_proxy_api::inbound::{
    self,
    authn::{Permit, permit_mesh_tls::Clients},
    proxy_protocol::Kind,
};
use mesh_tests::{mesh::Operator, process, scripted_proxy::ScriptedProxy, story::run, world::World};
use tonic::Code;

const WEB: &str = r#"{"ns":"demo","pod":"web-v1"}"#;

fn world() -> World {
    World::new("demo").pod("web", "v1", &[80, 3306]).pod("shop", "v1", &[80]).service("web", 80)
}

async fn watch(world: &World, port: u32) -> (Operator, inbound::Server) {
    let operator = Operator::start(world, &[]).await;
    let server = ScriptedProxy::of("web-v1").await.inbound(port).await.unwrap().next().await;
    (operator, server)
}

/// What a server lets in, in words; panics over what no proxy would accept.
fn lets_in(server: &inbound::Server) -> Vec<String> {
    assert!(server.labels.get("name").is_some_and(|name| !name.is_empty()), "labels: {:?}", server.labels);
    let mut words = vec![];
    for authz in &server.authorizations {
        assert!(!authz.networks.is_empty(), "an authorization without networks");
        assert!(authz.metadata.is_some(), "an authorization without metadata");
        let permit = authz.authentication.as_ref().and_then(|authn| authn.permit.as_ref());
        words.push(match permit.expect("an authorization demands something") {
            Permit::Unauthenticated(_) => "anyone".into(),
            Permit::MeshTls(mesh) => match mesh.clients.as_ref().expect("mesh TLS names clients") {
                Clients::Unauthenticated(_) => "tls".into(),
                Clients::Identities(set) if set.suffixes.iter().any(|suffix| suffix.parts.is_empty()) => {
                    "meshed".into()
                }
                Clients::Identities(set) => {
                    let mut names: Vec<_> =
                        set.identities.iter().map(|identity| identity.name.clone()).collect();
                    names.extend(set.suffixes.iter().map(|suffix| format!("*.{}", suffix.parts.join("."))));
                    names.join(",")
                }
            },
        });
    }
    words.sort();
    words.dedup();
    words
}

#[test]
fn each_default_policy_is_as_the_contract_says() {
    run(async || {
        for (default, expected) in
            [("allow-all", vec!["anyone"]), ("mesh-only", vec!["meshed"]), ("deny", vec![])]
        {
            let (_operator, server) = watch(&world().default_policy(default), 80).await;
            assert_eq!(lets_in(&server), expected, "{default}");
            let Some(Kind::Detect(detect)) = server.protocol.unwrap().kind else {
                panic!("{default}: not detect")
            };
            assert!(detect.timeout.is_some());
        }
    });
}

#[test]
fn an_authorization_policy_replaces_the_default_and_follows_edits() {
    run(async || {
        let operator = Operator::start(&world().default_policy("mesh-only"), &[]).await;
        let proxy = ScriptedProxy::of("web-v1").await;
        let mut watch = proxy.inbound(80).await.unwrap();
        assert_eq!(lets_in(&watch.next().await), ["meshed"]);
        let policy = |from: &str| {
            format!(
                "apiVersion: mesh.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{ name: web, namespace: demo }}\n\
                 spec:\n  targetRefs:\n  - {{ group: \"\", kind: Service, name: web }}\n  rules:\n  - from:\n    - {from}\n"
            )
        };
        let file = operator.manifests().join("policies.yaml");
        process::save(&file, &policy("serviceAccount: { name: shop }"));
        let server = watch.until("for shop alone", |server| lets_in(server) != ["meshed"]).await;
        assert_eq!(lets_in(&server), ["shop.demo.serviceaccount.identity.mesh.cluster.local"]);
        let labels = &server.authorizations[0].labels;
        assert!(labels.values().any(|label| label.contains("web")), "{labels:?}");
        process::save(&file, &policy("network: { cidr: 127.0.0.0/8 }"));
        watch.until("for a network", |server| lets_in(server) == ["anyone"]).await;
        std::fs::remove_file(&file).unwrap();
        watch.until("the default again", |server| lets_in(server) == ["meshed"]).await;
    });
}

#[test]
fn get_port_says_once_what_watch_port_says_first() {
    run(async || {
        let _operator = Operator::start(&world(), &[]).await;
        let proxy = ScriptedProxy::connect(Operator::GRPC, WEB).await;
        let watched = proxy.inbound(80).await.unwrap().next().await;
        assert_eq!(proxy.inbound_get(80).await.unwrap(), watched);
    });
}

#[test]
fn a_policy_in_audit_mode_lets_the_default_in_and_marks_whom_it_would_have_refused() {
    run(async || {
        let audit = "apiVersion: mesh.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: { name: web, namespace: demo }\n\
                     spec:\n  mode: audit\n  targetRefs:\n  - { group: \"\", kind: Service, name: web }\n  rules:\n  - from:\n    - serviceAccount: { name: shop }\n";
        let world = world().default_policy("mesh-only").file("policies.yaml", audit);
        let (_operator, server) = watch(&world, 80).await;
        let marks: std::collections::BTreeMap<_, _> = server
            .authorizations
            .iter()
            .map(|authz| {
                let alone = inbound::Server { authorizations: vec![authz.clone()], ..server.clone() };
                (lets_in(&alone).join(","), authz.labels.get("audit").map(String::as_str))
            })
            .collect();
        let shop = "shop.demo.serviceaccount.identity.mesh.cluster.local".to_owned();
        assert_eq!(marks, [("meshed".to_owned(), Some("true")), (shop, None)].into());
    });
}

#[test]
fn a_well_known_server_first_port_is_opaque() {
    run(async || {
        let (_operator, server) = watch(&world(), 3306).await;
        assert!(matches!(server.protocol.unwrap().kind, Some(Kind::Opaque(_))));
    });
}

#[test]
fn unknown_pods_are_not_found_and_nonsense_is_invalid() {
    run(async || {
        let _operator = Operator::start(&world(), &[]).await;
        let proxy = ScriptedProxy::of("web-v1").await;
        for (workload, port, expected) in [
            (r#"{"ns":"demo","pod":"absent"}"#, 80, Code::NotFound),
            (r#"{"ns":"absent","pod":"web-v1"}"#, 80, Code::NotFound),
            ("", 80, Code::InvalidArgument),
            ("{", 80, Code::InvalidArgument),
            (WEB, 0, Code::InvalidArgument),
            (WEB, 65_536, Code::InvalidArgument),
        ] {
            let ended = match proxy.as_workload(workload).inbound(port).await {
                Err(status) => status.code(),
                Ok(mut watch) => watch.next_or_end().await.expect_err("an answer").code(),
            };
            assert_eq!(ended, expected, "{workload} {port}");
        }
    });
}

#[test]
fn a_probe_is_let_in_whatever_the_policy_says() {
    run(async || {
        let mut world = World::new("demo").default_policy("deny").pod("web", "v1", &[80]);
        world.files.insert(
            "probed.yaml".into(),
            "apiVersion: v1\nkind: Pod\nmetadata: { name: probed, namespace: demo, labels: { app: probed } }\nspec:\n  serviceAccountName: web\n  containers:\n  - name: web\n    image: test\n    ports: [{ name: http, containerPort: 80 }]\n    livenessProbe: { httpGet: { path: /healthz, port: http } }\n    readinessProbe: { grpc: { port: 80 } }\nstatus: { podIP: 127.0.1.8 }\n".into(),
        );
        let _operator = Operator::start(&world, &[]).await;
        let proxy = ScriptedProxy::of("probed").await;
        let server = proxy.inbound(80).await.unwrap().next().await;
        assert_eq!(lets_in(&server), Vec::<String>::new());
        let Some(Kind::Detect(detect)) = server.protocol.unwrap().kind else { panic!("not detect") };
        let probe = detect
            .http_routes
            .iter()
            .find(|route| !route.authorizations.is_empty())
            .expect("a route for the probe");
        let rules = format!("{:?}", probe.rules);
        assert!(rules.contains("/healthz") && rules.contains("/grpc.health.v1.Health/Check"), "{rules}");
    });
}
