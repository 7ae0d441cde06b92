//! The closed sets of metrics and labels that the store keeps, and the interner for label values.
//! A name that is not here is not stored: a sender cannot invent a dimension.

use ahash::AHashMap;
use std::sync::Arc;

/// Names each variant once: the enum, its place in a key, and its text on the wire.
macro_rules! named {
    ($(#[$doc:meta])* $kind:ident { $($variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $kind { $($variant,)* }

        impl $kind {
            pub const ALL: &[$kind] = &[$($kind::$variant,)*];

            pub const fn name(self) -> &'static str {
                match self { $($kind::$variant => $name,)* }
            }

            pub fn parse(name: &str) -> Option<$kind> {
                match name { $($name => Some($kind::$variant),)* _ => None }
            }
        }
    };
}

named! {
    /// What a series counts. Names are those that the proxies send; `response_latency_ms` has the labels of
    /// `response_total` and is kept in the same series, as its histogram.
    Metric {
        Response = "response_total",
        TcpOpen = "tcp_open_total",
        TcpRead = "tcp_read_bytes_total",
        TcpWrite = "tcp_write_bytes_total",
        TcpConnections = "tcp_open_connections",
        HttpAllow = "inbound_http_authz_allow_total",
        HttpDeny = "inbound_http_authz_deny_total",
        TcpAllow = "inbound_tcp_authz_allow_total",
        TcpDeny = "inbound_tcp_authz_deny_total",
    }
}

named! {
    /// The dimensions of a series. `Namespace` and `Pod` are the reporting proxy's, from its resource.
    Label {
        Namespace = "namespace",
        Pod = "pod",
        Direction = "direction",
        Protocol = "protocol",
        Tls = "tls",
        ClientId = "client_id",
        ServerId = "server_id",
        ClientIp = "client_ip",
        SrvKind = "srv_kind",
        SrvNamespace = "srv_namespace",
        SrvName = "srv_name",
        SrvPort = "srv_port",
        RouteKind = "route_kind",
        RouteNamespace = "route_namespace",
        RouteName = "route_name",
        // `rule-N` where a route has several rules.
        RouteRule = "route_section_name",
        BackendNamespace = "backend_namespace",
        BackendName = "backend_name",
        BackendPort = "backend_port",
        DstNamespace = "dst_namespace",
        DstPod = "dst_pod",
        AuthzKind = "authz_kind",
        AuthzName = "authz_name",
        DstPort = "dst_port",
        StatusCode = "status_code",
        Classification = "classification",
        GrpcStatus = "grpc_status",
        Error = "error",
        Audit = "audit",
        // `true` on the one series per direction into which a proxy folds what is beyond its own bound.
        Other = "other",
    }
}

pub const LABELS: usize = Label::ALL.len();

/// A label value longer than this is cut: values come from objects' names, which are shorter.
const MAX_VALUE_BYTES: usize = 256;

/// An interned label value; `EMPTY` is the absent label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(u32);

pub const EMPTY: Symbol = Symbol(0);

/// What tells one series from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub metric: Metric,
    pub labels: [Symbol; LABELS],
}

/// Texts by symbol. Cloned behind an `Arc` into every snapshot, and copied only when one grows.
#[derive(Clone, Debug, Default)]
pub struct Texts(Vec<Arc<str>>);

impl Texts {
    pub fn get(&self, symbol: Symbol) -> &str {
        &self.0[symbol.0 as usize]
    }
}

/// Label values, each stored once.
#[derive(Debug)]
pub struct Interner {
    symbols: AHashMap<Arc<str>, Symbol>,
    texts: Arc<Texts>,
    free: Vec<Symbol>,
}

impl Default for Interner {
    fn default() -> Self {
        let empty: Arc<str> = "".into();
        Interner {
            symbols: AHashMap::from_iter([(empty.clone(), EMPTY)]),
            texts: Arc::new(Texts(vec![empty])),
            free: Vec::new(),
        }
    }
}

impl Interner {
    /// The symbol of a value that is known already.
    pub fn find(&self, value: &str) -> Option<Symbol> {
        self.symbols.get(cut(value)).copied()
    }

    pub fn intern(&mut self, value: &str) -> Symbol {
        if let Some(symbol) = self.find(value) {
            return symbol;
        }
        let text: Arc<str> = cut(value).into();
        let texts = &mut Arc::make_mut(&mut self.texts).0;
        let symbol = match self.free.pop() {
            Some(symbol) => {
                texts[symbol.0 as usize] = text.clone();
                symbol
            }
            None => {
                texts.push(text.clone());
                Symbol((texts.len() - 1) as u32)
            }
        };
        self.symbols.insert(text, symbol);
        symbol
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    pub fn texts(&self) -> Arc<Texts> {
        self.texts.clone()
    }

    /// Forgets every value that none of `keys` uses.
    pub fn retain_used<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        let mut used = vec![false; self.texts.0.len()];
        used[0] = true;
        for key in keys {
            for symbol in key.labels {
                used[symbol.0 as usize] = true;
            }
        }
        let (free, empty) = (&mut self.free, self.texts.0[0].clone());
        let texts = &mut Arc::make_mut(&mut self.texts).0;
        self.symbols.retain(|_, symbol| {
            let keep = used[symbol.0 as usize];
            if !keep {
                texts[symbol.0 as usize] = empty.clone();
                free.push(*symbol);
            }
            keep
        });
    }
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_stored_once_and_freed_when_unused() {
        let mut interner = Interner::default();
        let (a, b) = (interner.intern("a"), interner.intern("b"));
        assert_eq!(interner.intern("a"), a);
        let mut key = Key { metric: Metric::Response, labels: [EMPTY; LABELS] };
        key.labels[Label::Pod as usize] = b;
        interner.retain_used([key].iter());
        assert_eq!((interner.find("a"), interner.find("b")), (None, Some(b)));
        assert_eq!(interner.intern("c"), a, "a freed symbol is used again");
        assert_eq!(interner.texts().get(b), "b");
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let mut interner = Interner::default();
        let symbol = interner.intern(&"é".repeat(200));
        assert_eq!(interner.texts().get(symbol).len(), 256);
    }
}
