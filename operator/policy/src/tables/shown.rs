//! What people are shown of the tables: who may call whom, where requests would go, and what proxies are told.

use super::Tables;
use crate::{
    Authority, AuthorityError, Endpoint, Place, PodInfo, ProtocolHint, ServiceKind, inbound,
    outbound::{Policy, Target},
    selector,
};
use mesh_api::{authz::AuthzList, endpoints as api};
use std::{collections::BTreeSet, sync::Arc};

impl Tables {
    /// Who may call the workload `to` (`namespace/name`), and why; with `from`, only that workload.
    /// Empty where a workload does not exist. Of namespaces that are not seen, nobody but whom the policy names.
    pub fn authz(&self, to: &str, from: Option<&str>, sees: impl Fn(&str) -> bool) -> AuthzList {
        let workload = |wanted: &str| -> Vec<&PodInfo> {
            let Some((namespace, name)) = wanted.split_once('/') else { return vec![] };
            let is_it = |pod: &&Arc<PodInfo>| {
                pod.namespace == namespace && (pod.workload == name || pod.name == name)
            };
            self.pods().iter().filter(is_it).map(Arc::as_ref).collect()
        };
        let mut callers = vec![];
        if let Some(from) = from {
            callers = workload(from);
            if callers.is_empty() {
                return AuthzList { rows: vec![] };
            }
        }
        let identities = self.settings.identities();
        let meshed = self.pods().iter().filter(|pod| pod.meshed);
        let accounts = inbound::Accounts {
            all: &self.service_accounts,
            run: meshed.map(|pod| (pod.namespace.as_str(), pod.service_account.as_str())).collect(),
            sees: &sees,
        };
        let mut rows = vec![];
        // Pods of a workload may differ (a rollout in between): equal answers are given once.
        for server in workload(to) {
            let mut ports: BTreeSet<u16> = server.ports.iter().copied().collect();
            ports.extend(
                self.services
                    .services
                    .values()
                    .filter(|service| service.namespace == server.namespace)
                    .filter(|service| selector::selects(&service.selector, server.labels()))
                    .flat_map(|service| &service.ports)
                    .filter_map(|own| own.target_on(&server.named_ports)),
            );
            for port in ports {
                let policy = self.inbound_of(server, port);
                for row in inbound::answer(server, port, &policy, &callers, &accounts, &identities) {
                    if !rows.contains(&row) {
                        rows.push(row);
                    }
                }
            }
        }
        AuthzList { rows }
    }

    /// The endpoints that a balancer would be told, wherever it is, for people. Short authorities (`reviews.bookinfo:9080`) are completed.
    /// An address that is a Pod's in a namespace that is not seen is an address and no more.
    pub fn endpoints(
        &self,
        authority: &str,
        sees: impl Fn(&str) -> bool,
    ) -> Result<api::EndpointList, String> {
        let authority = self.authority(authority).map_err(|error| error.to_string())?;
        let service = self.service(&authority.namespace, &authority.service);
        if service.is_some_and(|service| service.kind == ServiceKind::ExternalName) {
            return Err(format!(
                "Service {authority} is an ExternalName: a name for a place outside of the mesh, which has no endpoints"
            ));
        }
        let set = self.resolve(&authority, Place::default());
        let seen = set.endpoints.into_values().map(|endpoint| match is_seen(&endpoint, &sees) {
            true => *endpoint,
            false => Endpoint::bare(endpoint.addr),
        });
        let endpoints = seen.map(|endpoint| api::Endpoint {
            addr: endpoint.addr.to_string(),
            pod: match endpoint.pod.is_empty() {
                true => String::new(),
                false => format!("{}/{}", endpoint.namespace, endpoint.pod),
            },
            workload: endpoint.workload,
            zone: endpoint.zone,
            identity: endpoint.identity,
            protocol_hint: match endpoint.hint {
                ProtocolHint::None => String::new(),
                ProtocolHint::H2 => "h2".into(),
                ProtocolHint::Opaque => "opaque".into(),
            },
        });
        Ok(api::EndpointList {
            authority: authority.in_domain(&self.settings.cluster_domain),
            exists: set.exists,
            endpoints: endpoints.collect(),
        })
    }

    /// Whether there is a Namespace of this name. Manifests need not have one: there, anything in it will do.
    pub fn has_namespace(&self, name: &str) -> bool {
        let mut policies = self.world.authorization_policies.iter();
        self.world.namespaces.iter().any(|own| own.metadata.name.as_deref() == Some(name))
            || self.service_accounts.iter().any(|(namespace, _)| namespace == name)
            || self.services.services.keys().any(|(namespace, _)| namespace == name)
            || self.routes.routes.iter().any(|route| route.namespace == name)
            || policies.any(|own| own.metadata.namespace.as_deref().unwrap_or("default") == name)
    }

    /// The namespace of the Service that an authority names; `None` for an address, and for what is no name.
    pub fn namespace_of(&self, authority: &str) -> Option<String> {
        self.authority(authority).ok().map(|authority| authority.namespace)
    }

    /// What a proxy would be told about an authority or address. `from`: `namespace` or `namespace/pod` of the client.
    /// Whose an address is, is left out as in [`Tables::endpoints`].
    pub fn outbound_json(
        &self,
        authority: &str,
        from: &str,
        sees: impl Fn(&str) -> bool,
    ) -> Result<serde_json::Value, String> {
        let target = match self.authority(authority) {
            Ok(authority) => Target::Authority(authority),
            Err(AuthorityError::Address(addr)) => Target::Addr(addr),
            Err(error) => return Err(error.to_string()),
        };
        let namespace = from.split('/').next().unwrap_or_default();
        let policy = self
            .outbound(&target, namespace)
            .ok_or_else(|| format!("no Service is known as {authority:?}"))?;
        let policy = match policy {
            Policy::Forward(to) if !is_seen(&to.endpoint, &sees) => {
                self.forward(Endpoint::bare(to.endpoint.addr))
            }
            Policy::Forward(_) | Policy::Service(_) | Policy::UndefinedPort { .. } => policy,
        };
        serde_json::to_value(policy).map_err(|error| error.to_string())
    }

    /// What the proxy of a Pod would be told about its port.
    pub fn inbound_json(&self, namespace: &str, pod: &str, port: u16) -> Result<serde_json::Value, String> {
        let policy = self
            .inbound(namespace, pod, port)
            .ok_or_else(|| format!("no Pod is known as {namespace}/{pod}"))?;
        serde_json::to_value(policy).map_err(|error| error.to_string())
    }

    /// Reads an authority as people write it: `name.namespace[:port]`, or in full.
    fn authority(&self, text: &str) -> Result<Authority, AuthorityError> {
        let domain = &self.settings.cluster_domain;
        let full = Authority::parse(text, domain);
        if !matches!(full, Err(AuthorityError::Foreign(..))) {
            return full;
        }
        let (host, port) = text.split_once(':').unwrap_or((text, "80"));
        let host = host.trim_end_matches('.').trim_end_matches(".svc");
        // What is wrong is told of what was written.
        Authority::parse(&format!("{host}.svc.{domain}:{port}"), domain).or(full)
    }
}

/// A slice that names no Pod may hold the address of anybody's.
fn is_seen(endpoint: &Endpoint, sees: impl Fn(&str) -> bool) -> bool {
    endpoint.pod.is_empty() || sees(&endpoint.namespace)
}
