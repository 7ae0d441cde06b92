//! Who may use the local port of `mesh dashboard`, behind which everybody is the user who started it: pages of that very port, in
//! a browser that has been shown its key. Not other users of this machine, and not other sites.

use anyhow::Context;
use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    header::{COOKIE, HOST},
};
use std::{
    fmt::Write,
    fs::File,
    io::Read,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

pub struct Door {
    addr: SocketAddr,
    /// For the address, which others can read: it is among the arguments of the program that opens a browser. Good for one use.
    key: String,
    is_spent: AtomicBool,
    /// What a browser shows once it has been let in; nobody else hears it.
    pass: String,
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
        Ok(Door { addr, key: secret()?, is_spent: AtomicBool::new(false), pass: secret()? })
    }

    pub fn url(&self) -> String {
        format!("http://{}/?key={}", self.addr, self.key)
    }

    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Verdict {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let port = self.addr.port();
        // Against DNS rebinding: under any other name the page is somebody else's.
        if host != self.addr.to_string() && host != format!("localhost:{port}") {
            return Verdict::Refused(StatusCode::FORBIDDEN, "this port is not served under that name");
        }
        // Ports share their cookies, so the name says whose it is.
        let cookie = format!("mesh-{port}={}", self.pass);
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let is_known = cookies.flat_map(|cookies| cookies.split(';')).any(|own| own.trim() == cookie);
        let has_key =
            uri.path() == "/" && uri.query().and_then(|query| query.strip_prefix("key=")) == Some(&self.key);
        if has_key {
            // What only looks at addresses, such as a preview of links, is no browser that somebody opened.
            if method != Method::GET {
                return Verdict::Refused(StatusCode::METHOD_NOT_ALLOWED, "open this address in a browser");
            }
            // Who was let in may load the address again.
            return match is_known || !self.is_spent.swap(true, Ordering::Relaxed) {
                true => Verdict::Key { cookie: format!("{cookie}; Path=/; HttpOnly; SameSite=Strict") },
                false => Verdict::Refused(
                    StatusCode::UNAUTHORIZED,
                    "this address was opened before, in another browser or by somebody else: start `mesh dashboard` again",
                ),
            };
        }
        if is_known {
            return Verdict::Enter;
        }
        Verdict::Refused(StatusCode::UNAUTHORIZED, "open the address that `mesh dashboard` has printed")
    }
}

fn secret() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom")?;
    let mut secret = String::new();
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(secret, "{byte:02x}");
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(door: &Door, path: &str, host: &str, cookie: &str) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        headers.insert(COOKIE, cookie.parse().unwrap());
        door.check(&Method::GET, &path.parse().unwrap(), &headers)
    }

    fn door() -> Door {
        Door::new("127.0.0.1:50750".parse().unwrap()).unwrap()
    }

    #[test]
    fn only_who_was_let_in_enters_and_only_by_this_name() {
        let (door, other) = (door(), door());
        let cookie = format!("a=b; mesh-50750={}", door.pass);
        let enters = |host: &str, cookie: &str| check(&door, "/graph", host, cookie) == Verdict::Enter;
        assert!(enters("127.0.0.1:50750", &cookie) && enters("localhost:50750", &cookie));
        assert!(!enters("127.0.0.1:50750", "") && !enters("127.0.0.1:50750", "mesh-50750="));
        assert!(!enters("127.0.0.1:50750", &format!("mesh-50750={}", other.pass)));
        assert!(!enters("127.0.0.1:50750", &format!("mesh-50750={}", door.key)));
        for host in ["evil.example", "evil.example:50750", "127.0.0.1", "localhost:1", ""] {
            assert!(matches!(
                check(&door, "/graph", host, &cookie),
                Verdict::Refused(StatusCode::FORBIDDEN, _)
            ));
        }
    }

    #[test]
    fn the_key_lets_one_browser_in() {
        let (door, host) = (door(), "localhost:50750");
        let key = format!("/?key={}", door.key);
        assert!(matches!(check(&self::door(), &key, host, ""), Verdict::Refused(..)), "another door's");
        assert!(
            matches!(check(&door, &key, "evil.example", ""), Verdict::Refused(..)),
            "which spends nothing"
        );
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        let looked = door.check(&Method::HEAD, &key.parse().unwrap(), &headers);
        assert!(
            matches!(looked, Verdict::Refused(StatusCode::METHOD_NOT_ALLOWED, _)),
            "nor does who only looks"
        );
        let Verdict::Key { cookie } = check(&door, &key, host, "") else { panic!("not let in") };
        assert_eq!(cookie, format!("mesh-50750={}; Path=/; HttpOnly; SameSite=Strict", door.pass));
        let refused = check(&door, &key, host, "");
        assert!(matches!(refused, Verdict::Refused(StatusCode::UNAUTHORIZED, why) if why.contains("before")));
        let (pass, _) = cookie.split_once(';').unwrap();
        assert_eq!(check(&door, &key, host, pass), Verdict::Key { cookie: cookie.clone() }, "a reload");
    }
}
