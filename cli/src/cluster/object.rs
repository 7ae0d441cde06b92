//! Objects of any kind: applied by server-side apply, found, deleted.

use super::{Cluster, found};
use anyhow::Context;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

/// Field manager of what we apply. What others wrote beside it stays, such as the webhook's caBundle.
const MANAGER: &str = "mesh";

/// What applying has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Created,
    Changed,
    Unchanged,
}

impl Cluster {
    /// An Api of the object's kind and namespace.
    pub fn api(&self, object: &Value) -> Api<DynamicObject> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&object["apiVersion"]);
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        // The plurals of all kinds in the chart are regular.
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(&object["kind"])));
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub async fn apply(&self, object: &Value) -> anyhow::Result<Applied> {
        let api = self.api(object);
        let name = name(object);
        let version = |object: &DynamicObject| object.metadata.resource_version.clone();
        let apply = async {
            let before = found(api.get(name).await)?;
            let after = api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await?;
            Ok(match before {
                None => Applied::Created,
                Some(before) if version(&before) == version(&after) => Applied::Unchanged,
                Some(_) => Applied::Changed,
            })
        };
        self.ask(apply).await.with_context(|| format!("apply {}", subject(object)))
    }

    /// Whether it was there. Waits for nothing.
    pub async fn delete(&self, object: &Value) -> anyhow::Result<bool> {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let api = self.api(object);
        let delete =
            async { found(api.delete(name(object), &params).await).map(|deleted| deleted.is_some()) };
        self.ask(delete).await.with_context(|| format!("delete {}", subject(object)))
    }

    /// The object as it is on the cluster.
    pub async fn get(&self, object: &Value) -> anyhow::Result<Option<DynamicObject>> {
        let api = self.api(object);
        let get = async { found(api.get(name(object)).await) };
        self.ask(get).await.with_context(|| format!("get {}", subject(object)))
    }
}

/// `Deployment mesh-system/mesh-operator`
pub fn subject(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{}", name(object)),
        None => format!("{kind} {}", name(object)),
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}
