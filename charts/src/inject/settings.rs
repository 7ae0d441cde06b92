//! What applies to one Pod: its own annotations, else its Namespace's, else the chart's values. A value that makes no sense
//! leaves the Pod without a proxy, with the reason on it: guessing would hide it.

use super::{Injection, Skip};
use crate::{
    syntax::{
        CORES, DURATION, FILTER, NETWORKS, PORTS, QUANTITY, RATIO, TIME, are_networks, are_ports, is_above,
        is_duration, is_filter, is_image, is_quantity, is_ratio, is_time,
    },
    values::{LogFormat, Proxy, Redirection, Sidecar},
};
use mesh_api::names;

/// Ports, networks and texts in here are valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub image: String,
    pub proxy: Proxy,
}

impl Settings {
    pub fn read<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
        injection: &Injection,
    ) -> Result<Settings, Skip> {
        let read = Reader { annotation };
        let mut image = injection.image.clone();
        let mut proxy = injection.proxy.clone();
        read.text(names::PROXY_IMAGE, &mut image, is_image, "an image")?;
        read.parsed(names::SIDECAR, &mut proxy.sidecar, sidecar, "native or classic")?;
        read.parsed(names::REDIRECTION, &mut proxy.redirection, redirection, "sidecar or init")?;
        read.parsed(names::PROXY_CORES, &mut proxy.cores, cores, CORES)?;
        read.text(names::PROXY_LOG, &mut proxy.log, is_filter, FILTER)?;
        read.parsed(names::PROXY_LOG_FORMAT, &mut proxy.log_format, log_format, "plain or json")?;
        read.parsed(names::PROXY_ACCESS_LOG, &mut proxy.access_log, access_log, "json")?;
        read.parsed(names::TRACE_SAMPLE_RATIO, &mut proxy.trace_sample_ratio, ratio, RATIO)?;
        read.text(names::OUTBOUND_CONNECT_TIMEOUT, &mut proxy.outbound_connect_timeout, is_time, TIME)?;
        read.text(names::SHUTDOWN_GRACE_PERIOD, &mut proxy.shutdown_grace_period, is_duration, DURATION)?;
        read.text(names::SHUTDOWN_DELAY, &mut proxy.shutdown_delay, is_duration, DURATION)?;
        read.text(names::OPAQUE_PORTS, &mut proxy.opaque_ports, are_ports, PORTS)?;
        read.text(names::SKIP_INBOUND_PORTS, &mut proxy.skip_inbound_ports, are_ports, PORTS)?;
        read.text(names::SKIP_OUTBOUND_PORTS, &mut proxy.skip_outbound_ports, are_ports, PORTS)?;
        read.text(names::SKIP_NETWORKS, &mut proxy.skip_networks, are_networks, NETWORKS)?;
        read.text(names::PROXY_METRICS_NETWORKS, &mut proxy.metrics_networks, are_networks, NETWORKS)?;
        let resources = &mut proxy.resources;
        for (name, limits, resource) in [
            (names::PROXY_CPU_REQUEST, false, "cpu"),
            (names::PROXY_MEMORY_REQUEST, false, "memory"),
            (names::PROXY_CPU_LIMIT, true, "cpu"),
            (names::PROXY_MEMORY_LIMIT, true, "memory"),
        ] {
            let map = if limits { &mut resources.limits } else { &mut resources.requests };
            let quantity = map.entry(resource.to_owned()).or_default();
            read.text(name, quantity, is_quantity, QUANTITY)?;
        }
        resources.requests.retain(|_, quantity| !quantity.is_empty());
        resources.limits.retain(|_, quantity| !quantity.is_empty());
        // Each may be right by itself and come from another place.
        for (resource, request) in &resources.requests {
            if let Some(limit) = resources.limits.get(resource).filter(|limit| is_above(request, limit)) {
                return Err(Skip::AboveLimit {
                    resource: resource.clone(),
                    request: request.clone(),
                    limit: limit.clone(),
                });
            }
        }
        Ok(Settings { image, proxy })
    }
}

struct Reader<A> {
    annotation: A,
}

impl<'a, A: Fn(&str) -> Option<&'a str>> Reader<A> {
    fn parsed<T>(
        &self,
        name: &'static str,
        value: &mut T,
        parse: fn(&str) -> Option<T>,
        want: &'static str,
    ) -> Result<(), Skip> {
        let Some(text) = (self.annotation)(name) else { return Ok(()) };
        let text = text.trim();
        *value =
            parse(text).ok_or_else(|| Skip::Invalid { annotation: name, value: text.to_owned(), want })?;
        Ok(())
    }

    fn text(
        &self,
        name: &'static str,
        value: &mut String,
        is_valid: fn(&str) -> bool,
        want: &'static str,
    ) -> Result<(), Skip> {
        let Some(text) = (self.annotation)(name) else { return Ok(()) };
        let text = text.trim();
        if !is_valid(text) {
            return Err(Skip::Invalid { annotation: name, value: text.to_owned(), want });
        }
        text.clone_into(value);
        Ok(())
    }
}

fn sidecar(text: &str) -> Option<Sidecar> {
    match text {
        "native" => Some(Sidecar::Native),
        "classic" => Some(Sidecar::Classic),
        _ => None,
    }
}

fn redirection(text: &str) -> Option<Redirection> {
    match text {
        "sidecar" => Some(Redirection::Sidecar),
        "init" => Some(Redirection::Init),
        _ => None,
    }
}

fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "plain" => Some(LogFormat::Plain),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn access_log(text: &str) -> Option<bool> {
    (text == "json").then_some(true)
}

fn cores(text: &str) -> Option<u16> {
    text.parse().ok().filter(|cores| *cores > 0)
}

fn ratio(text: &str) -> Option<f64> {
    text.parse().ok().filter(|ratio| is_ratio(*ratio))
}
