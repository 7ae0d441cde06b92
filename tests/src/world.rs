//! A small world of Kubernetes objects for the real operator: pods, the Services that select them, and whatever else a test writes.

use crate::{pod::Pod, process};
use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

/// One namespace, with proxies for all its pods.
#[derive(Debug)]
pub struct World {
    namespace: String,
    default_policy: &'static str,
    pub pods: Vec<Pod>,
    /// Labels of each pod: `app` and `version`.
    labels: BTreeMap<String, (String, String)>,
    services: Vec<String>,
    /// Further files of the manifests folder, by name.
    pub files: BTreeMap<String, String>,
}

impl World {
    pub fn new(namespace: &str) -> World {
        World {
            namespace: namespace.into(),
            default_policy: "allow-all",
            pods: vec![],
            labels: BTreeMap::new(),
            services: vec![],
            files: BTreeMap::new(),
        }
    }

    /// What a port allows when no AuthorizationPolicy selects it.
    pub fn default_policy(mut self, policy: &'static str) -> World {
        self.default_policy = policy;
        self
    }

    /// A pod `<app>-<version>` with these container ports and a service account named after its app.
    pub fn pod(mut self, app: &str, version: &str, ports: &[u16]) -> World {
        let name = format!("{app}-{version}");
        let number = self.pods.len() as u8 + 1;
        self.pods.push(Pod {
            namespace: self.namespace.clone(),
            name: name.clone(),
            service_account: app.into(),
            number,
            ports: ports.to_vec(),
        });
        self.labels.insert(name, (app.into(), version.into()));
        self
    }

    /// A Service of all pods of an app.
    pub fn service(self, name: &str, port: u16) -> World {
        let selector = format!("{{ app: {name} }}");
        self.service_of(name, &selector, port, "")
    }

    /// A Service `<app>-<version>` of the pods of one version.
    pub fn version_service(self, app: &str, version: &str, port: u16) -> World {
        let selector = format!("{{ app: {app}, version: {version} }}");
        self.service_of(&format!("{app}-{version}"), &selector, port, "")
    }

    /// A Service with a selector and annotations in YAML's flow form.
    pub fn service_of(mut self, name: &str, selector: &str, port: u16, annotations: &str) -> World {
        let namespace = &self.namespace;
        self.services.push(format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: {namespace}, annotations: {{ {annotations} }} }}\n\
             spec:\n  selector: {selector}\n  ports:\n  - {{ name: p{port}, port: {port}, targetPort: {port} }}\n"
        ));
        self
    }

    pub fn file(mut self, name: &str, yaml: &str) -> World {
        self.files.insert(name.into(), yaml.into());
        self
    }

    /// Makes a folder of manifests.
    pub fn write(&self, manifests: &Path) {
        fs::create_dir(manifests).expect("a temporary folder is writable");
        process::save(&manifests.join("world.yaml"), &self.yaml());
        for (name, yaml) in &self.files {
            process::save(&manifests.join(name), yaml);
        }
    }

    /// The manifest of namespace, accounts, pods and Services.
    pub fn yaml(&self) -> String {
        let namespace = &self.namespace;
        let mut yaml = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  annotations:\n    mesh.dev/inject: enabled\n    \
             mesh.dev/default-policy: {}\n",
            self.default_policy
        );
        let accounts: std::collections::BTreeSet<_> =
            self.pods.iter().map(|pod| &pod.service_account).collect();
        for account in accounts {
            let _ = write!(
                yaml,
                "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{ name: {account}, namespace: {namespace} }}\n"
            );
        }
        for service in &self.services {
            let _ = write!(yaml, "---\n{service}");
        }
        for pod in &self.pods {
            let _ = write!(yaml, "---\n{}", self.pod_yaml(pod));
        }
        yaml
    }

    fn pod_yaml(&self, pod: &Pod) -> String {
        let (app, version) = &self.labels[&pod.name];
        let Pod { namespace, name, service_account, ports, .. } = pod;
        let ports: Vec<_> =
            ports.iter().map(|port| format!("{{ name: p{port}, containerPort: {port} }}")).collect();
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  \
             labels: {{ app: {app}, version: {version} }}\nspec:\n  serviceAccountName: {service_account}\n  \
             containers:\n  - name: {app}\n    image: test\n    ports: [{}]\nstatus:\n  podIP: {}\n",
            ports.join(", "),
            pod.ip()
        )
    }
}

/// An HTTPRoute on a Service: `rules` in YAML, not indented.
pub fn http_route(namespace: &str, service: &str, port: u16, rules: &str) -> String {
    let rules: String = rules.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: {service}, namespace: {namespace} }}\n\
         spec:\n  parentRefs:\n  - {{ group: \"\", kind: Service, name: {service}, port: {port} }}\n  rules:\n{rules}"
    )
}

/// Rules that split between backends by weight.
pub fn split(port: u16, weights: &[(&str, u32)]) -> String {
    let backends = weights
        .iter()
        .map(|(name, weight)| format!("  - {{ name: {name}, port: {port}, weight: {weight} }}\n"));
    format!("- backendRefs:\n{}", backends.collect::<String>())
}
