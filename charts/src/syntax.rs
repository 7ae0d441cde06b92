//! Texts in values and annotations: which make sense, and what to say of the others.

use ipnet::IpNet;

pub const PORTS: &str = "ports and ranges from 1 to 65535, as in 80,8080-8090";
pub const NETWORKS: &str = "networks, as in 10.0.0.0/8";
pub const DURATION: &str = "a whole number and ms, s, m, h or d, as in 30s";
pub const TIME: &str = "a whole number above 0 and ms, s, m, h or d, as in 3s";
pub const QUANTITY: &str = "a quantity, as in 100m or 20Mi";
pub const RATIO: &str = "a number from 0 to 1";
pub const CORES: &str = "a whole number above 0";
pub const FILTER: &str = "a tracing filter, as in warn,mesh_proxy=debug";
pub const DOMAIN: &str = "a domain in lower case, as in cluster.local";

pub fn is_image(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
}

pub fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// As the proxy reads it: levels, `target=level` and bare targets, separated by commas. It passes over what is said of spans.
pub fn is_filter(text: &str) -> bool {
    const LEVELS: [&str; 7] = ["", "off", "error", "warn", "info", "debug", "trace"];
    let is_level = |text: &str| {
        text.parse::<usize>().is_ok_and(|number| number <= 5)
            || LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level))
    };
    let is_directive = |text: &str| match text.split_once('=') {
        Some((_, level)) => is_level(level),
        None => true,
    };
    is_text(text) && text.split(',').map(str::trim).all(|one| one.contains('[') || is_directive(one))
}

pub fn is_duration(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (1..=9).contains(&(text.len() - unit.len())) && ["ms", "s", "m", "h", "d"].contains(&unit)
}

/// One in which something can happen.
pub fn is_time(text: &str) -> bool {
    is_duration(text) && text.starts_with(|c: char| c != '0')
}

pub fn is_quantity(text: &str) -> bool {
    quantity(text).is_some()
}

/// What a quantity of Kubernetes comes to: `0.5`, `500m`, `64Mi`, `1e3`.
pub fn quantity(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - unit.len()];
    let (exponent, power_of_1024) = match unit {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 1),
        "Mi" => (0, 2),
        "Gi" => (0, 3),
        "Ti" => (0, 4),
        "Pi" => (0, 5),
        "Ei" => (0, 6),
        _ => (unit.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?, 0),
    };
    // Read as one number, so that 100m and 0.1 are the same.
    let number: f64 = format!("{number}e{exponent}").parse().ok()?;
    Some(number * 1024_f64.powi(power_of_1024)).filter(|number| number.is_finite())
}

/// Whether a request is above its limit, for which the API server refuses the Pod.
pub fn is_above(request: &str, limit: &str) -> bool {
    quantity(request).zip(quantity(limit)).is_some_and(|(request, limit)| request > limit)
}

pub fn is_ratio(number: f64) -> bool {
    (0.0..=1.0).contains(&number)
}

/// None are fine too.
pub fn are_ports(text: &str) -> bool {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    text.is_empty()
        || text.split(',').all(|item| match item.split_once('-') {
            Some((first, last)) => port(first).zip(port(last)).is_some_and(|(first, last)| first <= last),
            None => port(item).is_some(),
        })
}

pub fn are_networks(text: &str) -> bool {
    text.is_empty() || text.split(',').all(|item| item.trim().parse::<IpNet>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, number) in [
            ("0", 0.0),
            ("2", 2.0),
            (".5", 0.5),
            ("1.", 1.0),
            ("100m", 0.1),
            ("2500u", 0.0025),
            ("1n", 1e-9),
            ("1.5k", 1500.0),
            ("128M", 128e6),
            ("2G", 2e9),
            ("1T", 1e12),
            ("1E", 1e18),
            ("1Ki", 1024.0),
            ("64Mi", 67_108_864.0),
            ("1.5Gi", 1_610_612_736.0),
            ("1Ti", 1_099_511_627_776.0),
            ("1e3", 1000.0),
            ("5E-1", 0.5),
            ("1e+3", 1000.0),
        ] {
            assert_eq!(quantity(text), Some(number), "{text}");
        }
        for text in
            ["", "m", "Mi", ".", "1.2.3", "-1", "1 Mi", "1mi", "1K", "1e", "1e1.5", "inf", "NaN", "1e9999"]
        {
            assert_eq!(quantity(text), None, "{text:?}");
        }
    }

    #[test]
    fn filters_are_those_that_the_proxy_starts_with() {
        for text in [
            "warn",
            "WARN,mesh_proxy=Debug",
            "warn, mesh_proxy=info ,hickory=off",
            "warn,linkerd=info,[{request}]=off",
            "mesh_proxy",
            "mesh_proxy::identity=5",
            "warn,",
        ] {
            assert!(is_filter(text), "{text}");
        }
        for text in
            ["", "mesh_proxy=verbose", "info,h2=loud", "mesh_proxy= info", "a=b=info", "a=6", "in\nfo"]
        {
            assert!(!is_filter(text), "{text:?}");
        }
    }

    #[test]
    fn a_request_may_be_all_of_its_limit() {
        for (request, limit, above) in [
            ("512Mi", "256Mi", true),
            ("10m", "5m", true),
            ("1", "999m", true),
            ("1Gi", "1G", true),
            ("256Mi", "268435456", false),
            ("0.1", "100m", false),
            ("300m", "0.3", false),
            ("1k", "1e3", false),
            ("900Mi", "1Gi", false),
        ] {
            assert_eq!(is_above(request, limit), above, "{request} of {limit}");
        }
    }
}
