//! Texts in values and annotations: which make sense, and what to say of the others.

use ipnet::IpNet;

pub const PORTS: &str = "ports and ranges from 1 to 65535, as in 80,8080-8090";
pub const NETWORKS: &str = "networks, as in 10.0.0.0/8";
pub const DURATION: &str = "a whole number and ms, s, m, h or d, as in 30s";
pub const TIME: &str = "a whole number above 0 and ms, s, m, h or d, as in 3s";
pub const QUANTITY: &str = "a quantity, as in 100m or 20Mi";
pub const RATIO: &str = "a number from 0 to 1";
pub const CORES: &str = "a whole number above 0";
pub const FILTER: &str = "a tracing filter";

pub fn is_image(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
}

pub fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
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
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - unit.len()];
    number.parse::<f64>().is_ok() && ["", "m", "k", "Ki", "M", "Mi", "G", "Gi"].contains(&unit)
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

/// A name as Kubernetes has it for a namespace.
pub fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
