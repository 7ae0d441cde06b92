use super::*;

const GOOD: &str = "# what stands here
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
# only a comment
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { ports: [{ port: 80 }] }
--- # and the last
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec: anything
";

fn names(text: &str) -> Vec<(String, u32, u32)> {
    let read = file("a.yaml", text).unwrap();
    read.into_iter().map(|read| (read.name, read.origin.document, read.origin.line)).collect()
}

/// The one thing that is wrong: document, line, object and a part of the message.
fn check(text: &str, document: u32, line: u32, object: &str, message: &str) {
    let wrong = file("a.yaml", text).unwrap_err();
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    let wrong = &wrong[0];
    assert_eq!((wrong.document, wrong.line, wrong.object.as_str()), (document, line, object), "{wrong:#?}");
    assert!(wrong.message.contains(message), "{wrong:#?}");
    assert!(!wrong.message.contains('\n'), "{wrong:#?}");
}

#[test]
fn documents_kinds_and_places() {
    assert_eq!(names(GOOD), [("Namespace shop".into(), 1, 2), ("Service shop/web".into(), 2, 8)]);
    assert_eq!(names(""), []);
    assert_eq!(names("---\n---\n# nothing\n"), []);
    assert_eq!(names("apiVersion: v1\r\nkind: Namespace\r\nmetadata:\r\n  name: x\r\n---\r\n").len(), 1);
}

#[test]
fn lists_and_default_namespaces() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- { apiVersion: v1, kind: ServiceAccount, metadata: { name: a } }\n- { apiVersion: v1, kind: Pod, metadata: { name: b, namespace: shop }, spec: { containers: [] } }\n";
    let all: Vec<String> = names(list).into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(all, ["ServiceAccount default/a", "Pod shop/b"]);
    check(&list.replace("containers: []", "containers: 7"), 1, 1, "List item 2", "invalid type");
    check("apiVersion: v1\nkind: List\nitems:\n- {}\n", 1, 1, "", "apiVersion");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let broken = GOOD.replace("{ port: 80 }", "{ port: eighty }");
    check(&broken, 2, 11, "Service shop/web", "eighty");
    check("apiVersion: v1\nkind: Service\nmetadata: { name: x\n", 1, 3, "", "");
    let second = "apiVersion: v1\nkind: ConfigMap\n---\napiVersion: v1\nkind: Service\nmetadata: { name: [\n";
    check(second, 2, 6, "", "");
    check("a: 1\n", 1, 1, "", "apiVersion");
    check("apiVersion: v1\nkind: Service\n", 1, 1, "Service", "metadata.name");
    check("just text\n", 1, 1, "", "");
    let typo = "apiVersion: mesh.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: shop }\nspec:\n  targetRefs: []\n  modus: audit\n";
    check(typo, 1, 6, "AuthorizationPolicy shop/p", "modus");
    let mode = typo.replace("modus: audit", "mode: watch");
    check(&mode, 1, 6, "AuthorizationPolicy shop/p", "watch");
}

#[test]
fn several_wrong_documents_are_all_said() {
    let wrong = file("a.yaml", "kind: 7\n---\napiVersion: v1\nkind: Pod\nmetadata: []\n").unwrap_err();
    assert_eq!(wrong.iter().map(|wrong| wrong.document).collect::<Vec<_>>(), [1, 2], "{wrong:#?}");
}

#[test]
fn bombs_are_refused() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (level, letter) in ('b'..='j').enumerate() {
        let before = char::from(b'a' + level as u8);
        let refs = vec![format!("*{before}"); 10].join(", ");
        bomb += &format!("{letter}: &{letter} [{refs}]\n");
    }
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: x }}\nspec:\n  {}",
        bomb.replace('\n', "\n  ")
    );
    assert!(file("a.yaml", &text).is_err());
}

const TYPOS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: reviews, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: reviews }]
  rules:
  - backendRefs:
    - { name: reviews-v1, port: 9080 }
    - name: reviews-v2
      # a tenth
      wieght: 10
    timeouts:
      requests: 1s
    filters:
    - type: RequestMirror
      requestMirror: { backendRef: { name: copy } }
  colour: blue
status: { parents: [] }
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: { name: web, namespace: shop, creationTimestamp: null }
  spec:
    selecter: { app: web }
    ports: [{ port: 80 }]
---
apiVersion: v1
kind: Pod
metadata: { name: web, annotation: {} }
spec:
  containers:
  - name: web
    ports:
    - { containerport: 80, containerPort: 80 }
    env: [{ name: A, value: b }]
";

#[test]
fn fields_that_nobody_reads_are_said_and_the_object_stands() {
    let read = file("a.yaml", TYPOS).unwrap();
    let said: Vec<String> = read.iter().flat_map(|read| &read.unknown).map(ToString::to_string).collect();
    let unread = "is no field that the mesh reads, and is ignored";
    assert_eq!(
        said,
        [
            format!(
                "a.yaml:12 (document 1): HTTPRoute shop/reviews: spec.rules[0].backendRefs[1].wieght {unread} (did you mean `weight`?)"
            ),
            format!(
                "a.yaml:14 (document 1): HTTPRoute shop/reviews: spec.rules[0].timeouts.requests {unread} (did you mean `request`?)"
            ),
            format!(
                "a.yaml:18 (document 1): HTTPRoute shop/reviews: spec.colour {unread} (correct its name, or remove it)"
            ),
            format!(
                "a.yaml:28 (document 2): Service shop/web: spec.selecter {unread} (did you mean `selector`?)"
            ),
            format!(
                "a.yaml:33 (document 3): Pod default/web: metadata.annotation {unread} (did you mean `annotations`?)"
            ),
            format!(
                "a.yaml:38 (document 3): Pod default/web: spec.containers[0].ports[0].containerport {unread} (did you mean `containerPort`?)"
            ),
        ]
    );
    assert!(read.iter().flat_map(|read| &read.unknown).all(|unread| unread.severity == Severity::Warning));
    let Object::HttpRoute(route) = &read[0].object else { panic!("{:?}", read[0].object) };
    assert_eq!(route.spec.rules.as_ref().unwrap()[0].backend_refs.len(), 2);
}

#[test]
fn a_policy_with_an_unknown_field_is_no_policy() {
    let text = "apiVersion: mesh.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: shop }\nspec:\n  selector:\n    matchLabel: { app: web }\n";
    check(text, 1, 6, "AuthorizationPolicy shop/p", "spec.selector.matchLabel, did you mean `matchLabels`?");
}
