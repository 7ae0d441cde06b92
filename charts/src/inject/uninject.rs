//! Takes out of a Pod what `inject` has put in.

use super::{DEFAULT_CONTAINER, Patch, patch, sidecar};
use k8s_openapi::api::core::v1::Pod;
use mesh_api::names;
use std::collections::BTreeMap;

/// Empty where nothing of ours is in the Pod. A list or map that held nothing else goes with it.
pub fn uninject(pod: &Pod) -> Patch {
    let mut patch = patch::Builder::default();
    let mut annotations = vec![names::INJECT_STATUS];
    annotations.extend(names_the_first(pod).then_some(DEFAULT_CONTAINER));
    take(&mut patch, "annotations", pod.metadata.annotations.as_ref(), &annotations);
    take(&mut patch, "labels", pod.metadata.labels.as_ref(), &[names::CONTROL_NAMESPACE_LABEL]);
    let Some(spec) = &pod.spec else { return patch.finish() };
    let containers = [names::PROXY_CONTAINER, names::INIT_CONTAINER];
    let named = |list: &[k8s_openapi::api::core::v1::Container]| -> Vec<String> {
        list.iter().map(|container| container.name.clone()).collect()
    };
    remove(
        &mut patch,
        "initContainers",
        &named(spec.init_containers.as_deref().unwrap_or_default()),
        &containers,
    );
    remove(&mut patch, "containers", &named(&spec.containers), &containers);
    let volumes: Vec<String> = spec.volumes.iter().flatten().map(|volume| volume.name.clone()).collect();
    remove(&mut patch, "volumes", &volumes, &sidecar::VOLUMES);
    patch.finish()
}

/// Whether the annotation says what holds without it once the classic sidecar is gone, be it ours or not.
fn names_the_first(pod: &Pod) -> bool {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let [proxy, first, ..] = containers else { return false };
    let default = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CONTAINER));
    proxy.name == names::PROXY_CONTAINER && default == Some(&first.name)
}

fn take(patch: &mut patch::Builder, field: &str, map: Option<&BTreeMap<String, String>>, names: &[&str]) {
    let Some(map) = map else { return };
    let there: Vec<&&str> = names.iter().filter(|name| map.contains_key(**name)).collect();
    if !there.is_empty() && there.len() == map.len() {
        return patch.remove(&["metadata", field]);
    }
    for name in there {
        patch.remove(&["metadata", field, name]);
    }
}

/// From the end, so that the places of those before stay.
fn remove(patch: &mut patch::Builder, list: &str, there: &[String], ours: &[&str]) {
    let places: Vec<usize> =
        (0..there.len()).filter(|&place| ours.contains(&there[place].as_str())).collect();
    if !places.is_empty() && places.len() == there.len() {
        return patch.remove(&["spec", list]);
    }
    for place in places.into_iter().rev() {
        patch.remove(&["spec", list, &place.to_string()]);
    }
}
