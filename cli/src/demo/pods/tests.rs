use super::*;

fn manifests(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("all.yaml"), text).unwrap();
    dir
}

fn error(text: &str) -> String {
    format!("{:#}", read(manifests(text).path()).unwrap_err())
}

const POD: &str = "kind: Pod
metadata: { name: a, namespace: n, labels: { app: a } }
spec:
  containers:
  - { name: a, image: mesh-demo, args: [details], ports: [{ containerPort: 9080 }] }
status: { podIP: 127.0.1.4 }
";

#[test]
fn the_demos_own_manifests_hold_seven_meshed_pods() {
    let dir = Path::new("../demo/manifests");
    let pods = read(dir).unwrap();
    let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(
        names,
        ["productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1", "traffic"]
    );
    assert!(pods.iter().all(|pod| pod.meshed));
    assert_eq!(pods[0].application_addr(), "127.0.2.1:9080".parse().unwrap());
    assert_eq!(pods[4].env("STAR_COLOR"), Some("red"));
}

#[test]
fn without_the_namespaces_annotation_a_pod_stands_alone() {
    let pods = read(manifests(POD).path()).unwrap();
    assert!(!pods[0].meshed);
    assert_eq!(pods[0].application_addr(), "127.0.1.4:9080".parse().unwrap());
}

#[test]
fn a_pods_own_annotation_wins() {
    let namespace =
        "kind: Namespace\nmetadata: { name: n, annotations: { mesh.dev/inject: enabled } }\n---\n";
    let disabled = POD.replace("labels:", "annotations: { mesh.dev/inject: disabled }, labels:");
    assert!(read(manifests(&format!("{namespace}{POD}")).path()).unwrap()[0].meshed);
    assert!(!read(manifests(&format!("{namespace}{disabled}")).path()).unwrap()[0].meshed);
}

#[test]
fn what_cannot_be_started_is_named_with_the_reason() {
    for (from, to, want) in [
        (
            "127.0.1.4",
            "10.0.0.1",
            "Pod n/a: status.podIP 10.0.0.1: `mesh demo` starts Pods at 127.0.1.N only",
        ),
        ("podIP: 127.0.1.4", "", "Pod n/a: no status.podIP: say 127.0.1.N, where `mesh demo` is to start it"),
        (
            "image: mesh-demo",
            "image: nginx:1",
            "Pod n/a: image \"nginx:1\": `mesh demo` has only its own program, image mesh-demo",
        ),
    ] {
        assert_eq!(error(&POD.replace(from, to)), want);
    }
    assert!(
        error(&format!("{POD}---\n{}", POD.replace("name: a,", "name: b,")))
            .contains("both have status.podIP")
    );
    assert!(error("kind: Service\n").contains("nothing to start"));
    assert!(error("a: [").contains("all.yaml"), "{}", error("a: ["));
}

#[test]
fn images_are_known_by_their_last_part() {
    for image in ["mesh-demo", "registry:5000/mesh/mesh-demo:0.1.0", "mesh-demo@sha256:00"] {
        assert_eq!(image_name(image), "mesh-demo");
    }
}
