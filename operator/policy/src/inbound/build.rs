//! AuthorizationPolicies and defaults into the policy of one port.

use super::{Authentication, Authorization, DefaultPolicy, Network, Policy, Route};
use crate::{
    Meta, PodInfo, Probe,
    authorization::{AuthorizationPolicy, Mode, NetworkRef, Rule, Source},
    identity::Identities,
    outbound::{HttpMatch, PathMatch},
    selector,
    services::Services,
};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use mesh_api::dns;
use std::{net::IpAddr, sync::Arc};

/// What kubelet calls for a probe by gRPC.
const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// All AuthorizationPolicies, checked, by namespace and name; what cannot be read of them grants nothing and is a problem.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorizations {
    checked: Vec<Checked>,
    pub problems: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Checked {
    namespace: String,
    name: String,
    targets: Vec<(String, Option<u16>)>,
    selector: Option<LabelSelector>,
    ports: Vec<u16>,
    mode: Mode,
    rules: Vec<CheckedRule>,
}

#[derive(Clone, Debug)]
struct CheckedRule {
    grants: Vec<(Vec<Network>, Authentication)>,
    /// Empty: every request.
    routes: Vec<Named>,
    /// Whether the rule speaks of routes at all: one that names only bad routes must not become one for everything.
    routed: bool,
}

/// A route's name and its matches.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub meta: Meta,
    pub matches: Vec<HttpMatch>,
}

/// Reads all policies. `route` finds a route by kind, namespace, name.
pub(crate) fn read(
    policies: &[Arc<AuthorizationPolicy>],
    services: &Services,
    identities: &Identities,
    route: impl Fn(&str, &str, &str) -> Option<Named>,
) -> Authorizations {
    let mut problems = vec![];
    let mut checked = vec![];
    for policy in policies {
        let Some(name) = policy.metadata.name.clone() else { continue };
        let namespace = policy.metadata.namespace.clone().unwrap_or_else(|| "default".into());
        let object = format!("AuthorizationPolicy {namespace}/{name}");
        let mut complain = |message: String| problems.push((object.clone(), message));
        let spec = &policy.spec;
        let mut targets = vec![];
        for target in &spec.target_refs {
            if !matches!(target.group.as_str(), "" | "core") || target.kind != "Service" {
                complain(format!(
                    "target {} {:?} is ignored: only core Services can be targets",
                    target.kind, target.name
                ));
                continue;
            }
            match services.get(&(namespace.clone(), target.name.clone())) {
                None => complain(format!("target Service {namespace}/{} is not there", target.name)),
                Some(service) if target.port.is_some_and(|port| service.port(port).is_none()) => {
                    complain(format!(
                        "target Service {namespace}/{} has no port {}",
                        target.name,
                        target.port.unwrap_or_default()
                    ));
                }
                // Somebody wants a port closed, and it is not.
                Some(service) if service.selector.is_empty() || service.ports.is_empty() => {
                    complain(format!(
                        "target Service {namespace}/{} has no {}, so it stands for no port of any Pod: aim at Pods by selector",
                        target.name,
                        if service.ports.is_empty() { "port" } else { "selector" }
                    ))
                }
                Some(_) => {}
            }
            targets.push((target.name.clone(), target.port));
        }
        if spec.target_refs.is_empty() && spec.selector.is_none() {
            complain("targets nothing: it has neither targetRefs nor a selector".into());
        }
        let rules = spec
            .rules
            .iter()
            .map(|rule| check(rule, &namespace, identities, &route, &mut complain))
            .collect();
        checked.push(Checked {
            targets,
            selector: spec.selector.clone(),
            ports: spec.ports.clone(),
            mode: spec.mode,
            rules,
            namespace,
            name,
        });
    }
    checked.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    checked.dedup_by(|a, b| a.namespace == b.namespace && a.name == b.name);
    Authorizations { checked, problems }
}

