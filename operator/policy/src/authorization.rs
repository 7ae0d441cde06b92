//! Our one policy kind, `AuthorizationPolicy`: who may call a Service or a workload. Its shape follows GEP-3779.
//!
//! ```yaml
//! apiVersion: mesh.dev/v1alpha1
//! kind: AuthorizationPolicy
//! metadata: { name: ratings, namespace: bookinfo }
//! spec:
//!   targetRefs:                                   # Services of the same namespace, by name …
//!   - { group: "", kind: Service, name: ratings, port: 9080 }
//!   selector: { matchLabels: { app: ratings } }   # … or Pods of the same namespace, by label, with `ports` if not all
//!   mode: enforce                                 # or audit: decides nothing, records who would be refused
//!   rules:                                        # any rule; within a rule any of `from`, and any of `routes`
//!   - from:
//!     - serviceAccount: { name: bookinfo-reviews }          # namespace: the policy's own unless given
//!     - namespace: { name: shop }
//!     - identity: { name: x.y.serviceaccount.identity.mesh.cluster.local }
//!     - network: { cidr: 10.0.0.0/8, except: [10.1.0.0/16] }   # anybody from there, certificate or not
//!     routes:                                     # only requests that match one of these routes
//!     - { kind: HTTPRoute, name: ratings-read }
//! ```

mod closed;

pub use closed::closed;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may call what this policy targets. As soon as one enforcing policy targets a port, only what such policies allow is allowed.
// The chart holds the kind's definition, as `AuthorizationPolicy::crd()` writes it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mesh.dev",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    namespaced,
    derive = "PartialEq",
    status = "AuthorizationPolicyStatus",
    doc = "Who may call a Service or a workload.",
    shortname = "authz",
    category = "mesh",
    label("app.kubernetes.io/part-of", "mesh"),
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.targetRefs) || has(self.selector)", "message": "targets nothing: give it targetRefs or a selector" },
    { "rule": "!has(self.ports) || has(self.selector)", "message": "ports belong to a selector; a targetRef has a port of its own" },
]))]
pub struct AuthorizationPolicySpec {
    /// Services of the policy's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetRef>,
    /// Pods of the policy's namespace; `{}` is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub selector: Option<LabelSelector>,
    /// With `selector`: the container ports that are meant; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ports")]
    pub ports: Vec<u16>,
    #[serde(default)]
    pub mode: Mode,
    /// Empty: nobody.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Enforce,
    /// Grants nothing and refuses nothing: what the default policy allows is allowed, and recorded where no rule would allow it.
    Audit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetRef {
    /// Empty, or `core`.
    #[serde(default)]
    #[schemars(extend("enum" = ["", "core"]))]
    pub group: String,
    /// `Service`.
    #[schemars(extend("enum" = ["Service"]))]
    pub kind: String,
    pub name: String,
    /// The Service's port; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "port")]
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Any of them. Empty: anybody in the mesh.
    #[serde(default)]
    pub from: Vec<Source>,
    /// Any of them. Empty: every request and every connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteRef>,
}

/// Exactly one field is set. Written as a field and not as a tag so that YAML reads `- namespace: { name: shop }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    ServiceAccount(ServiceAccountRef),
    Namespace(NamespaceRef),
    /// Compared byte for byte.
    Identity(IdentityRef),
    /// Anybody from there, with or without a certificate.
    Network(NetworkRef),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountRef {
    pub name: String,
    /// The policy's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceRef {
    #[schemars(regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityRef {
    #[schemars(regex(pattern = "^[-.a-z0-9]+$"))]
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkRef {
    /// `10.0.0.0/8`, or one address.
    pub cidr: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// A route of the policy's namespace; only its matches count here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRef {
    /// `HTTPRoute` or `GRPCRoute`.
    #[serde(default = "http_route")]
    #[schemars(extend("enum" = ["HTTPRoute", "GRPCRoute"]))]
    pub kind: String,
    pub name: String,
}

/// What the mesh made of the policy, written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuthorizationPolicyStatus {
    /// `Accepted`: whether all of it is in force; where not, `message` says what is left out.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

fn http_route() -> String {
    "HTTPRoute".into()
}

fn label_selector(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
            "matchExpressions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string" },
                        "operator": { "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] },
                        "values": { "type": "array", "items": { "type": "string" } }
                    }
                }
            }
        }
    })
}

fn port(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "format": "int32", "minimum": 1, "maximum": 65535 })
}

fn ports(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "array", "items": port(generator) })
}

fn conditions(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string" },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "observedGeneration": { "type": "integer", "format": "int64" },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "reason": { "type": "string" },
                "message": { "type": "string" }
            }
        }
    })
}
