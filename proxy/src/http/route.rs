//! Finds the rule that a request falls under. A pure function of policy and request; Gateway API precedence: exact path, longest
//! prefix, regular expression, method, most headers, most query parameters, first in the control plane's order.

use crate::policy::http::{HostMatch, PathMatch, RequestMatch, ValueMatch};
use http::Request;
use std::{cmp::Reverse, sync::Arc};

/// All matches of all rules, the most specific first.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
    /// The first entry takes every request.
    trivial: bool,
}

#[derive(Debug)]
struct Entry {
    hosts: Arc<[HostMatch]>,
    when: RequestMatch,
    found: Found,
}

/// Indices into what the table was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub route: usize,
    pub rule: usize,
    /// Length of the path prefix that matched, where one did.
    pub prefix_bytes: Option<usize>,
}

impl Table {
    /// One item per route: its hosts and the matches of each of its rules.
    pub fn new<'a>(routes: impl IntoIterator<Item = (&'a [HostMatch], Vec<&'a [RequestMatch]>)>) -> Table {
        let mut entries = Vec::new();
        for (route, (hosts, rules)) in routes.into_iter().enumerate() {
            let hosts: Arc<[HostMatch]> = hosts.into();
            for (rule, matches) in rules.into_iter().enumerate() {
                let everything = [RequestMatch::default()];
                let matches = if matches.is_empty() { &everything } else { matches };
                for when in matches {
                    let prefix_bytes = match &when.path {
                        PathMatch::Prefix(prefix) => Some(prefix.trim_end_matches('/').len()),
                        PathMatch::Exact(_) | PathMatch::Regex(_) => None,
                    };
                    let found = Found { route, rule, prefix_bytes };
                    entries.push(Entry { hosts: hosts.clone(), when: when.clone(), found });
                }
            }
        }
        // Stable, so that ties go to the first.
        entries.sort_by_key(|entry| Reverse(rank(entry)));
        let trivial =
            entries.first().is_some_and(|first| first.hosts.is_empty() && is_everything(&first.when));
        Table { entries, trivial }
    }

    pub fn find<B>(&self, req: &Request<B>) -> Option<Found> {
        self.all(req).next()
    }

    /// Everything that the request falls under, the most specific first.
    pub fn all<B>(&self, req: &Request<B>) -> impl Iterator<Item = Found> {
        let taken = move |(at, entry): &(usize, &Entry)| {
            (self.trivial && *at == 0) || (hosts_match(&entry.hosts, req) && matches(&entry.when, req))
        };
        self.entries.iter().enumerate().filter(taken).map(|(_, entry)| entry.found)
    }

    /// No request is refused or told apart by what is in it.
    pub fn is_trivial(&self) -> bool {
        self.trivial
    }
}

/// Greater is more specific.
fn rank(entry: &Entry) -> (usize, u8, usize, bool, usize, usize) {
    let when = &entry.when;
    let (kind, length) = match &when.path {
        PathMatch::Exact(_) => (2, 0),
        PathMatch::Prefix(prefix) => (1, prefix.trim_end_matches('/').chars().count()),
        PathMatch::Regex(_) => (0, 0),
    };
    // A regular expression is a choice that somebody made; the prefix `/` is the absence of one.
    let kind = if kind == 1 && length == 0 { 0 } else { kind + 1 };
    let host = entry.hosts.iter().map(host_rank).max().unwrap_or(0);
    (host, kind, length, when.method.is_some(), when.headers.len(), when.query.len())
}

fn host_rank(host: &HostMatch) -> usize {
    match host {
        HostMatch::Exact(name) => 1_000 + name.len(),
        HostMatch::Suffix(name) => name.len(),
    }
}

fn is_everything(when: &RequestMatch) -> bool {
    let path = matches!(&when.path, PathMatch::Prefix(prefix) if prefix.trim_end_matches('/').is_empty());
    path && when.method.is_none() && when.headers.is_empty() && when.query.is_empty()
}

fn hosts_match<B>(hosts: &[HostMatch], req: &Request<B>) -> bool {
    if hosts.is_empty() {
        return true;
    }
    let Some(host) = super::check::authority(req).and_then(|host| std::str::from_utf8(host).ok()) else {
        return false;
    };
    let host = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        Some(_) | None => host,
    };
    let host = host.trim_end_matches('.');
    hosts.iter().any(|want| match want {
        HostMatch::Exact(name) => host.eq_ignore_ascii_case(name),
        HostMatch::Suffix(name) => {
            let name = name.trim_start_matches('.');
            host.len() > name.len() + 1
                && host.is_char_boundary(host.len() - name.len())
                && host[host.len() - name.len()..].eq_ignore_ascii_case(name)
                && host.as_bytes()[host.len() - name.len() - 1] == b'.'
        }
    })
}

fn matches<B>(when: &RequestMatch, req: &Request<B>) -> bool {
    let path = match &when.path {
        PathMatch::Exact(want) => req.uri().path() == want,
        PathMatch::Prefix(want) => prefix_matches(want, req.uri().path()),
        PathMatch::Regex(want) => want.is_match(req.uri().path()),
    };
    path && when.method.as_ref().is_none_or(|want| want == req.method())
        && when.headers.iter().all(|want| {
            // The first line of several counts (Gateway API); `get` returns the first.
            req.headers().get(&want.name).is_some_and(|value| value_matches(&want.value, value.as_bytes()))
        })
        && when.query.iter().all(|want| {
            query_value(req.uri().query().unwrap_or(""), &want.name)
                .is_some_and(|value| value_matches(&want.value, &value))
        })
}

/// By path elements; a slash at the prefix's end says nothing.
pub fn prefix_matches(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || prefix.is_empty(),
        None => false,
    }
}

fn value_matches(want: &ValueMatch, value: &[u8]) -> bool {
    match want {
        ValueMatch::Exact(want) => want == value,
        ValueMatch::Regex(want) => want.is_match(value),
    }
}

/// The first value of a query parameter, decoded as forms encode it.
fn query_value(query: &str, name: &str) -> Option<Vec<u8>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name.as_bytes()).then(|| decoded(value))
    })
}

fn decoded(text: &str) -> Vec<u8> {
    let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16)).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high * 16 + low);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (b, ..) => out.push(b),
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests;
