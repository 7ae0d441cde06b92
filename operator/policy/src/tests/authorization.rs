//! Who may call: defaults, policies, audit, routes, and the answers to "why".

use super::fixture::{SHOP, tables, world};
use crate::{
    DefaultPolicy, Settings, Tables,
    inbound::{Client, Decision, Network},
};
use mesh_api::authz::Verdict;

fn with(spec: &str) -> Tables {
    tables(&format!("{SHOP}\n---{}", policy("p", spec)))
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: mesh.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{ name: {name}, namespace: shop }}
spec:
{spec}"
    )
}

const WEB: Option<&str> = Some("web.shop.serviceaccount.identity.mesh.cluster.local");
const GUEST: Option<&str> = Some("guest.other.serviceaccount.identity.mesh.cluster.local");

/// What becomes of a request to `cart-1`, as a word.
fn verdict(tables: &Tables, identity: Option<&str>, ip: &str) -> &'static str {
    let policy = tables.inbound("shop", "cart-1", 8080).unwrap();
    match policy.decide(Client { ip: Some(ip.parse().unwrap()), identity }, None) {
        Decision::Allowed(_) => "allowed",
        Decision::Audited(_) => "audited",
        Decision::Denied => "denied",
    }
}

/// Verdicts for web, guest, and a client without certificate from 10.9.0.1.
fn check(tables: &Tables, wanted: [&str; 3]) {
    let all = [
        verdict(tables, WEB, "10.0.0.1"),
        verdict(tables, GUEST, "10.0.0.6"),
        verdict(tables, None, "10.9.0.1"),
    ];
    assert_eq!(all, wanted);
}

#[test]
fn defaults() {
    check(&tables(SHOP), ["allowed", "allowed", "denied"]);
    check(
        &tables(&SHOP.replace("default-policy: mesh-only", "default-policy: deny")),
        ["denied", "denied", "denied"],
    );
    check(
        &tables(&SHOP.replace("default-policy: mesh-only", "default-policy: allow-all")),
        ["allowed", "allowed", "allowed"],
    );
    let misspelt = tables(&SHOP.replace("default-policy: mesh-only", "default-policy: mash-only"));
    assert!(misspelt.diagnostics()[0].message.contains("mash-only"));
    check(&misspelt, ["denied", "denied", "denied"]);
    let own = SHOP.replace(
        "metadata: { name: cart-1, namespace: shop,",
        "metadata: { name: cart-1, namespace: shop, annotations: { mesh.dev/default-policy: deny },",
    );
    check(&tables(&own), ["denied", "denied", "denied"]);
    let its_own_misspelt = tables(&own.replace("default-policy: deny", "default-policy: allow_all"));
    assert!(its_own_misspelt.diagnostics()[0].message.contains("allow_all"));
    check(&its_own_misspelt, ["denied", "denied", "denied"]);
}

#[test]
fn pods_in_the_network_of_their_node_share_its_address_and_nobody_is_to_blame() {
    let pods = |network: &str| {
        let pod = |name: &str| {
            format!(
                "\n---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: shop }}\n\
                 spec: {{ {network} containers: [] }}\nstatus: {{ podIP: 10.8.0.1 }}"
            )
        };
        tables(&(SHOP.to_owned() + &pod("a") + &pod("b")))
    };
    let nodes = pods("hostNetwork: true,");
    assert!(nodes.diagnostics().is_empty(), "{:?}", nodes.diagnostics());
    assert!(nodes.pod_by_ip("10.8.0.1".parse().unwrap()).is_none());
    let own = pods("");
    assert!(own.diagnostics()[0].message.contains("also that of Pod a"), "{:?}", own.diagnostics());
}

#[test]
fn an_annotation_that_asks_for_no_known_thing_is_said() {
    let shop = SHOP.replace("mesh.dev/default-policy: mesh-only", "mesh.dev/inject: 'true'");
    let said = tables(&shop).diagnostics()[0].to_string();
    assert!(said.starts_with("Namespace shop: annotation mesh.dev/inject=\"true\" means nothing"), "{said}");
    let slip =
        "{ name: cart, namespace: shop, annotations: { mesh.dev/retry-htp: 5xx, example.com/mesh.dev: x } }";
    let shop = SHOP.replacen("{ name: cart, namespace: shop }", slip, 1);
    let said: Vec<String> = tables(&shop).diagnostics().iter().map(ToString::to_string).collect();
    assert_eq!(said, ["Service shop/cart: annotation mesh.dev/retry-htp is none that the mesh knows"]);
}

