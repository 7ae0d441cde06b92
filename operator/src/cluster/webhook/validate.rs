//! What is odd about a route or policy, told to whoever applies it. Only what nothing could be made of is refused, and of routes,
//! which others own, not even that.

use super::Request;
use crate::world::stores::Readers;
use kube::{
    ResourceExt,
    api::DynamicObject,
    core::admission::{AdmissionResponse, Operation},
};
use mesh_policy::{List, Settings, Tables, World};
use serde::de::DeserializeOwned;
use std::sync::Arc;

pub fn answer(request: &Request, readers: &Readers, settings: &Settings) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let Some(object) = request.object.clone().filter(|_| request.operation != Operation::Delete) else {
        return response;
    };
    let kind = request.kind.kind.as_str();
    let namespace = request.namespace.clone().unwrap_or_else(|| "default".into());
    let object = placed(object, &namespace);
    let own = object.name_any();
    let name = format!("{kind} {namespace}/{own}");
    let mut world = readers.world();
    // They say nothing about a route, and are most of the world.
    (world.pods, world.endpoint_slices) = Default::default();
    match put(&mut world, kind, object) {
        Ok(true) => {}
        Ok(false) => return response,
        Err(error) if kind == "AuthorizationPolicy" => {
            return response.deny(format!("{name} cannot be read: {error}"));
        }
        Err(error) => return warning(response, vec![format!("cannot be read: {error}")]),
    }
    let tables = Tables::build(&world, settings);
    let findings = tables.diagnostics().iter().filter(|finding| finding.object == name);
    let texts = findings.map(|finding| match finding.remedy.as_str() {
        "" => finding.message.clone(),
        remedy => format!("{} ({remedy})", finding.message),
    });
    warning(response, texts.chain(tables.advice(kind, &namespace, &own)).collect())
}

/// The API server passes these on to `kubectl`; it cuts long ones off.
fn warning(mut response: AdmissionResponse, texts: Vec<String>) -> AdmissionResponse {
    let warnings = texts.into_iter().map(|text| text.chars().take(250).collect()).collect::<Vec<String>>();
    response.warnings = (!warnings.is_empty()).then_some(warnings);
    response
}

fn placed(mut object: DynamicObject, namespace: &str) -> DynamicObject {
    object.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
    if object.metadata.name.is_none() {
        object.metadata.name = object.metadata.generate_name.clone();
    }
    object
}

/// Puts the object into the world in place of its former self. `false`: a kind that is not ours to judge.
fn put(world: &mut World, kind: &str, object: DynamicObject) -> Result<bool, String> {
    match kind {
        "HTTPRoute" => replace(&mut world.http_routes, read(object)?),
        "GRPCRoute" => replace(&mut world.grpc_routes, read(object)?),
        "AuthorizationPolicy" => {
            let policy = read(object)?;
            let faults = mesh_policy::faults(&policy);
            if !faults.is_empty() {
                return Err(faults.join("; "));
            }
            replace(&mut world.authorization_policies, policy);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn read<K: kube::Resource + DeserializeOwned>(object: DynamicObject) -> Result<K, String> {
    object.try_parse().map_err(|error| error.to_string())
}

fn replace<K: Clone + ResourceExt>(all: &mut List<K>, object: K) {
    let all = Arc::make_mut(all);
    all.retain(|own| (own.namespace(), own.name_any()) != (object.namespace(), object.name_any()));
    all.push(Arc::new(object));
}
