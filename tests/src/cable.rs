//! A pod and a neighbour, in network namespaces of their own and joined by a cable: what a pod's redirection is tried on.

#![allow(unsafe_code)] // unshare, setns and setresuid have no safe form; each use says why it is sound.

use socket2::{Domain, SockRef, Socket, Type};
use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    panic::resume_unwind,
    process::Command,
    thread,
    time::Duration,
};

/// A namespace on one machine connects at once, or somebody has dropped the packet.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Cable {
    pub pod: Namespace,
    pub peer: Namespace,
}

/// Addresses of both ends. The pod reaches every other by its neighbour.
pub const POD: &str = "10.244.1.1";
pub const PEER: &str = "10.244.1.2";
pub const POD6: &str = "fd00:244::1";
pub const PEER6: &str = "fd00:244::2";
/// The neighbour's other address.
pub const OTHER: &str = "10.9.0.2";
pub const OTHER6: &str = "fd00:9::2";

impl Cable {
    /// Panics where we may not: these stories are worth nothing without it.
    pub fn new() -> Cable {
        Cable::from(Namespace::new())
    }

    /// With the calling thread's own network as the pod's.
    pub fn here() -> Cable {
        Cable::from(Namespace::here())
    }

    fn from(pod: Namespace) -> Cable {
        let cable = Cable { pod, peer: Namespace::new() };
        let pod = format!("/proc/{}/fd/{}", std::process::id(), cable.pod.0.as_raw_fd());
        cable.peer.ip(&["link", "add", "pod", "type", "veth", "peer", "name", "eth0"]);
        cable.peer.ip(&["link", "set", "eth0", "netns", &pod]);
        for (end, link, addrs) in [
            (&cable.pod, "eth0", &[(POD, 24), (POD6, 64)][..]),
            (&cable.peer, "pod", &[(PEER, 24), (PEER6, 64), (OTHER, 32), (OTHER6, 128)]),
        ] {
            end.ip(&["link", "set", link, "up"]);
            for (addr, bits) in addrs {
                let net = format!("{addr}/{bits}");
                let mut add = vec!["addr", "add", &net, "dev", link];
                // Duplicate address detection would keep it unused for a second.
                if addr.contains(':') {
                    add.push("nodad");
                }
                end.ip(&add);
            }
        }
        cable.pod.ip(&["route", "add", "default", "via", PEER]);
        cable.pod.ip(&["route", "add", "default", "via", PEER6]);
        cable
    }
}

impl Default for Cable {
    fn default() -> Self {
        Cable::new()
    }
}

#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    fn new() -> Namespace {
        let made = thread::spawn(|| {
            crate::netns::isolate().expect("no network namespace can be made here: run this as root");
            Namespace::here()
        });
        made.join().unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn here() -> Namespace {
        Namespace(File::open("/proc/thread-self/ns/net").expect("the thread's own network"))
    }

    /// Runs `what` there. Sockets and processes that it makes stay there.
    pub fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let on_a_thread = || {
            // SAFETY: setns reads the descriptor, which is open, and changes only which network this thread sees.
            let entered = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(entered, 0, "enter a namespace: {}", io::Error::last_os_error());
            what()
        };
        thread::scope(|scope| scope.spawn(on_a_thread).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn ip(&self, arguments: &[&str]) {
        let output = self.within(|| Command::new("ip").args(arguments).output());
        let output = output.expect("the program ip: install iproute2");
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// To be made part of a runtime by who asked.
    pub fn listen(&self, addr: &str) -> TcpListener {
        let listener =
            self.within(|| TcpListener::bind(addr)).unwrap_or_else(|error| panic!("{addr}: {error}"));
        listener.set_nonblocking(true).expect("a socket can be made so");
        listener
    }

    /// A connection by a user's program, to be made part of a runtime.
    pub fn connect(&self, uid: u32, from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
        self.within(|| {
            // SAFETY: the system call, unlike libc's function, changes the calling thread alone, which ends soon.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
            assert_eq!(changed, 0, "become user {uid}: {}", io::Error::last_os_error());
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            if let Some(from) = from {
                socket.bind(&SocketAddr::new(from, 0).into())?;
            }
            socket.connect_timeout(&to.into(), TIMEOUT)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        })
    }
}

/// Where a redirected connection was going; a socket of IPv6 may have one of IPv4.
pub fn original_dst(stream: &tokio::net::TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let addr = match stream.local_addr().ok()?.ip().to_canonical() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    addr.ok()?.as_socket()
}