#[test]
fn sources() {
    let of = |from: &str| {
        with(&format!("  targetRefs: [{{ kind: Service, name: cart }}]\n  rules: [{{ from: [{from}] }}]"))
    };
    check(&of("{ serviceAccount: { name: web } }"), ["allowed", "denied", "denied"]);
    check(&of("{ serviceAccount: { name: guest, namespace: other } }"), ["denied", "allowed", "denied"]);
    check(&of("{ namespace: { name: other } }"), ["denied", "allowed", "denied"]);
    check(&of("{ namespace: { name: er } }"), ["denied", "denied", "denied"]);
    check(&of("{ namespace: { name: '' } }"), ["denied", "denied", "denied"]);
    check(
        &of("{ identity: { name: web.shop.serviceaccount.identity.mesh.cluster.local } }"),
        ["allowed", "denied", "denied"],
    );
    check(&of("{ identity: { name: '*' } }"), ["denied", "denied", "denied"]);
    check(&of("{ network: { cidr: 10.9.0.0/16 } }"), ["denied", "denied", "allowed"]);
    check(&of("{ network: { cidr: 10.0.0.0/8, except: [10.9.0.0/16] } }"), ["allowed", "allowed", "denied"]);
    check(&of("{ network: { cidr: nowhere } }"), ["denied", "denied", "denied"]);
    check(&of("{ network: { cidr: 10.0.0.0/8, except: [nowhere] } }"), ["denied", "denied", "denied"]);
    check(
        &with("  targetRefs: [{ kind: Service, name: cart }]\n  rules: [{}]"),
        ["allowed", "allowed", "denied"],
    );
    check(&with("  targetRefs: [{ kind: Service, name: cart }]"), ["denied", "denied", "denied"]);
}

#[test]
fn a_dot_is_a_dot() {
    let tables = with(
        "  targetRefs: [{ kind: Service, name: cart }]\n  rules: [{ from: [{ serviceAccount: { name: a.b } }] }]",
    );
    let id = |name: &str| format!("{name}.shop.serviceaccount.identity.mesh.cluster.local");
    assert_eq!(verdict(&tables, Some(&id("a.b")), "10.0.0.1"), "allowed");
    assert_eq!(verdict(&tables, Some(&id("aXb")), "10.0.0.1"), "denied");
}

#[test]
fn targets() {
    let nobody = ["denied", "denied", "denied"];
    let default = ["allowed", "allowed", "denied"];
    check(&with("  targetRefs: [{ kind: Service, name: cart, port: 80 }]"), nobody);
    check(&with("  targetRefs: [{ kind: Service, name: cart, port: 81 }]"), default);
    check(&with("  targetRefs: [{ kind: Service, name: cart-v2 }]"), default);
    check(&with("  targetRefs: [{ kind: Bucket, name: cart }]"), default);
    check(&with("  selector: {}"), nobody);
    check(&with("  selector: { matchLabels: { app: cart } }"), nobody);
    check(&with("  selector: { matchLabels: { app: cart } }\n  ports: [1]"), default);
    check(
        &with(
            "  selector: { matchExpressions: [{ key: version, operator: In, values: [v1] }] }\n  ports: [8080]",
        ),
        nobody,
    );
    check(&with("  selector: { matchExpressions: [{ key: version, operator: DoesNotExist }] }"), default);
    check(&with("  mode: enforce"), default);
}

