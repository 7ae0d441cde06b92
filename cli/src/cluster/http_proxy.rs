//! By which HTTP or SOCKS5 proxy the API server is reached, as kubectl has it: the kubeconfig's, which is meant for this cluster, else the
//! environment's, for what `NO_PROXY` does not leave out.

use anyhow::Context;
use http::Uri;
use ipnet::IpNet;
use kube::config::Kubeconfig;
use std::net::IpAddr;

/// `context`: the one that is asked for, where it is not the current one. `environment`: a variable's value.
pub fn find(
    kubeconfig: &Kubeconfig,
    context: Option<&str>,
    server: &Uri,
    environment: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Uri>> {
    if let Some(own) = own(kubeconfig, context) {
        return Ok(Some(parse(own).with_context(|| format!("proxy-url {own:?} of the kubeconfig"))?));
    }
    let variable = |name: &str| {
        let said = |name: &str| environment(name).filter(|value| !value.is_empty());
        said(name).or_else(|| said(&name.to_lowercase()))
    };
    let name = if server.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    let Some(proxy) = variable(name) else { return Ok(None) };
    if is_left_out(server, &variable("NO_PROXY").unwrap_or_default()) {
        return Ok(None);
    }
    Ok(Some(parse(&proxy).with_context(|| format!("{name}={proxy:?}"))?))
}

fn own<'k>(kubeconfig: &'k Kubeconfig, context: Option<&str>) -> Option<&'k str> {
    let context = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.as_deref().filter(|url| !url.is_empty())
}

/// A bare `host:port` is an HTTP proxy.
fn parse(url: &str) -> anyhow::Result<Uri> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    url.parse().context("want a URL, such as http://proxy.example.com:3128")
}

/// This machine, or what one of the entries is for.
fn is_left_out(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let is_here = host.parse().is_ok_and(|address: IpAddr| address.is_loopback()) || host == "localhost";
    is_here || no_proxy.split(',').any(|entry| is_for(&entry.trim().to_ascii_lowercase(), &host, port))
}

/// All, an address, a network, or a domain: `.example.com` is what is below that name, `example.com` the name as well. With a port or
/// without.
fn is_for(entry: &str, host: &str, port: u16) -> bool {
    let (name, of_port) = split_port(entry);
    if name.is_empty() || of_port.is_some_and(|of_port| of_port != port) {
        return false;
    }
    if name == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        let network = name.parse().or_else(|_| name.parse::<IpAddr>().map(IpNet::from));
        return network.is_ok_and(|network: IpNet| network.contains(&address));
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    match name.strip_prefix('.') {
        Some(domain) => below(domain),
        None => host == name || below(name),
    }
}

/// `[::1]:443` and `example.com:443` have one, `::1` has none.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((address, rest)) = entry.strip_prefix('[').and_then(|entry| entry.split_once(']')) {
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        Some((name, port)) if !port.contains(':') => (name, port.parse().ok()),
        Some(_) | None => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(proxy: &str) -> Kubeconfig {
        let text = format!(
            "current-context: near\n\
             contexts: [{{ name: near, context: {{ cluster: near }} }}, {{ name: far, context: {{ cluster: far }} }}]\n\
             clusters: [{{ name: near, cluster: {{}} }}, {{ name: far, cluster: {{ proxy-url: {proxy:?} }} }}]\n"
        );
        Kubeconfig::from_yaml(&text).unwrap()
    }

    fn found(context: Option<&str>, server: &str, environment: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let found = find(&kubeconfig("socks5://own:1080"), context, &server.parse().unwrap(), variable);
        found.unwrap().map(|uri| uri.to_string())
    }

    #[test]
    fn the_kubeconfigs_own_wins_over_the_environments() {
        let environment = [("https_proxy", "corp:3128"), ("HTTP_PROXY", "http://plain:3128")];
        let found = |context, server| found(context, server, &environment);
        assert_eq!(found(Some("far"), "https://k").as_deref(), Some("socks5://own:1080/"));
        assert_eq!(found(None, "https://k").as_deref(), Some("http://corp:3128/"));
        assert_eq!(found(None, "http://k").as_deref(), Some("http://plain:3128/"));
        assert_eq!(found(None, "https://127.0.0.1:6443"), None);
    }

    #[test]
    fn a_variable_that_is_empty_hides_no_other() {
        let environment = [("HTTPS_PROXY", ""), ("https_proxy", "corp:3128")];
        assert_eq!(found(None, "https://k", &environment).as_deref(), Some("http://corp:3128/"));
    }

    #[test]
    fn no_proxy_is_about_the_api_server() {
        let by_proxy = |server: &str, no_proxy: &str| {
            let environment = [("HTTPS_PROXY", "http://10.0.0.9:3128"), ("NO_PROXY", no_proxy)];
            let own = found(Some("far"), server, &environment).is_some();
            assert!(own, "the kubeconfig's is for this cluster, whatever the environment says");
            found(None, server, &environment).is_some()
        };
        let [name, address] = ["https://api.example.com:6443", "https://192.0.2.7"];
        for (server, no_proxy, expected) in [
            (name, "", true),
            (name, "*", false),
            (name, "other.com, example.com,", false),
            (name, "API.example.com", false),
            (name, ".example.com", false),
            (name, "*.example.com", false),
            (name, ".api.example.com", true),
            (name, "ample.com", true),
            (name, "example.com:6443", false),
            (name, "example.com:443", true),
            // The proxy's own.
            (name, "10.0.0.0/8", true),
            (address, "192.0.2.0/24", false),
            (address, "192.0.2.7", false),
            (address, "192.0.2.7:6443", true),
            (address, "example.com", true),
            ("https://[2001:db8::1]", "2001:db8::/32", false),
            ("https://[2001:db8::1]", "[2001:db8::1]:443", false),
            ("https://[2001:db8::1]", "2001:db8::2", true),
        ] {
            assert_eq!(by_proxy(server, no_proxy), expected, "{server} NO_PROXY={no_proxy}");
        }
    }
}
