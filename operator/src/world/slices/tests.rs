use super::*;
use crate::world::parse::{self, Object};

/// `address:port` (with a name where the port has one, and the hostname where there is one) of every ready endpoint of all slices.
fn ready(yaml: &str) -> Vec<String> {
    let (mut services, mut pods, mut slices) = (vec![], vec![], vec![]);
    for read in parse::file("t.yaml", yaml).unwrap() {
        match read.object {
            Object::Service(own) => services.push(Arc::new(own)),
            Object::Pod(own) => pods.push(Arc::new(own)),
            Object::EndpointSlice(own) => slices.push(Arc::new(own)),
            other => panic!("{other:?}"),
        }
    }
    let mut all = vec![];
    for slice in synthesize(&services, &pods, &slices) {
        for port in slice.ports.iter().flatten() {
            for endpoint in slice
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(true))
            {
                let host = endpoint.hostname.as_ref().map(|host| format!("{host} ")).unwrap_or_default();
                let name = port
                    .name
                    .as_ref()
                    .filter(|name| !name.is_empty())
                    .map(|name| format!(" {name}"))
                    .unwrap_or_default();
                all.push(format!("{host}{}:{}{name}", endpoint.addresses[0], port.port.unwrap()));
            }
        }
    }
    all.sort();
    all
}

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: web, namespace: n }}\nspec: {{ {spec} }}\n")
}

fn pod(name: &str, metadata: &str, spec: &str, status: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: n, labels: {{ app: web }} {metadata} }}\nspec: {{ {spec} containers: [{{ name: a, ports: [{{ name: http, containerPort: 8080 }}] }}] }}\nstatus: {{ {status} }}\n"
    )
}

#[test]
fn ports_by_number_and_by_name() {
    let pods =
        pod("a", "", "", "podIP: 10.0.0.1") + &pod("b", "", "", "podIP: 10.0.0.2").replace("8080", "9090");
    let named = service("selector: { app: web }, ports: [{ name: web, port: 80, targetPort: http }]") + &pods;
    assert_eq!(ready(&named), ["10.0.0.1:8080 web", "10.0.0.2:9090 web"]);
    let number =
        service("selector: { app: web }, ports: [{ port: 80 }, { name: u, port: 53, protocol: UDP }]")
            + &pods;
    assert_eq!(ready(&number), ["10.0.0.1:80", "10.0.0.2:80"]);
    let missing = service("selector: { app: web }, ports: [{ port: 80, targetPort: nope }]") + &pods;
    assert_eq!(ready(&missing), [""; 0]);
}

#[test]
fn who_is_selected_and_ready() {
    let all = "selector: { app: web }, ports: [{ port: 80 }]";
    let not_ready = pod("a", "", "", "podIP: 10.0.0.1, conditions: [{ type: Ready, status: 'False' }]");
    assert_eq!(ready(&(service(all) + &not_ready)), [""; 0]);
    assert_eq!(
        ready(&(service(&format!("{all}, publishNotReadyAddresses: true")) + &not_ready)),
        ["10.0.0.1:80"]
    );
    assert_eq!(ready(&(service(all) + &pod("a", "", "", "podIP: 10.0.0.1, phase: Succeeded"))), [""; 0]);
    assert_eq!(
        ready(
            &(service(all) + &pod("a", ", deletionTimestamp: '2030-01-01T00:00:00Z'", "", "podIP: 10.0.0.1"))
        ),
        [""; 0]
    );
    assert_eq!(ready(&(service(all) + &pod("a", "", "", ""))), [""; 0]);
    assert_eq!(
        ready(
            &(service(all)
                + &pod("a", "", "", "podIP: 10.0.0.1, podIPs: [{ ip: 10.0.0.1 }, { ip: 'fd00::1' }]"))
        ),
        ["10.0.0.1:80", "fd00::1:80"]
    );
    let good = pod("a", "", "", "podIP: 10.0.0.1");
    assert_eq!(ready(&(service("ports: [{ port: 80 }]") + &good)), [""; 0]);
    assert_eq!(
        ready(
            &(service("type: ExternalName, externalName: x, selector: { app: web }, ports: [{ port: 80 }]")
                + &good)
        ),
        [""; 0]
    );
    assert_eq!(ready(&(service("selector: { app: web, v: '1' }, ports: [{ port: 80 }]") + &good)), [""; 0]);
}

#[test]
fn stateful_pods_have_hostnames_and_given_slices_stay() {
    let headless = service("clusterIP: None, selector: { app: web }, ports: [{ port: 80 }]");
    let pods = pod("web-0", "", "hostname: web-0, subdomain: web,", "podIP: 10.0.0.1");
    assert_eq!(ready(&(headless.clone() + &pods)), ["web-0 10.0.0.1:80"]);
    let given = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: x, namespace: n, labels: { kubernetes.io/service-name: web } }\naddressType: IPv4\nendpoints: []\nports: []\n";
    assert_eq!(ready(&(headless + &pods + given)), [""; 0]);
}

#[test]
fn who_has_a_proxy() {
    let meshed = |namespace: &str, pod: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: n, annotations: {{ {namespace} }} }}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: p, namespace: n, annotations: {{ {pod} }} }}\nspec: {{ containers: [] }}\n"
        );
        let (mut namespaces, mut pods) = (vec![], vec![]);
        for read in parse::file("t.yaml", &text).unwrap() {
            match read.object {
                Object::Namespace(own) => namespaces.push(Arc::new(own)),
                Object::Pod(own) => pods.push(Arc::new(own)),
                other => panic!("{other:?}"),
            }
        }
        let marked = mark_meshed(pods, &namespaces, "mesh");
        marked[0].template.labels.get(names::CONTROL_NAMESPACE_LABEL).is_some_and(|own| own == "mesh")
    };
    let (on, off) = ("mesh.dev/inject: enabled", "mesh.dev/inject: disabled");
    assert!(meshed(on, "") && meshed("", on) && meshed(off, on));
    assert!(!meshed("", "") && !meshed(on, off) && !meshed(off, ""));
}
