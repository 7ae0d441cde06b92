//! Values that have the right type and make no sense: said before anything is made of them, as what stands below `proxy` goes into
//! every Pod of the mesh.

use super::{Invalid, Proxy, Resources, Values};
use crate::syntax::{
    CORES, DOMAIN, DURATION, FILTER, NETWORKS, PORTS, QUANTITY, RATIO, TIME, are_networks, are_ports,
    is_above, is_duration, is_filter, is_quantity, is_ratio, is_time,
};
use mesh_api::dns;
use std::fmt::Debug;

impl Values {
    pub(super) fn make_sense(&self) -> Result<(), Invalid> {
        let Values { namespace, cluster_domain, probe_networks, identity, operator, proxy, webhook, .. } =
            self;
        let name = "a namespace's name, such as mesh-system";
        want(dns::is_label(&namespace.name), "namespace.name", &namespace.name, name)?;
        want(are_networks(probe_networks), "probeNetworks", probe_networks, NETWORKS)?;
        want(dns::is_name(cluster_domain), "clusterDomain", cluster_domain, DOMAIN)?;
        let trust = &identity.trust_domain;
        want(dns::is_name(trust), "identity.trustDomain", trust, DOMAIN)?;
        let life = &identity.leaf_lifetime;
        want(is_duration(life), "identity.leafLifetime", life, DURATION)?;
        want(is_filter(&operator.log), "operator.log", &operator.log, FILTER)?;
        let collector = &operator.otlp_forward;
        // Who writes it believes that nobody on the way can read what is sent.
        let plain = "an address such as http://collector.observability:4317, as TLS is not spoken";
        want(!collector.starts_with("https:"), "operator.otlpForward", collector, plain)?;
        quantities("operator.resources", &operator.resources)?;
        let timeout = webhook.timeout_seconds;
        want((1..=30).contains(&timeout), "webhook.timeoutSeconds", &timeout, "1 to 30")?;
        proxy.makes_sense()
    }
}

impl Proxy {
    pub fn makes_sense(&self) -> Result<(), Invalid> {
        want(self.cores > 0, "proxy.cores", &self.cores, CORES)?;
        want(is_filter(&self.log), "proxy.log", &self.log, FILTER)?;
        let ratio = self.trace_sample_ratio;
        want(is_ratio(ratio), "proxy.traceSampleRatio", &ratio, RATIO)?;
        let connect = &self.outbound_connect_timeout;
        want(is_time(connect), "proxy.outboundConnectTimeout", connect, TIME)?;
        for (path, time) in [
            ("proxy.shutdownGracePeriod", &self.shutdown_grace_period),
            ("proxy.shutdownDelay", &self.shutdown_delay),
        ] {
            want(is_duration(time), path, time, DURATION)?;
        }
        for (path, ports) in [
            ("proxy.opaquePorts", &self.opaque_ports),
            ("proxy.skipInboundPorts", &self.skip_inbound_ports),
            ("proxy.skipOutboundPorts", &self.skip_outbound_ports),
        ] {
            want(are_ports(ports), path, ports, PORTS)?;
        }
        for (path, networks) in
            [("proxy.skipNetworks", &self.skip_networks), ("proxy.metricsNetworks", &self.metrics_networks)]
        {
            want(are_networks(networks), path, networks, NETWORKS)?;
        }
        quantities("proxy.resources", &self.resources)
    }
}

fn quantities(path: &str, resources: &Resources) -> Result<(), Invalid> {
    for (field, map) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, quantity) in map {
            want(is_quantity(quantity), &format!("{path}.{field}.{name}"), quantity, QUANTITY)?;
        }
    }
    for (name, request) in &resources.requests {
        let Some(limit) = resources.limits.get(name) else { continue };
        let most = format!("at most {limit:?}, which is {path}.limits.{name}");
        want(!is_above(request, limit), &format!("{path}.requests.{name}"), request, &most)?;
    }
    Ok(())
}

fn want(sense: bool, path: &str, value: &impl Debug, wanted: &str) -> Result<(), Invalid> {
    let reason = || format!("{value:?}: want {wanted}");
    if sense { Ok(()) } else { Err(Invalid::Value { path: path.to_owned(), reason: reason() }) }
}

#[cfg(test)]
mod tests {
    use crate::values::Given;

    fn refused(set: &str) -> Option<String> {
        let mut given = Given::default();
        given.set(set).unwrap();
        given.check().err().map(|invalid| invalid.to_string())
    }

    #[test]
    fn what_would_break_every_pod_is_refused_with_what_is_wanted() {
        for (set, wanted) in [
            ("proxy.cores=0", "values: proxy.cores: 0: want a whole number above 0"),
            ("proxy.opaquePorts=abc", "proxy.opaquePorts: \"abc\": want ports and ranges"),
            ("proxy.skipInboundPorts=70000", "proxy.skipInboundPorts: \"70000\": want ports"),
            ("proxy.skipNetworks=10.0.0.0/99", "proxy.skipNetworks: \"10.0.0.0/99\": want networks"),
            ("proxy.shutdownGracePeriod=5x", "want a whole number and ms, s, m, h or d"),
            ("proxy.resources.limits.memory=abc", "proxy.resources.limits.memory: \"abc\": want a quantity"),
            (
                "proxy.resources.requests.memory=512Mi",
                "proxy.resources.requests.memory: \"512Mi\": want at most \"256Mi\", which is proxy.resources.limits.memory",
            ),
            ("proxy.resources.limits.cpu=5m", "proxy.resources.requests.cpu: \"10m\": want at most \"5m\""),
            ("operator.resources.limits.memory=32Mi", "operator.resources.requests.memory: \"64Mi\""),
            ("proxy.log=", "proxy.log: \"\": want a tracing filter"),
            ("proxy.log=mesh_proxy=verbose", "proxy.log: \"mesh_proxy=verbose\": want a tracing filter"),
            (
                "operator.otlpForward=https://collector:4317",
                "operator.otlpForward: \"https://collector:4317\"",
            ),
            (
                "operator.log=mesh_operator=loud",
                "operator.log: \"mesh_operator=loud\": want a tracing filter",
            ),
            (
                "clusterDomain=cluster.local.",
                "clusterDomain: \"cluster.local.\": want a domain in lower case",
            ),
            ("identity.trustDomain=", "identity.trustDomain: \"\": want a domain in lower case"),
            ("identity.trustDomain=Prod.Example.com", "identity.trustDomain: \"Prod.Example.com\""),
            ("identity.trustDomain=prod_eu", "identity.trustDomain: \"prod_eu\""),
            ("operator.resources.requests.cpu=x", "operator.resources.requests.cpu"),
            ("identity.leafLifetime=day", "identity.leafLifetime: \"day\""),
            ("probeNetworks=here", "probeNetworks: \"here\": want networks"),
            ("webhook.timeoutSeconds=60", "webhook.timeoutSeconds: 60: want 1 to 30"),
            ("namespace.name=Mesh_System", "namespace.name: \"Mesh_System\": want a namespace's name"),
        ] {
            let said = refused(set).unwrap_or_default();
            assert!(said.contains(wanted), "{set}: {said:?}");
        }
        for set in [
            "proxy.skipInboundPorts=22",
            "proxy.opaquePorts=",
            "images.tag=1",
            "identity.trustDomain=prod-1.example.com",
            r"proxy.log=warn\,mesh_proxy=debug",
            "proxy.resources.requests.memory=256Mi",
            "proxy.resources.limits.cpu=10m",
        ] {
            assert_eq!(refused(set), None, "{set}");
        }
    }
}
