//! Labels a Namespace as its annotation says, while it is being written: the Pods that are applied right after it are then asked about.
//! Who writes it is told when none of them could be made.

use super::{Request, patched};
use crate::cluster::mirror;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::admission::AdmissionResponse;
use mesh_policy::namespaces;

/// Refuses nothing.
pub fn answer(request: &Request) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let is_namespace = request.kind.kind == "Namespace";
    let Some(object) = request.object.clone().filter(|_| is_namespace) else { return response };
    let Ok(namespace) = object.try_parse::<Namespace>() else { return response };
    let Ok(patch) = serde_json::from_value(mirror::patch(&namespace)) else {
        return response;
    };
    let mut response = patched(request, patch);
    response.warnings = namespaces::refusal(&namespace).map(|refusal| vec![refusal]);
    response
}
