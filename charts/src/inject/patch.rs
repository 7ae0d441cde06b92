//! JSON patches on Pods, written as typed operations: what stands in an annotation can never become structure.

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The operations that lead there, in their order.
#[derive(Debug, Default)]
pub struct Builder {
    operations: Vec<PatchOperation>,
}

impl Builder {
    /// All annotations at once, and all labels.
    pub fn annotate(&mut self, pod: &Pod, new: BTreeMap<&str, &str>) {
        self.put("annotations", pod.metadata.annotations.as_ref(), new);
    }

    pub fn label(&mut self, pod: &Pod, new: BTreeMap<&str, &str>) {
        self.put("labels", pod.metadata.labels.as_ref(), new);
    }

    fn put(&mut self, field: &str, map: Option<&BTreeMap<String, String>>, new: BTreeMap<&str, &str>) {
        if map.is_none() {
            return self.add(&["metadata", field], json!(new));
        }
        for (name, value) in new {
            self.add(&["metadata", field, name], json!(value));
        }
    }

    /// At the end of a list of the spec, which may not exist yet.
    pub fn append(&mut self, list: &str, exists: bool, items: Vec<Value>) {
        if !exists {
            return self.add(&["spec", list], items.into());
        }
        for item in items {
            self.add(&["spec", list, "-"], item);
        }
    }

    /// At the beginning of one.
    pub fn prepend(&mut self, list: &str, exists: bool, items: Vec<Value>) {
        if !exists {
            return self.add(&["spec", list], items.into());
        }
        for (index, item) in items.into_iter().enumerate() {
            self.add(&["spec", list, &index.to_string()], item);
        }
    }

    pub fn add(&mut self, path: &[&str], value: Value) {
        self.operations.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }

    pub fn remove(&mut self, path: &[&str]) {
        self.operations.push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
    }

    pub fn finish(self) -> Patch {
        Patch(self.operations)
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}
