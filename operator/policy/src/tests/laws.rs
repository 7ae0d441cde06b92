//! What holds for every world, not only for examples.

use super::fixture::{SHOP, tables, world};
use crate::{
    Authority, Settings, Tables, World,
    inbound::{Client, Decision},
    outbound::{Backend, Policy, Routes, Target},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

const MORE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: b, namespace: shop }
spec: { parentRefs: [{ group: '', kind: Service, name: cart }], rules: [{ backendRefs: [{ name: cart-v1, port: 80 }] }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: a, namespace: shop }
spec: { parentRefs: [{ group: '', kind: Service, name: cart }], rules: [{ matches: [{ method: BREW }] }, { timeouts: { request: 1s } }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: a, namespace: shop }
spec: { parentRefs: [{ group: '', kind: Service, name: cart, port: 81 }], rules: [{ matches: [{ method: { service: x } }] }] }
---
apiVersion: mesh.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: z, namespace: shop }
spec: { targetRefs: [{ kind: Service, name: cart }], rules: [{ from: [{ serviceAccount: { name: web } }] }] }
---
apiVersion: mesh.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: y, namespace: shop }
spec: { selector: { matchLabels: { app: cart } }, rules: [{ from: [{ namespace: { name: other } }] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: twin, namespace: shop }
spec: { containers: [] }
status: { podIP: 10.0.0.5 }";

/// Everything that can be asked of these tables.
fn answers(tables: &Tables) -> serde_json::Value {
    let mut all = serde_json::Map::new();
    all.insert("routes".into(), serde_json::to_value(tables.routes()).unwrap());
    all.insert("diagnostics".into(), serde_json::to_value(tables.diagnostics()).unwrap());
    for name in ["cart:80", "cart:81", "cart-v1:80", "db:5000", "elsewhere:80"] {
        let (service, port) = name.split_once(':').unwrap();
        let authority = format!("{service}.shop:{port}");
        for from in ["shop", "other"] {
            all.insert(
                format!("{authority} {from}"),
                serde_json::json!(tables.outbound_json(&authority, from)),
            );
        }
        all.insert(authority.clone(), serde_json::json!(tables.endpoints(&authority)));
    }
    for pod in tables.pods() {
        let inbound = tables.inbound_json(&pod.namespace, &pod.name, 8080);
        all.insert(format!("{}/{}", pod.namespace, pod.name), serde_json::json!(inbound));
        all.insert(pod.ip.to_string(), serde_json::json!(tables.pod_by_ip(pod.ip).map(|pod| &pod.name)));
    }
    all.insert("authz".into(), serde_json::to_value(tables.authz("shop/cart-v1", None)).unwrap());
    all.into()
}

fn shuffle<T>(list: &mut [T], seeds: &[Index]) {
    if list.is_empty() {
        return;
    }
    for (at, seed) in seeds.iter().enumerate() {
        let at = at % list.len();
        list.swap(at, seed.index(list.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_objects_never_matters(seeds in vec(any::<Index>(), 16)) {
        let mut shuffled: World = world(&format!("{SHOP}\n---{MORE}"));
        let straight = Tables::build(&shuffled, &Settings::default());
        shuffle(&mut shuffled.services, &seeds);
        shuffle(&mut shuffled.pods, &seeds);
        shuffle(&mut shuffled.namespaces, &seeds);
        shuffle(&mut shuffled.endpoint_slices, &seeds);
        shuffle(&mut shuffled.http_routes, &seeds);
        shuffle(&mut shuffled.authorization_policies, &seeds);
        let again = Tables::build(&shuffled, &Settings::default());
        prop_assert_eq!(answers(&straight), answers(&again));
    }

    #[test]
    fn one_more_rule_never_denies_more(rules in vec(rule(), 0..4), more in rule()) {
        let before = allowed(&rules);
        let mut rules = rules;
        rules.push(more);
        let after = allowed(&rules);
        for (client, (before, after)) in before.iter().zip(&after).enumerate() {
            prop_assert!(*after || !*before, "client {} lost its access: {:?}", client, rules);
        }
    }

    #[test]
    fn only_weight_attracts(weights in vec(0u32..3, 1..6)) {
        let refs: Vec<String> = weights.iter().map(|weight| format!("{{ name: cart-v1, port: 80, weight: {weight} }}")).collect();
        let tables = tables(&format!("{SHOP}\n---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: r, namespace: shop }}
spec: {{ parentRefs: [{{ group: '', kind: Service, name: cart }}], rules: [{{ backendRefs: [{}] }}] }}", refs.join(", ")));
        let cart = Target::Authority(Authority::parse("cart.shop.svc.cluster.local", "cluster.local").unwrap());
        let Some(Policy::Service(policy)) = tables.outbound(&cart, "shop") else { panic!() };
        let Routes::Http(routes) = policy.routes else { panic!() };
        let backends = &routes[0].rules[0].backends;
        let wanted: Vec<u32> = weights.iter().copied().filter(|weight| *weight > 0).collect();
        if wanted.is_empty() {
            let nowhere = matches!(&backends[..], [only] if matches!(only.backend, Backend::Invalid { .. }));
            prop_assert!(nowhere, "{:?}", backends);
        } else {
            let sent: Vec<u32> = backends.iter().map(|backend| backend.weight).collect();
            prop_assert_eq!(sent, wanted);
        }
        let shares: f64 = tables.routes()[0].rules[0].backends.iter().map(|backend| backend.wanted).sum();
        let all_zero = weights.iter().all(|weight| *weight == 0);
        let wanted = if all_zero { 0.0 } else { 1.0 };
        prop_assert!((shares - wanted).abs() < 1e-9, "{}", shares);
    }

    #[test]
    fn endpoints_are_what_the_slices_say(slices in vec(slice(), 0..6)) {
        let mut world = world(SHOP);
        world.endpoint_slices = slices.iter().enumerate().map(|(number, slice)| Arc::new(slice.object(number))).collect();
        let tables = Tables::build(&world, &Settings::default());
        let cart = Authority::parse("cart.shop.svc.cluster.local", "cluster.local").unwrap();
        let resolved: Vec<SocketAddr> = tables.resolve(&cart, None).endpoints.into_keys().collect();
        prop_assert_eq!(resolved, oracle(&slices));
    }
}

/// A rule's sources, as YAML.
fn rule() -> impl Strategy<Value = String> {
    let source = prop_oneof![
        Just("{ serviceAccount: { name: web } }"),
        Just("{ serviceAccount: { name: guest, namespace: other } }"),
        Just("{ namespace: { name: shop } }"),
        Just("{ namespace: { name: '' } }"),
        Just("{ network: { cidr: 10.9.0.0/16 } }"),
        Just("{ network: { cidr: 0.0.0.0/0, except: [10.9.0.0/16] } }"),
        Just("{ network: { cidr: rubbish } }"),
    ];
    let routes = prop_oneof![Just(""), Just(", routes: [{ name: missing }]")];
    (vec(source, 0..3), routes)
        .prop_map(|(from, routes)| format!("{{ from: [{}]{routes} }}", from.join(", ")))
}

fn allowed(rules: &[String]) -> Vec<bool> {
    let tables = tables(&format!(
        "{SHOP}\n---
apiVersion: mesh.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{ name: p, namespace: shop }}
spec: {{ targetRefs: [{{ kind: Service, name: cart }}], rules: [{}] }}",
        rules.join(", ")
    ));
    let policy = tables.inbound("shop", "cart-1", 8080).unwrap();
    let mut verdicts = vec![];
    for identity in [None, Some("web.shop"), Some("guest.other"), Some("x.shop")] {
        let identity = identity.map(|own| format!("{own}.serviceaccount.identity.mesh.cluster.local"));
        for ip in ["10.0.0.1", "10.9.0.1", "192.0.2.1", "::1"] {
            let client = Client { ip: Some(ip.parse().unwrap()), identity: identity.as_deref() };
            verdicts.push(policy.decide(client, None) != Decision::Denied);
        }
    }
    verdicts
}

#[derive(Clone, Debug)]
struct Slice {
    service: &'static str,
    family: &'static str,
    port: Option<(&'static str, &'static str, i32)>,
    endpoints: Vec<(u8, Option<bool>)>,
}

fn slice() -> impl Strategy<Value = Slice> {
    let port = prop_oneof![
        Just(None),
        (
            prop_oneof![Just("http"), Just("admin"), Just("")],
            prop_oneof![Just("TCP"), Just("UDP")],
            8079..8082
        )
            .prop_map(Some),
    ];
    let service = prop_oneof![3 => Just("cart"), 1 => Just("cart-v1")];
    let family = prop_oneof![3 => Just("IPv4"), 1 => Just("FQDN")];
    (service, family, port, vec((1u8..9, any::<Option<bool>>()), 0..4))
        .prop_map(|(service, family, port, endpoints)| Slice { service, family, port, endpoints })
}

impl Slice {
    fn object(&self, number: usize) -> k8s_openapi::api::discovery::v1::EndpointSlice {
        let ports: Vec<_> = self.port.iter().map(|(name, protocol, port)| serde_json::json!({ "name": name, "protocol": protocol, "port": port })).collect();
        let endpoint = |(last, ready): &(u8, Option<bool>)| serde_json::json!({ "addresses": [format!("10.0.0.{last}")], "conditions": { "ready": ready } });
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": format!("s{number}"), "namespace": "shop", "labels": { "kubernetes.io/service-name": self.service } },
            "addressType": self.family,
            "ports": ports,
            "endpoints": self.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        }))
        .unwrap()
    }
}

/// The addresses of `cart:http`, said as plainly as possible.
fn oracle(slices: &[Slice]) -> Vec<SocketAddr> {
    let mut all = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.service == "cart" && slice.family == "IPv4") {
        let Some(("http", "TCP", port)) = slice.port else { continue };
        for (last, _) in slice.endpoints.iter().filter(|(_, ready)| *ready != Some(false)) {
            all.insert(SocketAddr::from(([10, 0, 0, *last], port as u16)), ());
        }
    }
    all.into_keys().collect()
}
