//! Answers "who may call this workload, and why" from the very policy that its proxies are told.

use super::{Authentication, Authorization, Client, Decision, Policy, Route};
use crate::{Meta, PodInfo, identity::Identities};
use mesh_api::authz::{AuthzRow, Verdict};
use std::{
    collections::{BTreeSet, HashSet},
    iter,
    net::IpAddr,
};

/// Who is asked about.
struct Caller {
    label: String,
    identity: Option<String>,
    ip: Option<IpAddr>,
}

/// The service accounts, as `(namespace, name)`, and who asks about them.
pub(crate) struct Accounts<'a> {
    pub all: &'a [(String, String)],
    /// Those that run Pods of the mesh.
    pub run: HashSet<(&'a str, &'a str)>,
    /// Whether whoever asks may see a namespace.
    pub sees: &'a dyn Fn(&str) -> bool,
}

/// One row per kind of caller and per route that has a say. Without `from`: the service accounts that are seen and run Pods of the mesh,
/// those of which a rule says more than of everybody, anyone in the mesh, anyone.
pub(crate) fn answer(
    server: &PodInfo,
    port: u16,
    policy: &Policy,
    from: &[&PodInfo],
    accounts: &Accounts<'_>,
    identities: &Identities,
) -> Vec<AuthzRow> {
    let rows_of = |caller: &Caller| -> Vec<AuthzRow> {
        let own = policy.routes.iter().filter(|route| route.meta != Meta::Default("probe"));
        iter::once(None).chain(own.map(Some)).map(|route| row(server, port, policy, caller, route)).collect()
    };
    if !from.is_empty() {
        let mut callers: Vec<Caller> = from.iter().map(|pod| caller(pod)).collect();
        callers.dedup_by(|a, b| a.label == b.label);
        return callers.iter().flat_map(rows_of).collect();
    }
    // An identity that no rule can name, so that only rules about everybody apply.
    let anyone = Caller { label: "anyone in the mesh".into(), identity: Some(String::new()), ip: None };
    let of_anyone = rows_of(&anyone);
    let of_account = |namespace: &str, name: &str| {
        let label = format!("{namespace}/{name}");
        rows_of(&Caller { label, identity: Some(identities.of(namespace, name)), ip: None })
    };
    let mut rows = vec![];
    for (namespace, name) in accounts.all.iter().filter(|(namespace, _)| (accounts.sees)(namespace)) {
        let own = of_account(namespace, name);
        let same = |(own, anyone): (&AuthzRow, &AuthzRow)| {
            (own.verdict, &own.policy) == (anyone.verdict, &anyone.policy)
        };
        // A cluster has dozens of accounts of its own controllers, none of which will ever call.
        if accounts.run.contains(&(namespace.as_str(), name.as_str()))
            || !own.iter().zip(&of_anyone).all(same)
        {
            rows.extend(own);
        }
    }
    // Of other namespaces, those whom the policy itself names, whether they exist or not.
    let named: BTreeSet<_> = names(policy).filter_map(|name| identities.parse(name)).collect();
    for (namespace, name) in named.into_iter().filter(|(namespace, _)| !(accounts.sees)(namespace)) {
        rows.extend(of_account(namespace, name));
    }
    rows.extend(of_anyone);
    rows.extend(rows_of(&Caller { label: "anyone".into(), identity: None, ip: None }));
    rows.extend(networks(server, port, policy));
    rows
}

/// The identities that a policy names in full.
fn names(policy: &Policy) -> impl Iterator<Item = &str> {
    let of_routes = policy.routes.iter().flat_map(|route| &route.authorizations);
    let all = policy.authorizations.iter().chain(of_routes);
    let names = all.flat_map(|authorization| match &authorization.authentication {
        Authentication::Identities { names, .. } => names.as_slice(),
        Authentication::None | Authentication::AnyIdentity => &[],
    });
    names.map(String::as_str)
}

fn caller(pod: &PodInfo) -> Caller {
    let label = match pod.meshed {
        true => format!("{}/{}", pod.namespace, pod.service_account),
        false => format!("{}/{} (no proxy)", pod.namespace, pod.workload),
    };
    Caller { label, identity: pod.identity.clone(), ip: pod.ips.first().copied() }
}

fn row(server: &PodInfo, port: u16, policy: &Policy, caller: &Caller, route: Option<&Route>) -> AuthzRow {
    let client = Client { ip: caller.ip, identity: caller.identity.as_deref() };
    let (verdict, meta, why) = match policy.decide(client, route) {
        Decision::Allowed(by) => {
            (Verdict::Allowed, &by.meta, format!("allows {}", words(by, client.identity)))
        }
        Decision::Audited(by) => (
            Verdict::Audited,
            &by.meta,
            "no rule allows this client; the policy is in audit mode and only records".into(),
        ),
        Decision::Denied => (Verdict::Denied, &policy.meta, refusal(policy, caller)),
    };
    AuthzRow {
        server: format!("{}/{}", server.namespace, server.workload),
        port,
        route: route.map(|route| route.meta.to_string()).unwrap_or_default(),
        client: caller.label.clone(),
        verdict,
        policy: meta.to_string(),
        why,
    }
}

/// Networks that are let in without a certificate, a row each.
fn networks(server: &PodInfo, port: u16, policy: &Policy) -> Vec<AuthzRow> {
    let everywhere = super::Network::everywhere();
    let open = policy.authorizations.iter().filter(|a| a.authentication == Authentication::None && !a.audit);
    open.flat_map(|authorization| authorization.networks.iter().map(move |network| (authorization, network)))
        .filter(|(_, network)| !everywhere.contains(network))
        .map(|(authorization, network)| AuthzRow {
            server: format!("{}/{}", server.namespace, server.workload),
            port,
            route: String::new(),
            client: network_words(network),
            verdict: Verdict::Allowed,
            policy: authorization.meta.to_string(),
            why: "allows this network, with or without a certificate".into(),
        })
        .collect()
}

fn network_words(network: &super::Network) -> String {
    let except: Vec<String> = network.except.iter().map(ToString::to_string).collect();
    match except.is_empty() {
        true => network.net.to_string(),
        false => format!("{} except {}", network.net, except.join(", ")),
    }
}

/// Whom an authorization lets in; of several names, the one that `identity` has.
fn words(authorization: &Authorization, identity: Option<&str>) -> String {
    match &authorization.authentication {
        Authentication::None if authorization.networks == super::Network::everywhere() => "everybody".into(),
        Authentication::None => {
            let networks: Vec<String> = authorization.networks.iter().map(network_words).collect();
            format!("clients from {}", networks.join(", "))
        }
        Authentication::AnyIdentity => "everybody in the mesh".into(),
        Authentication::Identities { names, suffixes } => {
            let identity = identity.unwrap_or_default();
            let suffix = suffixes.iter().find(|suffix| identity.ends_with(suffix.as_str()));
            match names.iter().find(|name| *name == identity).or(suffix) {
                Some(suffix) if suffix.starts_with('.') => format!("everybody in *{suffix}"),
                Some(name) => name.clone(),
                None => "this client".into(),
            }
        }
    }
}

fn refusal(policy: &Policy, caller: &Caller) -> String {
    match (&policy.meta, &caller.identity) {
        (Meta::Default("deny"), _) => "the default policy denies everybody".into(),
        (Meta::Default(_), _) => {
            "the default policy allows only clients with a certificate of this mesh".into()
        }
        (Meta::Resource(_), None) => "no rule allows clients without a certificate".into(),
        (Meta::Resource(_), Some(_)) => "no rule allows this client".into(),
    }
}
