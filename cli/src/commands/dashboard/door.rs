//! Who may use the local port of `mesh dashboard`, behind which everybody is the user who started it: pages of that very port, in
//! a browser that has been shown its key. Not other users of this machine, and not other sites.

use anyhow::Context;
use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{COOKIE, HOST},
};
use std::{fmt::Write, fs::File, io::Read, net::SocketAddr};

pub struct Door {
    addr: SocketAddr,
    key: String,
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    Enter,
    /// The key was in the address: it belongs into a cookie, where nobody reads it off the screen.
    Key {
        cookie: String,
    },
    Refused(StatusCode, &'static str),
}

impl Door {
    pub fn new(addr: SocketAddr) -> anyhow::Result<Door> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .context("/dev/urandom")?;
        let mut key = String::new();
        for byte in bytes {
            // Writing into a String cannot fail.
            let _ = write!(key, "{byte:02x}");
        }
        Ok(Door { addr, key })
    }

    pub fn url(&self) -> String {
        format!("http://{}/?key={}", self.addr, self.key)
    }

    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Verdict {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let port = self.addr.port();
        // Against DNS rebinding: under any other name the page is somebody else's.
        if host != self.addr.to_string() && host != format!("localhost:{port}") {
            return Verdict::Refused(StatusCode::FORBIDDEN, "this port is not served under that name");
        }
        // Ports share their cookies, so the name says whose it is.
        let cookie = format!("mesh-{port}={}", self.key);
        if uri.path() == "/" && uri.query().and_then(|query| query.strip_prefix("key=")) == Some(&self.key) {
            return Verdict::Key { cookie: format!("{cookie}; Path=/; HttpOnly; SameSite=Strict") };
        }
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        if cookies.flat_map(|cookies| cookies.split(';')).any(|own| own.trim() == cookie) {
            return Verdict::Enter;
        }
        Verdict::Refused(StatusCode::UNAUTHORIZED, "open the address that `mesh dashboard` has printed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(door: &Door, path: &str, host: &str, cookie: &str) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        headers.insert(COOKIE, cookie.parse().unwrap());
        door.check(&path.parse().unwrap(), &headers)
    }

    #[test]
    fn only_who_has_the_key_enters_and_only_by_this_name() {
        let door = Door::new("127.0.0.1:50750".parse().unwrap()).unwrap();
        let other = Door::new("127.0.0.1:50750".parse().unwrap()).unwrap();
        let cookie = format!("a=b; mesh-50750={}", door.key);
        let enters = |host: &str, cookie: &str| check(&door, "/graph", host, cookie) == Verdict::Enter;
        assert!(enters("127.0.0.1:50750", &cookie) && enters("localhost:50750", &cookie));
        assert!(!enters("127.0.0.1:50750", "") && !enters("127.0.0.1:50750", "mesh-50750="));
        assert!(!enters("127.0.0.1:50750", &format!("mesh-50750={}", other.key)));
        for host in ["evil.example", "evil.example:50750", "127.0.0.1", "localhost:1", ""] {
            assert!(matches!(
                check(&door, "/graph", host, &cookie),
                Verdict::Refused(StatusCode::FORBIDDEN, _)
            ));
        }
        let key = format!("/?key={}", door.key);
        assert!(matches!(check(&door, &key, "localhost:50750", ""), Verdict::Key { .. }));
        assert!(matches!(check(&other, &key, "localhost:50750", ""), Verdict::Refused(..)));
    }
}
