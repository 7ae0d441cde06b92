//! What is made of an AuthorizationPolicy that cannot be read, such as one of a newer version: wherever it is aimed, nobody is let in.
//! A target that cannot be read either might be anything of the namespace, so it is all of it.

use super::{AuthorizationPolicySpec, Mode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

/// In place of a `spec`. Never lets in more than the policy does that its author meant, as far as what we know of it goes; one that
/// is plainly in audit mode goes on deciding nothing.
pub fn closed(spec: &Value) -> AuthorizationPolicySpec {
    let mode = if spec["mode"] == "audit" { Mode::Audit } else { Mode::Enforce };
    let nobody =
        AuthorizationPolicySpec { target_refs: vec![], selector: None, ports: vec![], mode, rules: vec![] };
    let target_refs = list(&spec["targetRefs"]).map(|refs| refs.iter().map(target).collect::<Option<_>>());
    let selector = match &spec["selector"] {
        Value::Null => Some(None),
        selector => read_selector(selector).map(Some),
    };
    match (target_refs, selector) {
        (Some(Some(target_refs)), Some(selector)) => {
            let aimed = AuthorizationPolicySpec { target_refs, selector, ..nobody.clone() };
            if aimed.target_refs.is_empty() && aimed.selector.is_none() {
                return everywhere(nobody);
            }
            AuthorizationPolicySpec { ports: ports(&spec["ports"]), ..aimed }
        }
        _ => everywhere(nobody),
    }
}

fn everywhere(nobody: AuthorizationPolicySpec) -> AuthorizationPolicySpec {
    AuthorizationPolicySpec { selector: Some(LabelSelector::default()), ..nobody }
}

/// `None`: no list.
fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Null => Some(&[]),
        Value::Array(all) => Some(all),
        _ => None,
    }
}

/// A Service. A port that cannot be read is any of its ports, as are fields that we do not know: they would narrow it.
fn target(target: &Value) -> Option<super::TargetRef> {
    let is_service =
        matches!(target["group"].as_str(), None | Some("" | "core")) && target["kind"] == "Service";
    let name = target["name"].as_str().filter(|name| !name.is_empty() && is_service)?;
    Some(super::TargetRef {
        group: String::new(),
        kind: "Service".into(),
        name: name.into(),
        port: target["port"].as_u64().and_then(|port| u16::try_from(port).ok()),
    })
}

fn read_selector(selector: &Value) -> Option<LabelSelector> {
    let known = selector.as_object()?.keys().all(|key| matches!(&**key, "matchLabels" | "matchExpressions"));
    let read: LabelSelector = serde_json::from_value(selector.clone()).ok().filter(|_| known)?;
    let operators = read.match_expressions.iter().flatten().map(|own| own.operator.as_str());
    let all_known =
        operators.into_iter().all(|own| matches!(own, "In" | "NotIn" | "Exists" | "DoesNotExist"));
    all_known.then_some(read)
}

/// Empty, which is all of them, where one cannot be read.
fn ports(ports: &Value) -> Vec<u16> {
    let read = |port: &Value| port.as_u64().and_then(|port| u16::try_from(port).ok());
    ports.as_array().and_then(|all| all.iter().map(read).collect()).unwrap_or_default()
}
