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

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may call what this policy targets. As soon as one enforcing policy targets a port, only what such policies allow is allowed.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "mesh.dev", version = "v1alpha1", kind = "AuthorizationPolicy", namespaced)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
    pub group: String,
    /// `Service`.
    pub kind: String,
    pub name: String,
    /// The Service's port; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityRef {
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
    pub kind: String,
    pub name: String,
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
