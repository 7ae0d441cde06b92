//! The chart in `mesh/`, rendered: values in, Kubernetes objects out, the same ones that `helm template` makes.

use crate::{
    template::{self, Templates},
    values::Values,
};
use serde_json::{Value, json};

/// The release that `helm template` stands for unless told otherwise.
const RELEASE: &str = "mesh";
const RELEASE_NAMESPACE: &str = "default";

/// Its name in the chart, and its text.
macro_rules! template_file {
    ($name:literal) => {
        (concat!("templates/", $name), include_str!(concat!("../mesh/templates/", $name)))
    };
}
const FILES: [(&str, &str); 8] = [
    template_file!("_helpers.tpl"),
    template_file!("config.yaml"),
    template_file!("crds.yaml"),
    template_file!("deployment.yaml"),
    template_file!("namespace.yaml"),
    template_file!("rbac.yaml"),
    template_file!("service.yaml"),
    template_file!("webhooks.yaml"),
];

/// All kinds of the chart in the order in which they are applied: what others need comes first. Deleted in reverse.
pub const KINDS: [(&str, &str); 14] = [
    ("v1", "Namespace"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Template(#[from] template::Error),
    #[error("{file}: {reason}")]
    Yaml { file: String, reason: String },
}

/// One object of the chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// As the template wrote it, with its comments.
    pub yaml: String,
    pub value: Value,
}

impl Object {
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// All objects, in the order in which they are to be applied.
pub fn render(values: &Values) -> Result<Vec<Object>, Error> {
    let templates = Templates::parse(&FILES)?;
    let data = json!({
        "Values": values,
        "Release": { "Name": RELEASE, "Namespace": RELEASE_NAMESPACE, "Service": "Helm" },
        "Chart": { "Name": "mesh", "Version": env!("CARGO_PKG_VERSION"), "AppVersion": env!("CARGO_PKG_VERSION") },
    });
    let mut objects = vec![];
    for (file, text) in templates.render(&data)? {
        for yaml in documents(&text) {
            let value: Value = serde_saphyr::from_str(yaml)
                .map_err(|e| Error::Yaml { file: file.clone(), reason: e.to_string() })?;
            if !value.is_null() {
                objects.push(Object { yaml: format!("{}\n", yaml.trim()), value });
            }
        }
    }
    objects.sort_by_key(|object| KINDS.iter().position(|(_, kind)| *kind == object.kind()));
    Ok(objects)
}

/// Cut at lines of three dashes.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---\n").filter(|document| !document.trim().is_empty())
}

#[cfg(test)]
mod tests;
