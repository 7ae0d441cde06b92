//! Whether a new Pod gets a proxy: `mesh_charts` decides, from the Pod, its Namespace's annotations and the chart's values.

use super::{Request, patched};
use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::admission::{AdmissionResponse, Operation};
use mesh_charts::inject::{self, Cluster, Injection, Outcome};
use std::{collections::BTreeMap, path::Path};

pub struct Injector {
    pub injection: Injection,
    pub cluster: Cluster,
}

impl Injector {
    pub fn open(file: &Path, cluster: Cluster) -> anyhow::Result<Injector> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("reading {} (is the ConfigMap mounted?)", file.display()))?;
        let injection = Injection::parse(&text).with_context(|| format!("reading {}", file.display()))?;
        Ok(Injector { injection, cluster })
    }

    /// Never refuses a Pod: what cannot be read or meshed stays as it is, and is found later.
    pub fn answer(&self, request: &Request, its_namespace: &Namespace) -> AdmissionResponse {
        let response = AdmissionResponse::from(request);
        let is_new_pod = request.kind.kind == "Pod" && request.operation == Operation::Create;
        let Some(object) = request.object.clone().filter(|_| is_new_pod) else { return response };
        let name = object
            .metadata
            .name
            .clone()
            .or_else(|| object.metadata.generate_name.clone())
            .unwrap_or_default();
        let namespace = request.namespace.clone().unwrap_or_default();
        let pod: Pod = match object.try_parse() {
            Ok(pod) => pod,
            Err(error) => {
                tracing::warn!(namespace, pod = name, %error, "a new Pod cannot be read and gets no proxy");
                return response;
            }
        };
        let none = BTreeMap::new();
        let annotations = its_namespace.metadata.annotations.as_ref().unwrap_or(&none);
        let decision = inject::inject(&pod, annotations, &self.injection, self.cluster);
        match &decision.outcome {
            Outcome::Injected => tracing::debug!(namespace, pod = name, "a new Pod gets a proxy"),
            Outcome::Already => {}
            Outcome::Skipped(skip) => {
                tracing::debug!(namespace, pod = name, %skip, "a new Pod gets no proxy")
            }
        }
        patched(request, decision.patch)
    }
}
