//! What holds for every world, not only for examples.

use super::fixture::{SHOP, tables, world};
use crate::{
    Authority, List, Place, Settings, Tables, World,
    inbound::{Client, Decision},
    outbound::{Backend, Policy, Routes, Target},
};
use k8s_openapi::api::discovery::v1::{EndpointHints, ForNode, ForZone};
use kube::Resource;
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
status: { podIP: 10.0.0.5 }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: cart-v1-a, namespace: shop, labels: { kubernetes.io/service-name: cart-v1 } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints:
- { addresses: [10.0.0.2], targetRef: { kind: Pod, name: cart-1 } }
- { addresses: [10.0.0.5], targetRef: { kind: Pod, name: legacy } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: db-b, namespace: shop, labels: { kubernetes.io/service-name: db } }
addressType: IPv4
ports: [{ name: sql, port: 5000 }]
endpoints:
- { addresses: [10.0.0.4], hostname: db-0, targetRef: { kind: Pod, name: db-0 } }";

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
                serde_json::json!(tables.outbound_json(&authority, from, |_| true)),
            );
        }
        all.insert(authority.clone(), serde_json::json!(tables.endpoints(&authority, |_| true)));
    }
    for pod in tables.pods() {
        let inbound = tables.inbound_json(&pod.namespace, &pod.name, 8080);
        all.insert(format!("{}/{}", pod.namespace, pod.name), serde_json::json!(inbound));
        let ip = pod.ips[0];
        all.insert(ip.to_string(), serde_json::json!(tables.pod_by_ip(ip).map(|pod| &pod.name)));
    }
    all.insert("authz".into(), serde_json::to_value(tables.authz("shop/cart-v1", None, |_| true)).unwrap());
    all.into()
}

fn shuffle<T>(list: &mut List<T>, seeds: &[Index]) {
    let list: &mut Vec<Arc<T>> = Arc::make_mut(list);
    let length = list.len();
    if length == 0 {
        return;
    }
    for (at, seed) in seeds.iter().enumerate() {
        list.swap(at % length, seed.index(length));
    }
}

/// Something that happens to a world. The lists that it does not touch stay the same.
#[derive(Clone, Debug)]
enum Edit {
    /// An object goes, or comes back.
    Toggle(u8, Index),
    /// A Pod has another address.
    Move(Index, u8),
    /// A slice's endpoints become ready, or not ready.
    Ready(Index, bool),
    /// The first endpoint is for clients of a zone, of a node, or for all.
    Hint(Index, u8),
    /// What a Service prefers.
    Prefer(Index, u8),
    /// A Service declares its ports opaque, or takes that back.
    Opaque(Index, bool),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (0u8..8, any::<Index>()).prop_map(|(kind, at)| Edit::Toggle(kind, at)),
        2 => (any::<Index>(), 1u8..9).prop_map(|(at, last)| Edit::Move(at, last)),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(at, ready)| Edit::Ready(at, ready)),
        1 => (any::<Index>(), 0u8..3).prop_map(|(at, hint)| Edit::Hint(at, hint)),
        1 => (any::<Index>(), 0u8..3).prop_map(|(at, prefer)| Edit::Prefer(at, prefer)),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(at, opaque)| Edit::Opaque(at, opaque)),
    ]
}

impl Edit {
    fn apply(&self, world: &mut World, all: &World) {
        match self {
            Edit::Toggle(0, at) => toggle(&mut world.namespaces, &all.namespaces, at),
            Edit::Toggle(1, at) => toggle(&mut world.service_accounts, &all.service_accounts, at),
            Edit::Toggle(2, at) => toggle(&mut world.services, &all.services, at),
            Edit::Toggle(3, at) => toggle(&mut world.endpoint_slices, &all.endpoint_slices, at),
            Edit::Toggle(4, at) => toggle(&mut world.pods, &all.pods, at),
            Edit::Toggle(5, at) => toggle(&mut world.http_routes, &all.http_routes, at),
            Edit::Toggle(6, at) => toggle(&mut world.grpc_routes, &all.grpc_routes, at),
            Edit::Toggle(_, at) => toggle(&mut world.authorization_policies, &all.authorization_policies, at),
            Edit::Move(at, last) => change(&mut world.pods, at, |pod| {
                pod.status.pod_ip = Some(format!("10.0.0.{last}"));
            }),
            Edit::Ready(at, ready) => change(&mut world.endpoint_slices, at, |slice| {
                for endpoint in &mut slice.endpoints {
                    endpoint.conditions.get_or_insert_default().ready = Some(*ready);
                }
            }),
            Edit::Hint(at, hint) => change(&mut world.endpoint_slices, at, |slice| {
                let for_zones = Some(vec![ForZone { name: "a".into() }]);
                let for_nodes = (*hint == 1).then(|| vec![ForNode { name: "n1".into() }]);
                slice.endpoints[0].hints = (*hint > 0).then_some(EndpointHints { for_zones, for_nodes });
            }),
            Edit::Prefer(at, prefer) => change(&mut world.services, at, |service| {
                let prefer = ["PreferClose", "PreferSameNode"].get(usize::from(*prefer));
                service.spec.as_mut().unwrap().traffic_distribution = prefer.map(|prefer| (*prefer).into());
            }),
            Edit::Opaque(at, opaque) => change(&mut world.services, at, |service| {
                let ports = opaque.then(|| ("mesh.dev/opaque-ports".to_owned(), "80,81".to_owned()));
                service.metadata.annotations = Some(ports.into_iter().collect());
            }),
        }
    }
}

