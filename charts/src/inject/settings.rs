//! What applies to one Pod: its own annotations, else its Namespace's, else the chart's values. A value that makes no sense
//! leaves the Pod without a proxy, with the reason on it: guessing would hide it.

use super::{Injection, Skip};
use crate::values::{LogFormat, Proxy, Redirection, Sidecar};
use ipnet::IpNet;
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
        read.parsed(names::PROXY_CORES, &mut proxy.cores, cores, "a whole number above 0")?;
        read.text(names::PROXY_LOG, &mut proxy.log, is_text, "a tracing filter")?;
        read.parsed(names::PROXY_LOG_FORMAT, &mut proxy.log_format, log_format, "plain or json")?;
        read.parsed(names::PROXY_ACCESS_LOG, &mut proxy.access_log, access_log, "json")?;
        read.parsed(names::TRACE_SAMPLE_RATIO, &mut proxy.trace_sample_ratio, ratio, "a number from 0 to 1")?;
        read.text(names::SHUTDOWN_GRACE_PERIOD, &mut proxy.shutdown_grace_period, is_duration, DURATION)?;
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
            read.text(name, quantity, is_quantity, "a quantity, as in 100m or 20Mi")?;
        }
        resources.requests.retain(|_, quantity| !quantity.is_empty());
        resources.limits.retain(|_, quantity| !quantity.is_empty());
        Ok(Settings { image, proxy })
    }
}

const PORTS: &str = "ports and ranges from 1 to 65535, as in 80,8080-8090";
const NETWORKS: &str = "networks, as in 10.0.0.0/8";
const DURATION: &str = "a whole number and ms, s, m, h or d, as in 30s";

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
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

fn is_image(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

fn is_duration(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && ["ms", "s", "m", "h", "d"].contains(&unit)
}

fn is_quantity(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - unit.len()];
    number.parse::<f64>().is_ok() && ["", "m", "k", "Ki", "M", "Mi", "G", "Gi"].contains(&unit)
}

/// None are fine too.
fn are_ports(text: &str) -> bool {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    text.is_empty()
        || text.split(',').all(|item| match item.split_once('-') {
            Some((first, last)) => port(first).zip(port(last)).is_some_and(|(first, last)| first <= last),
            None => port(item).is_some(),
        })
}

fn are_networks(text: &str) -> bool {
    text.is_empty() || text.split(',').all(|item| item.trim().parse::<IpNet>().is_ok())
}
