//! The status of routes: what is refused, with which reason, and that one bad route harms no other.

use super::fixture::{SHOP, tables};
use mesh_api::route::Route;

fn statuses(spec: &str) -> (Route, Vec<Route>) {
    let good = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: good, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: cart-v1 }]
  rules: [{ backendRefs: [{ name: cart-v1, port: 80 }] }]";
    let bad = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: bad, namespace: shop }}
spec:
{spec}"
    );
    let tables = tables(&format!("{SHOP}\n---{good}\n---{bad}"));
    let all = tables.routes();
    (all.iter().find(|route| route.name == "bad").unwrap().clone(), all)
}

/// `Accepted` and `ResolvedRefs` as `reason` when false and `ok` when true, then what was dropped.
fn check(spec: &str, accepted: &str, resolved: &str, dropped: Option<&str>) {
    let (bad, all) = statuses(spec);
    let word = |kind: &str| {
        let condition = bad.parents[0].conditions.iter().find(|condition| condition.kind == kind);
        condition.map(|condition| if condition.status { "ok".into() } else { condition.reason.clone() })
    };
    assert_eq!(word("Accepted").as_deref(), Some(accepted), "{spec}\n{bad:#?}");
    assert_eq!(word("ResolvedRefs").as_deref(), Some(resolved), "{spec}\n{bad:#?}");
    let partial = bad.parents[0].conditions.iter().find(|condition| condition.kind == "PartiallyInvalid");
    assert_eq!(partial.is_some(), dropped.is_some(), "{spec}\n{bad:#?}");
    if let (Some(partial), Some(dropped)) = (partial, dropped) {
        assert!(
            partial.message.starts_with("Dropped Rule") && partial.message.contains(dropped),
            "{}",
            partial.message
        );
    }
    let good = all.iter().find(|route| route.name == "good").unwrap();
    assert!(good.parents[0].conditions.iter().all(|condition| condition.status), "{good:#?}");
}

fn parent(parent: &str) -> String {
    format!(
        "  parentRefs: [{{ group: '', kind: Service, {parent} }}]\n  rules: [{{ backendRefs: [{{ name: cart-v1, port: 80 }}] }}]"
    )
}

fn rule(rule: &str) -> String {
    format!(
        "  parentRefs: [{{ group: '', kind: Service, name: cart }}]\n  rules:\n  - {{ backendRefs: [{{ name: cart-v1, port: 80 }}] }}\n  - {rule}"
    )
}

#[test]
fn parents() {
    check(&parent("name: cart"), "ok", "ok", None);
    check(&parent("name: cart, port: 80"), "ok", "ok", None);
    check(&parent("name: cart, sectionName: http"), "ok", "ok", None);
    check(&parent("name: cart, port: 80, sectionName: http"), "ok", "ok", None);
    for refused in [
        "name: nobody",
        "name: cart, port: 82",
        "name: cart, port: -1",
        "name: cart, port: 99999",
        "name: cart, sectionName: nope",
        "name: cart, port: 81, sectionName: http",
        "name: db",
        "name: elsewhere",
        "name: cart, namespace: other",
    ] {
        check(&parent(refused), "NoMatchingParent", "ok", None);
    }
}

#[test]
fn backends() {
    let backend = |backend: &str| rule(&format!("{{ backendRefs: [{{ {backend} }}] }}"));
    check(&backend("name: cart-v2, port: 80"), "ok", "ok", None);
    check(&backend("name: nobody, port: 80"), "ok", "BackendNotFound", None);
    check(&backend("name: nobody, port: 80, weight: 0"), "ok", "BackendNotFound", None);
    check(&backend("name: cart-v2"), "ok", "BackendNotFound", None);
    check(&backend("name: cart-v2, port: 81"), "ok", "BackendNotFound", None);
    check(&backend("name: cart-v2, port: 80, kind: Bucket"), "ok", "InvalidKind", None);
    check(&backend("name: elsewhere, port: 80"), "ok", "InvalidKind", None);
    check(&backend("name: db, port: 5000"), "ok", "UnsupportedProtocol", None);
    check(&backend("name: cart-v2, port: 80, weight: -1"), "ok", "ok", Some("weight"));
    check(&backend("name: cart-v2, port: 80, weight: 2147483648"), "ok", "ok", Some("weight"));
}

