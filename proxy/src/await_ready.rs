//! `mesh-proxy await`: ends when the proxy beside it is ready. What a container's `postStart` runs, so that the next container starts
//! with a network that works, and no probe's grain of a second is waited for.

use crate::config::{Errors, knobs, parse};
use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// A proxy that is not ready by then will not be: kubelet restarts it.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two questions. A certificate takes some tens of milliseconds.
const PAUSE: Duration = Duration::from_millis(20);
/// One question may take this long.
const ANSWER: Duration = Duration::from_secs(1);

/// Where the proxy with this environment is asked.
pub fn addr(get: &dyn Fn(&str) -> Option<String>) -> Result<SocketAddr, Errors> {
    let mut env = parse::Env::new(get);
    let listen = env.optional(&knobs::ADMIN_LISTEN_ADDR, parse::parsed::<SocketAddr>);
    let bad = std::mem::take(&mut env.bad);
    let Some(mut addr) = listen.filter(|_| bad.is_empty()) else { return Err(Errors::distinct(bad)) };
    // `[::]` is every address of IPv4, too, and that is there in any case.
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(addr)
}

/// Asks until the answer is yes. An error says what it was last.
pub fn run(admin: SocketAddr, patience: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + patience;
    loop {
        let answer = match ask(admin) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
            Ok(answer) => answer.split("\r\n\r\n").last().unwrap_or_default().trim().to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= end {
            anyhow::bail!("the proxy is not ready after {} s: {answer}", patience.as_secs());
        }
        thread::sleep(PAUSE);
    }
}

fn ask(admin: SocketAddr) -> io::Result<String> {
    /// `/ready` lists the names of what it waits for.
    const MOST_BYTES: u64 = 4_096;
    let mut connection = TcpStream::connect_timeout(&admin, ANSWER)?;
    connection.set_read_timeout(Some(ANSWER))?;
    connection.set_write_timeout(Some(ANSWER))?;
    connection.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.take(MOST_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one question after the other with these.
    fn proxy(answers: &'static [&'static str]) -> (SocketAddr, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let serve = move || {
            for answer in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let mut question = [0; 512];
                let length = connection.read(&mut question).unwrap();
                assert!(question[..length].starts_with(b"GET /ready HTTP/1.1\r\n"));
                connection.write_all(answer.as_bytes()).unwrap();
            }
        };
        (addr, thread::spawn(serve))
    }

    const NO: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\nidentity\n";

    #[test]
    fn it_asks_until_the_proxy_is_ready() {
        let (addr, served) = proxy(&[NO, NO, "HTTP/1.1 200 OK\r\n\r\nready\n"]);
        run(addr, PATIENCE).unwrap();
        served.join().unwrap();
    }

    #[test]
    fn it_says_what_the_proxy_waits_for() {
        let (addr, served) = proxy(&[NO]);
        let error = run(addr, Duration::ZERO).unwrap_err().to_string();
        served.join().unwrap();
        assert_eq!(error, "the proxy is not ready after 0 s: identity");
    }

    #[test]
    fn it_asks_where_the_proxy_listens() {
        let at = |value: Option<&str>| {
            addr(&|name| value.filter(|_| name == "MESH_PROXY_ADMIN_LISTEN_ADDR").map(str::to_owned))
        };
        for (value, expected) in [
            (None, "127.0.0.1:4191"),
            (Some("0.0.0.0:4200"), "127.0.0.1:4200"),
            (Some("[::]:4200"), "127.0.0.1:4200"),
            (Some("[::1]:4200"), "[::1]:4200"),
            (Some("127.0.1.1:4191"), "127.0.1.1:4191"),
        ] {
            assert_eq!(at(value), Ok(expected.parse().unwrap()));
        }
        assert!(at(Some("4191")).is_err());
    }
}