fn toggle<T: Clone + Resource>(list: &mut List<T>, all: &List<T>, at: &Index) {
    if all.is_empty() {
        return;
    }
    let object = at.get(all.as_slice());
    let name = |own: &T| (own.meta().namespace.clone(), own.meta().name.clone());
    let list = Arc::make_mut(list);
    match list.iter().position(|own| name(own) == name(object)) {
        // Others move up to its place, as in a hash table that is a little smaller.
        Some(there) => drop(list.swap_remove(there)),
        None => list.push(object.clone()),
    }
}

fn change<T: Clone>(list: &mut List<T>, at: &Index, change: impl FnOnce(&mut T)) {
    if !list.is_empty() {
        let at = at.index(list.len());
        let object = &mut Arc::make_mut(list)[at];
        let mut changed = (**object).clone();
        change(&mut changed);
        *object = Arc::new(changed);
    }
}

/// Questions that `next` claims to answer as `before` does, and does not.
fn broken_promises(before: &Tables, next: &Tables) -> Vec<String> {
    let mut broken = vec![];
    let moved = next.moved_since(before);
    let stays = |(namespace, name): (&str, &str)| {
        let is_it = |moved: &&(String, String)| moved.0 == namespace && moved.1 == name;
        moved.as_ref().is_some_and(|moved| !moved.iter().any(is_it))
    };
    let mut promise = |what: String, said: bool, kept: bool| broken.extend((said && !kept).then_some(what));
    let mut targets: Vec<Target> =
        (1..10).map(|last| Target::Addr(SocketAddr::from(([10, 0, 0, last], 8080)))).collect();
    targets.push(Target::Addr(SocketAddr::from(([10, 96, 0, 1], 80))));
    for name in ["cart", "cart-v1", "db", "db-0.db", "elsewhere", "nobody"] {
        for port in [80, 81, 5000] {
            let text = format!("{name}.shop.svc.cluster.local:{port}");
            let authority = Authority::parse(&text, "cluster.local").unwrap();
            let places = [(None, None), (None, Some("a")), (Some("n1"), Some("a")), (Some("n2"), None)];
            let same = next.reach(&authority) == before.reach(&authority)
                && next.hints_at(&authority, "n1") == before.hints_at(&authority, "n1")
                && places
                    .map(|(node, zone)| Place { node, zone })
                    .into_iter()
                    .all(|place| next.resolve(&authority, place) == before.resolve(&authority, place));
            promise(format!("endpoints of {text}"), next.has_same_endpoints(before, &authority), same);
            promise(
                format!("no endpoints of {text} move"),
                stays((&authority.namespace, &authority.service)),
                same,
            );
            targets.push(Target::Authority(authority));
        }
    }
    for target in &targets {
        let same =
            ["shop", "other"].iter().all(|from| next.outbound(target, from) == before.outbound(target, from));
        promise(format!("outbound {target:?}"), next.has_same_outbound(before, target), same);
        let of_pod = target.endpoints_of().map_or(moved.is_some(), stays);
        promise(format!("outbound {target:?} has nothing to do with endpoints"), of_pod, same);
    }
    for pod in ["web", "cart-1", "cart-2", "db-0", "legacy", "twin"] {
        let same = [80, 8080, 5000]
            .iter()
            .all(|port| next.inbound("shop", pod, *port) == before.inbound("shop", pod, *port));
        promise(format!("inbound {pod}"), next.has_same_inbound(before, "shop", pod), same);
        promise(format!("inbound {pod} has nothing to do with endpoints"), moved.is_some(), same);
    }
    broken
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

    /// Whatever happened before, tables say what tables of the same world say that were built at once; and an answer that is
    /// called unchanged is.
    #[test]
    fn tables_after_changes_are_tables_of_the_world(edits in vec(edit(), 1..24)) {
        let all = world(&format!("{SHOP}\n---{MORE}"));
        let mut now = all.clone();
        let mut tables = Tables::build(&now, &Settings::default());
        let mut older = Tables::build(&now, &Settings::default());
        for edit in &edits {
            edit.apply(&mut now, &all);
            let next = tables.next(&now);
            prop_assert_eq!(answers(&next), answers(&Tables::build(&now, &Settings::default())));
            let broken = broken_promises(&tables, &next);
            prop_assert!(broken.is_empty(), "{:?}: {:?}", edit, broken);
            let broken = broken_promises(&older, &next);
            prop_assert!(broken.is_empty(), "{:?}, and tables that nobody saw: {:?}", edit, broken);
            older = std::mem::replace(&mut tables, next);
        }
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
        world.endpoint_slices = Arc::new(slices.iter().enumerate().map(|(number, slice)| Arc::new(slice.object(number))).collect());
        let tables = Tables::build(&world, &Settings::default());
        let cart = Authority::parse("cart.shop.svc.cluster.local", "cluster.local").unwrap();
        let resolved: Vec<SocketAddr> = tables.resolve(&cart, Place::default()).endpoints.into_keys().collect();
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
