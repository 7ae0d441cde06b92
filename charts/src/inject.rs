//! Whether a Pod gets a proxy, and the patch that puts it there. The webhook and `mesh inject` ask the same functions.
//!
//! `settings` reads what Pod, Namespace and chart say, `sidecar` writes containers and volumes, `skip` knows why a Pod gets none,
//! `uninject` takes a proxy out again, `manifest` finds the Pods in files.

pub mod manifest;
mod patch;
mod settings;
mod sidecar;
mod skip;
mod uninject;

pub use json_patch::Patch;
pub use skip::{Skip, is_left_out};
pub use uninject::uninject;

use crate::{
    chart,
    values::{DefaultPolicy, Proxy, PullPolicy, Redirection, Sidecar, Values},
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use mesh_api::names;
use serde::{Deserialize, Serialize};
use serde_json::json;
use settings::Settings;
use std::collections::BTreeMap;

/// What every sidecar of a mesh has in common; the ConfigMap `mesh-injection` holds it. Fields that a later version adds are passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Injection {
    pub control_namespace: String,
    pub trust_domain: String,
    pub cluster_domain: String,
    pub default_policy: DefaultPolicy,
    pub image: String,
    pub pull_policy: PullPolicy,
    pub proxy: Proxy,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Chart(#[from] chart::Error),
    #[error("injection: {0}")]
    Yaml(String),
}

impl Injection {
    /// The text in the ConfigMap. What a later version has put there, and we do not know, is left out: while the mesh is upgraded, the
    /// chart's new ConfigMap is read by operators that have not been replaced yet.
    pub fn parse(yaml: &str) -> Result<Injection, Error> {
        let mut read: serde_json::Value =
            serde_saphyr::from_str(yaml).map_err(|e| Error::Yaml(e.to_string()))?;
        let known = json!(Proxy::default());
        let proxy = read.get_mut("proxy").and_then(serde_json::Value::as_object_mut);
        if let (Some(proxy), Some(known)) = (proxy, known.as_object()) {
            proxy.retain(|name, _| known.contains_key(name));
        }
        let injection: Injection = serde_json::from_value(read).map_err(|e| Error::Yaml(e.to_string()))?;
        injection.proxy.makes_sense().map_err(|e| Error::Yaml(e.to_string()))?;
        Ok(injection)
    }

    /// What the chart would put into the ConfigMap.
    pub fn of(values: &Values) -> Result<Injection, Error> {
        let objects = chart::render(values)?;
        let config = objects.iter().find(|object| object.name() == names::INJECTION_CONFIG_MAP);
        let text = config.and_then(|config| config.value["data"][names::INJECTION_KEY].as_str());
        Injection::parse(text.ok_or_else(|| Error::Yaml("the chart has no such ConfigMap".into()))?)
    }
}

/// What the cluster can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Init containers may stay (`restartPolicy: Always`), whichever node a Pod comes to.
    pub native_sidecars: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Injected,
    /// A proxy of ours is in there.
    Already,
    Skipped(Skip),
}

/// Which container `kubectl logs` and `kubectl exec` mean when none is named: otherwise the first, where a classic sidecar stands.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What becomes of a Pod, and the patch that does it; empty where nothing is to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub outcome: Outcome,
    pub patch: Patch,
}

/// `namespace`: its annotations. A Pod's own annotation wins over its Namespace's, which wins over the chart's value.
pub fn inject(
    pod: &Pod,
    namespace: &BTreeMap<String, String>,
    injection: &Injection,
    cluster: Cluster,
) -> Decision {
    let none = BTreeMap::new();
    let own = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let annotation = |name: &str| own.get(name).or_else(|| namespace.get(name)).map(String::as_str);
    let Some(spec) = &pod.spec else { return skipped(pod, Skip::NoContainer) };
    if has_proxy(spec) {
        return Decision { outcome: Outcome::Already, patch: Patch::default() };
    }
    if let Some(skip) = skip::wish(annotation(names::INJECT)).or_else(|| skip::obstacle(pod, spec, injection))
    {
        return skipped(pod, skip);
    }
    let settings = match Settings::read(annotation, injection) {
        Ok(settings) => settings,
        Err(skip) => return skipped(pod, skip),
    };
    let sidecar = if cluster.native_sidecars { settings.proxy.sidecar } else { Sidecar::Classic };
    if sidecar == Sidecar::Classic && skip::ends(spec) {
        return skipped(pod, Skip::ClassicJob);
    }
    Decision { outcome: Outcome::Injected, patch: with_proxy(pod, spec, &settings, sidecar, injection) }
}

fn with_proxy(
    pod: &Pod,
    spec: &PodSpec,
    settings: &Settings,
    sidecar: Sidecar,
    injection: &Injection,
) -> Patch {
    let mut patch = patch::Builder::default();
    let mut annotations = BTreeMap::from([(names::INJECT_STATUS, "injected")]);
    if sidecar == Sidecar::Classic && !is_annotated(pod, DEFAULT_CONTAINER) {
        annotations.extend(spec.containers.first().map(|first| (DEFAULT_CONTAINER, first.name.as_str())));
    }
    patch.annotate(pod, annotations);
    patch.label(pod, [(names::CONTROL_NAMESPACE_LABEL, injection.control_namespace.as_str())].into());
    let volumes = sidecar::volumes().into_iter().map(|volume| json!(volume)).collect();
    patch.append("volumes", spec.volumes.is_some(), volumes);
    let redirection = redirection(spec, settings);
    let init = (redirection == Redirection::Init).then(|| json!(sidecar::init(spec, settings, injection)));
    let proxy = json!(sidecar::proxy(spec, settings, sidecar, redirection, injection));
    let has_init = spec.init_containers.is_some();
    match sidecar {
        // Before all others, so that these have a network that works.
        Sidecar::Native => {
            patch.prepend("initContainers", has_init, init.into_iter().chain([proxy]).collect());
        }
        // Init containers run before any proxy does, so traffic is redirected after the last of them; and kubelet starts
        // containers in their order, so the proxy is there when the application starts.
        Sidecar::Classic => {
            if let Some(init) = init {
                patch.append("initContainers", has_init, vec![init]);
            }
            patch.prepend("containers", true, vec![proxy]);
        }
    }
    patch.finish()
}

/// As wished, but where every container is root by its spec: if the proxy's is, too, kubelet makes the token readable for root alone,
/// which the proxy is not when it reads it.
fn redirection(spec: &PodSpec, settings: &Settings) -> Redirection {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let user = |container: &Container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)
    };
    match skip::containers(spec).all(|container| user(container) == Some(0)) {
        true => Redirection::Init,
        false => settings.proxy.redirection,
    }
}

/// Who asked for a proxy and gets none finds the reason on the Pod.
fn skipped(pod: &Pod, skip: Skip) -> Decision {
    let mut patch = patch::Builder::default();
    if skip.is_worth_telling() {
        patch.annotate(pod, [(names::INJECT_STATUS, format!("skipped: {skip}").as_str())].into());
    }
    Decision { outcome: Outcome::Skipped(skip), patch: patch.finish() }
}

fn is_annotated(pod: &Pod, name: &str) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(name))
}

fn has_proxy(spec: &PodSpec) -> bool {
    skip::containers(spec)
        .any(|container| [names::PROXY_CONTAINER, names::INIT_CONTAINER].contains(&container.name.as_str()))
}

#[cfg(test)]
mod tests;
