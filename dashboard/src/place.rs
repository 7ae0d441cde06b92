//! Where in the dashboard one is: the page and its parameters, which together are the URL. Everything that a reload
//! or a shared link has to bring back is in here. Pure: browser history is `navigate`'s work.

use mesh_api::golden::Window;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Overview,
    Graph,
    Workloads,
    Workload {
        namespace: String,
        name: String,
    },
    Routes,
    Traces,
    Trace(String),
    Checks,
    /// A path that no page has.
    Missing(String),
}

impl Page {
    /// From the path below the base, without slashes at its ends.
    fn parse(path: &str) -> Page {
        let parts: Vec<String> = path.split('/').map(decode).collect();
        match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [""] => Page::Overview,
            ["graph"] => Page::Graph,
            ["workloads"] => Page::Workloads,
            // The second form is how the API links to a workload.
            ["ns", namespace, "workloads", name] | ["workloads", namespace, name] => {
                Page::Workload { namespace: namespace.to_owned(), name: name.to_owned() }
            }
            ["routes"] => Page::Routes,
            ["traces"] => Page::Traces,
            ["traces", id] => Page::Trace(id.to_owned()),
            ["checks"] => Page::Checks,
            _ => Page::Missing(path.to_owned()),
        }
    }

    fn path(&self) -> String {
        match self {
            Page::Overview => "./".into(),
            Page::Graph => "graph".into(),
            Page::Workloads => "workloads".into(),
            Page::Workload { namespace, name } => {
                format!("ns/{}/workloads/{}", encode(namespace), encode(name))
            }
            Page::Routes => "routes".into(),
            Page::Traces => "traces".into(),
            Page::Trace(id) => format!("traces/{}", encode(id)),
            Page::Checks => "checks".into(),
            Page::Missing(path) => path.clone(),
        }
    }

    /// What the browser's tab says.
    pub fn title(&self) -> String {
        match self {
            Page::Overview => "Overview".into(),
            Page::Graph => "Graph".into(),
            Page::Workloads => "Workloads".into(),
            Page::Workload { name, .. } => name.clone(),
            Page::Routes => "Routes".into(),
            Page::Traces => "Traces".into(),
            Page::Trace(_) => "Trace".into(),
            Page::Checks => "Checks".into(),
            Page::Missing(_) => "Not found".into(),
        }
    }

    /// `ns/name`, as the API writes it, to the workload's page.
    pub fn workload(qualified: &str) -> Page {
        match qualified.split_once('/') {
            Some((namespace, name)) => Page::Workload { namespace: namespace.into(), name: name.into() },
            None => Page::Missing(qualified.into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub page: Page,
    params: BTreeMap<String, String>,
}

/// Parameters that go along from page to page.
const CARRIED: [&str; 2] = ["ns", "window"];

impl Place {
    /// From a path below the base and a query, with or without its `?`.
    pub fn parse(path: &str, query: &str) -> Place {
        let mut params = BTreeMap::new();
        for pair in query.trim_start_matches('?').split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !key.is_empty() && !value.is_empty() {
                params.insert(decode(key), decode(value));
            }
        }
        Place { page: Page::parse(path.trim_matches('/')), params }
    }

    /// From a link as the API gives it (`/graph?sel=…`).
    pub fn from_link(link: &str) -> Place {
        let (path, query) = link.split_once('?').unwrap_or((link, ""));
        Place::parse(path, query)
    }

    /// Relative to the page's base.
    pub fn href(&self) -> String {
        let mut href = self.page.path();
        for (i, (key, value)) in self.params.iter().enumerate() {
            href.push(if i == 0 { '?' } else { '&' });
            href.push_str(&encode(key));
            href.push('=');
            href.push_str(&encode(value));
        }
        href
    }

    /// Another page, with the namespace and window of this one.
    pub fn to(&self, page: Page) -> Place {
        let carried = |(key, value): (&String, &String)| {
            CARRIED.contains(&key.as_str()).then(|| (key.clone(), value.clone()))
        };
        Place { page, params: self.params.iter().filter_map(carried).collect() }
    }

    /// The link's place, with namespace and window of this one where the link sets none.
    pub fn follow(&self, link: &str) -> Place {
        let target = Place::from_link(link);
        let mut place = self.to(target.page);
        place.params.extend(target.params);
        place
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.params.get(key).map(String::as_str)
    }

    /// The same page with one parameter changed; empty removes it.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Place {
        let value = value.into();
        if value.is_empty() {
            self.params.remove(key);
        } else {
            self.params.insert(key.to_owned(), value);
        }
        self
    }

    pub fn window(&self) -> Window {
        self.get("window").and_then(Window::parse).unwrap_or(Window::Min1)
    }

    /// Empty means all namespaces.
    pub fn namespace(&self) -> &str {
        self.get("ns").unwrap_or("")
    }

    /// Whether something of that namespace is to be shown.
    pub fn shows(&self, namespace: &str) -> bool {
        self.namespace().is_empty() || self.namespace().split(',').any(|ns| ns == namespace)
    }

    /// `window=1m`, and `&ns=…` where one is chosen: what most of the API takes.
    pub fn api_query(&self) -> String {
        let window = self.window().as_str();
        match self.namespace() {
            "" => format!("window={window}"),
            ns => format!("window={window}&ns={}", encode(ns)),
        }
    }
}

/// Percent-encodes all but what is unreserved and what reads better plain in a query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b':'
            | b'/'
            | b','
            | b'@' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Undoes `encode`; what is no valid escape stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped =
            tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, escaped) {
            (b'%', Some(value)) => {
                out.push(value);
                rest = &tail[2..];
            }
            (b'+', _) => {
                out.push(b' ');
                rest = tail;
            }
            (other, _) => {
                out.push(other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_survives_a_reload() {
        for link in [
            "./",
            "graph?sel=w:bookinfo/ratings-v1%3Ew:b/c&window=5m",
            "ns/bookinfo/workloads/reviews-v1?ns=bookinfo",
            "routes",
            "traces?error=true&workload=bookinfo/ratings-v1",
            "traces/4bf92f3577b34da6a3ce929d0e0e4736?span=00f067aa0ba902b7",
            "checks",
            "no/such/page",
        ] {
            let trimmed = link.trim_start_matches("./");
            assert_eq!(Place::from_link(trimmed).href(), link);
        }
    }

    #[test]
    fn namespace_and_window_go_along_but_nothing_else() {
        let place = Place::from_link("/graph?ns=shop&window=5m&sel=w:shop/a&q=x");
        assert_eq!(place.to(Page::Routes).href(), "routes?ns=shop&window=5m");
        assert_eq!(place.follow("/graph?sel=w:shop/b").href(), "graph?ns=shop&sel=w:shop/b&window=5m");
    }

    #[test]
    fn an_unknown_window_is_the_default() {
        assert_eq!(Place::from_link("graph?window=3y").window(), Window::Min1);
        assert_eq!(Place::from_link("graph?window=1h&ns=a").api_query(), "window=1h&ns=a");
    }

    #[test]
    fn any_text_survives_encoding() {
        for text in ["a b+c", "rps>5 & health=failing", "ünïcode/–", "100%", "%zz", ""] {
            assert_eq!(decode(&encode(text)), text);
        }
        assert_eq!(decode("%zz+%4"), "%zz %4");
    }

    #[test]
    fn clearing_a_parameter_removes_it() {
        assert_eq!(Place::from_link("graph?sel=a").with("sel", "").with("q", "x y").href(), "graph?q=x%20y");
    }
}