#[test]
fn audit_decides_nothing() {
    let audit = "  mode: audit\n  targetRefs: [{ kind: Service, name: cart }]\n  rules: [{ from: [{ serviceAccount: { name: web } }] }]";
    check(&with(audit), ["allowed", "audited", "denied"]);
    let open = SHOP.replace("default-policy: mesh-only", "default-policy: allow-all");
    check(&tables(&format!("{open}\n---{}", policy("p", audit))), ["allowed", "audited", "audited"]);
    let closed = SHOP.replace("default-policy: mesh-only", "default-policy: deny");
    check(&tables(&format!("{closed}\n---{}", policy("p", audit))), ["denied", "denied", "denied"]);
    let network = audit.replace("serviceAccount: { name: web }", "network: { cidr: 0.0.0.0/0 }");
    check(&with(&network), ["allowed", "allowed", "denied"]);
    let enforced = policy(
        "q",
        "  targetRefs: [{ kind: Service, name: cart }]\n  rules: [{ from: [{ namespace: { name: other } }] }]",
    );
    check(
        &tables(&format!("{SHOP}\n---{}\n---{enforced}", policy("p", audit))),
        ["denied", "allowed", "denied"],
    );
}

const ROUTED: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: read, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: cart }]
  rules: [{ matches: [{ method: GET, path: { value: /items } }], filters: [], backendRefs: [] }]";

#[test]
fn rules_about_routes_say_nothing_about_other_requests() {
    let spec = "  targetRefs: [{ kind: Service, name: cart }]\n  rules: [{ from: [{ serviceAccount: { name: web } }], routes: [{ name: ROUTE }] }]";
    let tables_of = |route: &str| {
        tables(&format!("{SHOP}\n---{ROUTED}\n---{}", policy("p", &spec.replace("ROUTE", route))))
    };
    let tables = tables_of("read");
    insta::assert_yaml_snapshot!(tables.inbound_json("shop", "cart-1", 8080).unwrap());
    let policy = tables.inbound("shop", "cart-1", 8080).unwrap();
    let client = Client { ip: None, identity: WEB };
    assert!(matches!(policy.decide(client, policy.routes.first()), Decision::Allowed(_)));
    assert_eq!(policy.decide(client, None), Decision::Denied);
    // A route that is not there opens nothing, least of all everything.
    check(&tables_of("missing"), ["denied", "denied", "denied"]);
}

/// A narrower rule for somebody else takes nothing away from whom a wider one lets in.
#[test]
fn of_several_routes_any_may_let_in() {
    let all = ROUTED.replace("name: read", "name: all").replace("value: /items", "value: /");
    let spec = "  targetRefs: [{ kind: Service, name: cart }]
  rules:
  - { from: [{ serviceAccount: { name: web } }], routes: [{ name: all }] }
  - { from: [{ serviceAccount: { name: guest, namespace: other } }], routes: [{ name: read }] }";
    let tables = tables(&format!("{SHOP}\n---{ROUTED}\n---{all}\n---{}", policy("p", spec)));
    let policy = tables.inbound("shop", "cart-1", 8080).unwrap();
    let guest = WEB.map(|web| web.replace("web.shop.", "guest.other."));
    let said: Vec<_> = policy
        .routes
        .iter()
        .flat_map(|route| {
            [WEB, guest.as_deref()].map(|identity| policy.decide(Client { ip: None, identity }, Some(route)))
        })
        .map(|decision| matches!(decision, Decision::Allowed(_)))
        .collect();
    assert_eq!(said, [true, false, true, true, true, true], "on all, on read, on the probe's");
}

#[test]
fn answers_name_the_policy_and_the_reason() {
    let tables = with(
        "  targetRefs: [{ kind: Service, name: cart }]\n  rules: [{ from: [{ serviceAccount: { name: web } }, { network: { cidr: 10.1.0.0/16 } }] }]",
    );
    insta::assert_yaml_snapshot!(tables.authz("shop/cart-v1", None, |_| true).rows);
    let guest = tables.authz("shop/cart-v1", Some("other/guest"), |_| true);
    assert!(
        guest
            .rows
            .iter()
            .filter(|row| row.port == 8080)
            .all(|row| row.verdict == Verdict::Denied && row.policy == "AuthorizationPolicy shop/p")
    );
    assert_eq!(tables.authz("shop/nobody", None, |_| true).rows, []);
    let accounts = "kind: ServiceAccount\nmetadata: { name: controller, namespace: kube-system }
---\nkind: ServiceAccount\nmetadata: { name: job, namespace: shop }";
    let rule = "  targetRefs: [{ kind: Service, name: cart }]\n  rules: [{ from: [{ serviceAccount: { name: job } }] }]";
    let rows = super::fixture::tables(&format!("{SHOP}\n---{}\n---\n{accounts}", policy("p", rule)))
        .authz("shop/cart-v1", None, |_| true)
        .rows;
    let has = |client: &str| rows.iter().any(|row| row.client == client);
    assert!(has("shop/job"), "it runs no Pod now, and may come");
    assert!(!has("kube-system/controller"), "it is anybody");
    assert_eq!(tables.authz("shop/cart-v1", Some("shop/nobody"), |_| true).rows, []);
}