#[test]
fn rules() {
    for (bad, why) in [
        ("{ matches: [{ path: { value: nope } }] }", "path"),
        ("{ matches: [{ path: { type: Exact, value: /a/../b } }] }", "path"),
        ("{ matches: [{ path: { type: Fuzzy, value: /a } }] }", "Fuzzy"),
        ("{ matches: [{ path: { type: RegularExpression, value: '(' } }] }", "regular expression"),
        ("{ matches: [{ path: { type: RegularExpression, value: '(?x)/a #' } }] }", "regular expression"),
        ("{ matches: [{ path: { type: RegularExpression, value: '(a{1000}){1000}' } }] }", "too costly"),
        ("{ matches: [{ method: BREW }] }", "BREW"),
        ("{ matches: [{ headers: [{ name: 'a b', value: x }] }] }", "header name"),
        ("{ filters: [{ type: URLRewrite }] }", "URLRewrite"),
        ("{ filters: [{ type: RequestHeaderModifier }] }", "lacks"),
        (
            "{ filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: a, value: '1' }], remove: [A] } }] }",
            "twice",
        ),
        (
            "{ filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: a, value: \"1\\r\\nb: 2\" }] } }] }",
            "control",
        ),
        ("{ filters: [{ type: RequestRedirect, requestRedirect: { statusCode: 200 } }] }", "statusCode"),
        (
            "{ filters: [{ type: RequestRedirect, requestRedirect: {} }], backendRefs: [{ name: cart-v1, port: 80 }] }",
            "redirects",
        ),
        ("{ timeouts: { request: 1s, backendRequest: 2s } }", "longer"),
        ("{ timeouts: { request: soon } }", "duration"),
        ("{ retry: { codes: [200] } }", "200"),
        ("{ retry: { attempts: -1 } }", "attempts"),
    ] {
        check(&rule(bad), "ok", "ok", Some(why));
    }
    let only = rule("").replace(
        "\n  - { backendRefs: [{ name: cart-v1, port: 80 }] }\n  - ",
        "\n  - { matches: [{ method: BREW }] }",
    );
    check(&only, "UnsupportedValue", "ok", None);
}

#[test]
fn other_controllers_parents_are_none_of_our_business() {
    let tables = tables(&format!(
        "{SHOP}\n---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: gateway, namespace: shop }}
spec:
  parentRefs: [{{ name: gateway }}, {{ kind: Service, name: cart }}]"
    ));
    assert_eq!(tables.routes(), []);
    assert!(tables.diagnostics()[0].message.contains("group: \"\""), "{:?}", tables.diagnostics());
}

#[test]
fn what_is_odd_about_a_route_is_said() {
    let tables = tables(&format!(
        "{SHOP}\n---
apiVersion: v1
kind: Service
metadata: {{ name: db, namespace: shop, annotations: {{ mesh.dev/opaque-ports: '5432' }} }}
spec: {{ clusterIP: 10.0.0.99, ports: [{{ port: 5432 }}, {{ port: 80 }}] }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: odd, namespace: shop }}
spec:
  hostnames: [shop.example]
  parentRefs: [{{ group: '', kind: Service, name: db }}]
  rules:
  - {{ matches: [{{ method: BREW }}] }}
  - {{ matches: [{{ path: {{ value: /a }} }}, {{ path: {{ value: /b }} }}] }}
  - {{ matches: [{{ path: {{ value: /b }} }}] }}
  - {{ matches: [{{ path: {{ value: /c }} }}], backendRefs: [{{ name: cart-v1, port: 80, weight: 0 }}] }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: elsewhere, namespace: shop }}
spec:
  hostnames: [shop.example]
  parentRefs: [{{ name: gateway }}]
  rules: [{{}}, {{}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: caller, namespace: billing }}
spec:
  parentRefs: [{{ group: '', kind: Service, name: db, namespace: shop, port: 80 }}]
  rules: [{{ matches: [{{ path: {{ value: / }} }}] }}]"
    ));
    let said = |route: &str| -> Vec<&str> {
        let of = tables.diagnostics().iter().filter(|finding| finding.object == route);
        of.filter(|finding| finding.severity == crate::Severity::Warning)
            .map(|finding| &*finding.message)
            .collect()
    };
    let odd = [
        "has no effect on port 5432 of Service shop/db, which is opaque",
        "hostname \"shop.example\" is ignored: on a Service, a route holds for every host name",
        "rule 3 is never reached: rules before it match the same",
        "rule 4 answers 500: its backends all have weight 0",
    ];
    assert_eq!(said("HTTPRoute shop/odd"), odd);
    assert_eq!(said("HTTPRoute shop/elsewhere"), [""; 0], "that of a Gateway is not ours to judge");
    assert_eq!(said("HTTPRoute billing/caller"), [""; 0]);

    let rest = |port| {
        format!(
            "requests to shop/db:{port} that no rule matches are refused; a rule without matches takes the rest"
        )
    };
    assert_eq!(tables.advice("HTTPRoute", "shop", "odd"), [rest(80)]);
    assert_eq!(tables.advice("HTTPRoute", "shop", "elsewhere"), [""; 0]);
    let near = "holds for clients in namespace billing only: Service shop/db is in another";
    assert_eq!(tables.advice("HTTPRoute", "billing", "caller"), [near]);
}