fn check(
    rule: &Rule,
    namespace: &str,
    identities: &Identities,
    route: &impl Fn(&str, &str, &str) -> Option<Named>,
    complain: &mut impl FnMut(String),
) -> CheckedRule {
    let mut names = vec![];
    let mut suffixes = vec![];
    let mut networks = vec![];
    for source in &rule.from {
        if let Some(fault) = fault(source) {
            complain(format!("{fault}: this source allows nobody"));
            continue;
        }
        match source {
            Source::ServiceAccount(account) => {
                names.push(identities.of(account.namespace.as_deref().unwrap_or(namespace), &account.name));
            }
            Source::Namespace(from) => suffixes.push(identities.namespace_suffix(&from.name)),
            Source::Identity(identity) => names.push(identity.name.clone()),
            Source::Network(network) => networks.extend(read_network(network)),
        }
    }
    let mut grants = vec![];
    if rule.from.is_empty() {
        grants.push((Network::everywhere(), Authentication::AnyIdentity));
    }
    if !names.is_empty() || !suffixes.is_empty() {
        grants.push((Network::everywhere(), Authentication::Identities { names, suffixes }));
    }
    if !networks.is_empty() {
        grants.push((networks, Authentication::None));
    }
    let mut routes = vec![];
    for wanted in &rule.routes {
        match route(&wanted.kind, namespace, &wanted.name) {
            Some(named) => routes.push(named),
            None => complain(format!(
                "{} {namespace}/{} is not there, or has no rule that is valid",
                wanted.kind, wanted.name
            )),
        }
    }
    CheckedRule { grants, routes, routed: !rule.routes.is_empty() }
}

/// What a policy's sources say that no cluster could make sense of. The rest of a policy may come to make sense when its Services
/// and routes do.
pub fn faults(policy: &AuthorizationPolicy) -> Vec<String> {
    policy.spec.rules.iter().flat_map(|rule| &rule.from).filter_map(fault).collect()
}

fn fault(source: &Source) -> Option<String> {
    match source {
        Source::Namespace(from) if !dns::is_label(&from.name) => {
            Some(format!("{:?} is no namespace", from.name))
        }
        // Proxies would throw away the whole policy for it.
        Source::Identity(identity) if !dns::is_name(&identity.name) => Some(format!(
            "{:?} is no identity (want such as web.shop.serviceaccount.identity.mesh-system.cluster.local)",
            identity.name
        )),
        Source::Network(network) => read_network(network).err(),
        Source::Namespace(_) | Source::ServiceAccount(_) | Source::Identity(_) => None,
    }
}

fn read_network(network: &NetworkRef) -> Result<Network, String> {
    let read = |text: &str| {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net| net.trunc()).map_err(|_| format!("{text:?} is no network (want such as 10.0.0.0/8)"))
    };
    let except = network.except.iter().map(|text| read(text)).collect::<Result<_, _>>()?;
    Ok(Network { net: read(&network.cidr)?, except })
}

impl Checked {
    /// Of a Pod of the policy's own namespace.
    fn targets(&self, pod: &PodInfo, port: u16, services: &Services) -> bool {
        let by_service = self.targets.iter().any(|(name, service_port)| {
            let Some(service) = services.get(&(self.namespace.clone(), name.clone())) else { return false };
            selector::selects(&service.selector, pod.labels())
                && service.ports.iter().any(|own| {
                    service_port.is_none_or(|wanted| wanted == own.port)
                        && own.target_on(&pod.named_ports) == Some(port)
                })
        });
        let by_label = self.selector.as_ref().is_some_and(|selector| {
            selector::matches(selector, pod.labels()) && (self.ports.is_empty() || self.ports.contains(&port))
        });
        by_service || by_label
    }
}

