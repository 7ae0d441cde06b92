//! Texts into values: one parser per form, and the collector that reports all errors at once.

use super::knobs::Knob;
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

pub const OURS: &str = "MESH_PROXY_";
pub const THEIRS: &str = "LINKERD2_PROXY_";

/// Everything that is wrong with the environment, one sentence each.
#[derive(Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<String>);

impl Errors {
    /// A setting that is read for several purposes is complained about once.
    pub fn distinct(mut all: Vec<String>) -> Errors {
        let mut seen = BTreeSet::new();
        all.retain(|error| seen.insert(error.clone()));
        Errors(all)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Errors {}

/// Reads settings and remembers what was wrong.
pub struct Env<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    pub bad: Vec<String>,
}

impl<'a> Env<'a> {
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Env<'a> {
        Env { get, bad: vec![] }
    }

    /// The variable that gives a setting, and its value. An empty variable counts as unset.
    fn given(&self, knob: &Knob) -> Option<(String, String)> {
        [OURS, THEIRS].into_iter().find_map(|prefix| {
            let variable = format!("{prefix}{}", knob.name);
            (self.get)(&variable).filter(|value| !value.trim().is_empty()).map(|value| (variable, value))
        })
    }

    /// A setting that may be unset. A wrong value is remembered and reads as unset.
    pub fn optional<T>(&mut self, knob: &Knob, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let Some((variable, value)) = self.given(knob) else {
            return Some(knob.default).filter(|text| !text.is_empty()).and_then(parse);
        };
        let parsed = parse(value.trim());
        if parsed.is_none() {
            self.bad.push(format!("{variable}={:?}: want {}", shorten(&value), knob.form));
        }
        parsed
    }

    /// A setting with a default. A wrong value is remembered and reads as the default.
    pub fn or_default<T>(&mut self, knob: &Knob, parse: impl Fn(&str) -> Option<T>) -> T {
        self.optional(knob, &parse)
            .or_else(|| parse(knob.default))
            .expect("the registry's defaults parse (see its test)")
    }

    /// A setting without which there is no proxy.
    pub fn required<T>(&mut self, knob: &Knob, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        if self.given(knob).is_none() {
            self.bad.push(format!("{OURS}{} is not set: want {}", knob.name, knob.form));
            return None;
        }
        self.optional(knob, parse)
    }
}

/// Values may be secrets or certificates: an error shows their beginning only.
fn shorten(value: &str) -> String {
    match value.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// A whole number with a unit: `ms`, `s`, `m`, `h` or `d`. A bare 0 needs none.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u64 = text[..digits].parse().ok()?;
    let unit_ms: u64 = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(unit_ms).map(Duration::from_millis)
}

/// Ports and inclusive ranges. Port 0 is none.
pub fn ports(text: &str) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first == 0 || first > last {
            return None;
        }
        ports.extend(first..=last);
    }
    Some(ports)
}

pub fn networks(text: &str) -> Option<Vec<IpNet>> {
    list(text, |part| part.parse().ok().or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from)))
}

/// A comma-separated list with at least one entry.
pub fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let parsed: Option<Vec<T>> =
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse).collect();
    parsed.filter(|list| !list.is_empty())
}

pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

pub fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// A socket address to listen on. Port 0 would be one that nobody finds.
pub fn addr(text: &str) -> Option<SocketAddr> {
    parsed::<SocketAddr>(text).filter(|addr| addr.port() != 0)
}

pub fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub fn ratio(text: &str) -> Option<f64> {
    parsed::<f64>(text).filter(|ratio| (0.0..=1.0).contains(ratio))
}
