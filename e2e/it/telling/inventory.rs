//! Everything that a cluster holds.

use super::place::Place;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    core::discovery::Scope,
    discovery::{Discovery, verbs},
};

/// An object, wherever it is.
pub struct Item {
    pub kind: String,
    /// Of a Namespace, its own name.
    pub namespace: String,
    pub object: DynamicObject,
}

impl Item {
    pub fn name(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.object.name_any())
    }
}

/// All objects that can be listed, but for Events, which tell of what was, and for what is on its way out.
pub async fn everything(place: &Place) -> Vec<Item> {
    let discovery = Discovery::new(place.client.clone()).run().await.unwrap();
    let mut found = vec![];
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) || resource.kind == "Event" {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(place.client.clone(), &resource);
            for object in api.list(&ListParams::default()).await.unwrap() {
                let namespace = match capabilities.scope {
                    Scope::Namespaced => object.namespace().unwrap_or_default(),
                    Scope::Cluster if resource.kind == "Namespace" => object.name_any(),
                    Scope::Cluster => String::new(),
                };
                if object.metadata.deletion_timestamp.is_none() {
                    found.push(Item { kind: resource.kind.clone(), namespace, object });
                }
            }
        }
    }
    found
}