/// The policy of one port of one Pod.
pub(crate) fn build(
    pod: &PodInfo,
    port: u16,
    opaque: bool,
    services: &Services,
    all: &Authorizations,
    probe_networks: &[IpNet],
) -> Policy {
    let all = &all.checked;
    let start = all.partition_point(|policy| policy.namespace < pod.namespace);
    let own = all[start..].iter().take_while(|policy| policy.namespace == pod.namespace);
    let selecting: Vec<&Checked> = own.filter(|policy| policy.targets(pod, port, services)).collect();
    let enforcing: Vec<&Checked> =
        selecting.iter().copied().filter(|policy| policy.mode == Mode::Enforce).collect();
    let default = pod.default_policy;
    let mut policy = match (enforcing.first(), selecting.first()) {
        (Some(first), _) => {
            let mut policy = empty(Meta::authorization(&first.namespace, &first.name), opaque);
            for checked in &enforcing {
                policy.grant(checked, Some);
            }
            policy
        }
        // Only in audit mode: the default decides; what no rule would have allowed is marked.
        (None, Some(first)) => {
            let mut policy = empty(Meta::authorization(&first.namespace, &first.name), opaque);
            for checked in &selecting {
                policy.grant(checked, |(networks, authentication)| {
                    within(default, authentication).map(|authentication| (networks, authentication))
                });
            }
            let meta = Meta::authorization(&first.namespace, &first.name);
            policy.authorizations.extend(by_default(default, meta, true));
            policy
        }
        (None, None) => {
            let meta = Meta::Default(default.as_str());
            let mut policy = empty(meta.clone(), opaque);
            policy.authorizations.extend(by_default(default, meta, false));
            policy
        }
    };
    let mut probes = pod.probes.iter().filter(|(own, _)| *own == port).map(|(_, probe)| probe);
    // Whoever makes the very request of a probe is let in: kubelet has no certificate.
    let requests: Vec<HttpMatch> = probes.clone().filter(|_| !opaque).filter_map(request).collect();
    if !requests.is_empty() {
        policy.routes.push(Route {
            meta: Meta::Default("probe"),
            matches: requests,
            authorizations: vec![probe_from(Network::everywhere())],
        });
    }
    // What nobody reads looks like all other connections: only where it comes from is seen.
    let unread = probes.any(|probe| opaque || *probe == Probe::Https);
    if unread && !probe_networks.is_empty() {
        let network = |net: &IpNet| Network { net: *net, except: vec![] };
        policy.authorizations.push(probe_from(probe_networks.iter().map(network).collect()));
    }
    policy
}

fn empty(meta: Meta, opaque: bool) -> Policy {
    Policy { meta, opaque, authorizations: vec![], routes: vec![] }
}

impl Policy {
    /// Adds what `checked` grants, each grant as `narrow` leaves it.
    fn grant(
        &mut self,
        checked: &Checked,
        narrow: impl Fn((Vec<Network>, Authentication)) -> Option<(Vec<Network>, Authentication)>,
    ) {
        let meta = Meta::authorization(&checked.namespace, &checked.name);
        for rule in &checked.rules {
            let grants: Vec<Authorization> = rule
                .grants
                .iter()
                .filter_map(|grant| narrow(grant.clone()))
                .map(|(networks, authentication)| Authorization {
                    meta: meta.clone(),
                    networks,
                    authentication,
                    audit: false,
                })
                .collect();
            if !rule.routed {
                self.authorizations.extend(grants);
                continue;
            }
            // Bytes that are not read belong to no route.
            for named in rule.routes.iter().filter(|_| !self.opaque) {
                match self.routes.iter_mut().find(|route| route.meta == named.meta) {
                    Some(route) => route.authorizations.extend(grants.iter().cloned()),
                    None => self.routes.push(Route {
                        meta: named.meta.clone(),
                        matches: named.matches.clone(),
                        authorizations: grants.clone(),
                    }),
                }
            }
        }
    }
}

/// The part of a grant that the default policy allows anyway.
fn within(default: DefaultPolicy, authentication: Authentication) -> Option<Authentication> {
    match (default, authentication) {
        (DefaultPolicy::AllowAll, authentication) => Some(authentication),
        (DefaultPolicy::MeshOnly, Authentication::None) => Some(Authentication::AnyIdentity),
        (DefaultPolicy::MeshOnly, authentication) => Some(authentication),
        (DefaultPolicy::Deny, _) => None,
    }
}

fn by_default(default: DefaultPolicy, meta: Meta, audit: bool) -> Option<Authorization> {
    let authentication = match default {
        DefaultPolicy::AllowAll => Authentication::None,
        DefaultPolicy::MeshOnly => Authentication::AnyIdentity,
        DefaultPolicy::Deny => return None,
    };
    Some(Authorization { meta, networks: Network::everywhere(), authentication, audit })
}

/// By which a probe can be told from others' requests.
fn request(probe: &Probe) -> Option<HttpMatch> {
    let (method, path) = match probe {
        Probe::Http(path) => ("GET", path.as_str()),
        Probe::Grpc => ("POST", GRPC_HEALTH),
        // Within TLS, or without a word.
        Probe::Https | Probe::Tcp => return None,
    };
    let path = PathMatch::Exact(path.to_owned());
    Some(HttpMatch { path, headers: vec![], query: vec![], method: Some(method.into()) })
}

fn probe_from(networks: Vec<Network>) -> Authorization {
    Authorization {
        meta: Meta::Default("probe"),
        networks,
        authentication: Authentication::None,
        audit: false,
    }
}