/// Nor whether it exists: who writes a policy could ask for any name.
#[test]
fn of_a_namespace_that_is_not_seen_an_account_is_shown_only_where_the_policy_names_it() {
    let clients = |rule: &str| {
        let spec =
            format!("  targetRefs: [{{ kind: Service, name: cart }}]\n  rules: [{{ from: [{rule}] }}]");
        let rows = with(&spec).authz("shop/cart-v1", None, |namespace| namespace == "shop").rows;
        let others = rows.into_iter().map(|row| row.client).filter(|client| client.starts_with("other/"));
        others.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(clients("{ serviceAccount: { name: web } }"), [""; 0]);
    assert_eq!(clients("{ namespace: { name: other } }"), [""; 0]);
    assert_eq!(clients("{ serviceAccount: { namespace: other, name: guest } }"), ["other/guest"]);
    assert_eq!(clients("{ serviceAccount: { namespace: other, name: nobody } }"), ["other/nobody"]);
}

#[test]
fn opaque_ports_have_no_routes() {
    let tables = tables(SHOP);
    let policy = tables.inbound("shop", "db-0", 5000).unwrap();
    assert!(policy.opaque && policy.routes.is_empty());
    assert!(tables.inbound("shop", "nobody", 80).is_none());
}

/// Who gets in without a certificate at a port of a Pod with this probe, where nobody else does: by which requests, from where.
fn let_in(probe: &str, opaque_ports: &str, probe_networks: &[&str]) -> (Vec<String>, Vec<String>) {
    let yaml = format!(
        "kind: Pod
metadata: {{ name: web, namespace: shop, annotations: {{ mesh.dev/opaque-ports: '{opaque_ports}' }} }}
spec: {{ containers: [{{ name: a, ports: [{{ name: web, containerPort: 8080 }}], livenessProbe: {{ {probe} }} }}] }}
status: {{ podIP: 10.0.0.1 }}"
    );
    let settings = Settings {
        default_policy: DefaultPolicy::Deny,
        probe_networks: probe_networks.iter().map(|net| net.parse().unwrap()).collect(),
        ..Settings::default()
    };
    let tables = Tables::build(&world(&yaml), &settings);
    let policy = tables.inbound("shop", "web", 8080).unwrap();
    let matches = policy.routes.iter().flat_map(|route| &route.matches);
    let requests =
        matches.map(|own| format!("{} {:?}", own.method.as_deref().unwrap_or("*"), own.path)).collect();
    assert!(policy.routes.iter().all(|route| route.authorizations[0].networks == Network::everywhere()));
    assert_eq!(tables.inbound("shop", "web", 8081).unwrap().authorizations, [], "another port");
    let networks = policy.authorizations.iter().flat_map(|own| &own.networks);
    (requests, networks.map(|own| own.net.to_string()).collect())
}

#[test]
fn kubelets_probes_are_let_in_and_nothing_else() {
    let (http, https) =
        ("httpGet: { path: '/up?x=1', port: web }", "httpGet: { path: /up, port: web, scheme: HTTPS }");
    let (grpc, tcp, exec) =
        ("grpc: { port: 8080 }", "tcpSocket: { port: web }", "exec: { command: ['true'] }");
    let requests = |request: &str| (vec![request.to_owned()], vec![]);
    let nobody = || (vec![], vec![]);
    let nodes = ["10.9.0.0/16"];
    let from_nodes = || (vec![], vec!["10.9.0.0/16".to_owned()]);
    for networks in [&[][..], &nodes] {
        assert_eq!(let_in(http, "", networks), requests(r#"GET Exact("/up")"#));
        assert_eq!(let_in(grpc, "", networks), requests(r#"POST Exact("/grpc.health.v1.Health/Check")"#));
        assert_eq!(let_in(tcp, "", networks), nobody(), "a connection alone is never refused");
        assert_eq!(let_in(exec, "", networks), nobody());
    }
    assert_eq!(let_in(https, "", &[]), nobody(), "TLS is not read, and nobody has said where kubelet is");
    assert_eq!(let_in(https, "", &nodes), from_nodes());
    for probe in [http, grpc, tcp, https] {
        assert_eq!(let_in(probe, "8080", &[]), nobody(), "{probe}: an opaque port is not read");
        assert_eq!(let_in(probe, "8080", &nodes), from_nodes(), "{probe}");
    }
    assert_eq!(let_in(exec, "8080", &nodes), nobody());
    for (written, asked) in [("up", "/up"), ("/a b", "/a%20b"), ("", "/")] {
        let probe = format!("httpGet: {{ path: '{written}', port: web }}");
        assert_eq!(let_in(&probe, "", &[]), requests(&format!("GET Exact({asked:?})")), "as kubelet asks");
    }
}

/// Kubelet probes a Pod before it tells where it is.
#[test]
fn a_pod_that_has_no_address_yet_lets_in_what_it_will_when_it_has_one() {
    let pod = |status: &str| {
        let yaml = format!(
            "kind: Pod
metadata: {{ name: web, namespace: shop }}
spec: {{ containers: [{{ name: a, ports: [{{ containerPort: 80 }}], readinessProbe: {{ httpGet: {{ path: /up, port: 80 }} }} }}] }}
status: {{ {status} }}"
        );
        world(&yaml)
    };
    let coming = Tables::build(&pod("phase: Pending"), &Settings::default());
    let policy = coming.inbound("shop", "web", 80).expect("its proxy asks");
    assert_eq!(policy.routes.len(), 1, "{policy:?}");
    assert!(coming.pods().is_empty() && coming.pod("shop", "web").is_none(), "nobody else can reach it");

    let placed = coming.next(&pod("phase: Running, podIP: 10.0.0.1"));
    assert_eq!(placed.pods().len(), 1);
    assert_eq!(placed.inbound("shop", "web", 80), Some(policy));
    let ended = placed.next(&pod("phase: Failed"));
    assert!(ended.inbound("shop", "web", 80).is_none());
}

#[test]
fn the_chart_has_the_kinds_definition() {
    use crate::authorization::AuthorizationPolicy;
    use kube::CustomResourceExt;
    let chart: serde_json::Value =
        serde_saphyr::from_str(include_str!("../../../../charts/mesh/templates/crds.yaml")).unwrap();
    let ours = serde_json::to_value(AuthorizationPolicy::crd()).unwrap();
    let command = "cargo run -p mesh-policy --example definitions > charts/mesh/templates/crds.yaml";
    assert!(chart == ours, "the chart knows an older AuthorizationPolicy: {command}");
}

#[test]
fn grpc_routes_are_paths_to_the_server() {
    let route = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: g, namespace: shop }
spec: { parentRefs: [], rules: [{ matches: [{ method: { service: a.B, method: C } }, { method: { service: a.B } }, { method: { method: C } }, {}] }] }";
    let spec = "  targetRefs: [{ kind: Service, name: cart }]\n  rules: [{ routes: [{ kind: GRPCRoute, name: g }] }]";
    let tables = tables(&format!("{SHOP}\n---{route}\n---{}", policy("p", spec)));
    let policy = tables.inbound("shop", "cart-2", 8080).unwrap();
    let paths: Vec<String> = policy.routes[0].matches.iter().map(|own| format!("{:?}", own.path)).collect();
    assert_eq!(paths, [r#"Exact("/a.B/C")"#, r#"Prefix("/a.B")"#, r#"Regex("/[^/]+/C")"#, r#"Prefix("/")"#]);
}

#[test]
fn a_policys_status_says_whether_all_of_it_is_in_force() {
    let policy = |name: &str, target: &str| {
        format!(
            "
apiVersion: mesh.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{ name: {name}, namespace: shop, generation: 7 }}
spec:
  targetRefs: [{{ group: '', kind: Service, name: {target} }}]
  rules: [{{}}]"
        )
    };
    let manual =
        "\nkind: Service\nmetadata: { name: manual, namespace: shop }\nspec: { ports: [{ port: 80 }] }";
    let policies = [policy("good", "cart"), policy("bad", "nowhere"), policy("idle", "manual")];
    let tables = tables(&format!("{SHOP}\n---{manual}\n---{}", policies.join("\n---")));
    let [good, bad, idle] = &tables.policy_statuses()[..] else { panic!("three policies") };
    assert!(!idle.conditions[0].status && idle.conditions[0].message.contains("no selector"), "{idle:?}");
    assert_eq!((good.generation, good.conditions[0].status), (7, true), "{good:?}");
    assert!(!bad.conditions[0].status && bad.conditions[0].message.contains("nowhere"), "{bad:?}");
}

/// What such a policy says is read as far as we know its words: the Service or the Pods that it is aimed at, else its namespace.
#[test]
fn a_policy_that_cannot_be_read_lets_in_nobody_where_it_is_aimed() {
    use crate::authorization::{AuthorizationPolicy, closed};
    let aimed = |spec: serde_json::Value| {
        let mut world = super::fixture::world(SHOP);
        let mut policy = AuthorizationPolicy::new("new", closed(&spec));
        policy.metadata.namespace = Some("shop".into());
        std::sync::Arc::make_mut(&mut world.authorization_policies).push(policy.into());
        let tables = crate::Tables::build(&world, &crate::Settings::default());
        let verdict = |pod: &str, port: u16| {
            let policy = tables.inbound("shop", pod, port).unwrap();
            match policy.decide(Client { ip: None, identity: WEB }, None) {
                Decision::Allowed(_) => "allowed",
                Decision::Audited(_) => "audited",
                Decision::Denied => "denied",
            }
        };
        (verdict("cart-1", 8080), verdict("cart-1", 9999), verdict("db-0", 5000))
    };
    let cart = serde_json::json!({"group": "", "kind": "Service", "name": "cart"});
    let (service, pods) = (("denied", "allowed", "allowed"), ("denied", "denied", "allowed"));
    let all = ("denied", "denied", "denied");
    for (spec, expected) in [
        (serde_json::json!({"targetRefs": [cart], "rules": [{"unless": []}]}), service),
        (
            serde_json::json!({"targetRefs": [{"kind": "Service", "name": "cart", "section": 7, "port": "http"}]}),
            service,
        ),
        (
            serde_json::json!({"targetRefs": [{"kind": "Service", "name": "cart", "port": 81}]}),
            ("allowed", "allowed", "allowed"),
        ),
        (serde_json::json!({"targetRefs": [cart, {"kind": "Workload", "name": "db"}]}), all),
        (serde_json::json!({"targetRefs": cart}), all),
        (serde_json::json!({"selector": {"matchLabels": {"app": "cart"}}, "rules": 7}), pods),
        (serde_json::json!({"selector": {"matchLabels": {"app": "cart"}}, "ports": [8080]}), service),
        (serde_json::json!({"selector": {"matchLabels": {"app": "cart"}}, "ports": ["web"]}), pods),
        (
            serde_json::json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Near", "values": ["cart"]}]}}),
            all,
        ),
        (serde_json::json!({"selector": {"matchNames": ["cart"]}}), all),
        (serde_json::json!({"selector": {"matchLabels": 7}}), all),
        (serde_json::json!({"workloads": ["cart"]}), all),
        (serde_json::json!("nonsense"), all),
        (serde_json::json!({"targetRefs": [cart], "mode": "shadow"}), service),
        (
            serde_json::json!({"targetRefs": [cart], "mode": "audit", "rules": 7}),
            ("audited", "allowed", "allowed"),
        ),
    ] {
        assert_eq!(aimed(spec.clone()), expected, "{spec}");
    }
}
