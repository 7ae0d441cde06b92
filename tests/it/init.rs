//! `mesh-proxy init`: connections of a pod and to it, in real network namespaces, with the kernel's own rules.

use mesh_tests::{
    binaries,
    cable::{Cable, OTHER, OTHER6, PEER, PEER6, POD, POD6, original_dst},
    client::{self, Conn},
    control_plane::{
        ControlPlane,
        message::{self, Client},
    },
    grpc::Code,
    origin::Origin,
    pair::{self, Files, PORT, server_pod},
    pod::Pod,
    story::run,
    wait::{self, SOON},
};
use std::{
    fs,
    net::SocketAddr,
    process::{Command, Output},
};
use tokio::net::{TcpListener, TcpStream};

const ROOT: u32 = 0;
const PROXY: u32 = 2102;

/// The redirection that the stories are about, in a pod.
fn init(cable: &Cable, wrapper: &[&str], arguments: &[&str]) -> Output {
    let program = binaries::path("mesh-proxy");
    let settings = [
        "--inbound-ports-to-ignore=4190,4191,9999",
        "--outbound-ports-to-ignore=3306,6000-6010",
        "--subnets-to-ignore=10.9.0.0/16,fd00:9::/32",
    ];
    cable.pod.within(|| {
        let mut command = match wrapper {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.arg("init").args(settings).args(arguments).output().expect("a program that starts")
    })
}

fn succeeds(output: &Output) {
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Every rule of the pod, as the kernel has them, without counters.
fn rules(cable: &Cable) -> String {
    cable.pod.within(|| {
        let list = |program: &str, arguments: &[&str]| {
            let output =
                Command::new(program).args(arguments).output().expect("nft and iptables are installed");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        // The legacy tables are listed without the time of listing.
        ["iptables-legacy", "ip6tables-legacy"].map(|program| list(program, &["-t", "nat", "-S"])).concat()
            + &list("nft", &["-s", "list", "ruleset"])
    })
}

/// Who is to get a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Inbound,
    Outbound,
    Application,
    Peer,
}

struct Ends(Vec<(End, TcpListener)>);

impl Ends {
    fn of(cable: &Cable) -> Ends {
        let listeners = [
            (End::Inbound, &cable.pod, "[::]:4143"),
            (End::Outbound, &cable.pod, "127.0.0.1:4140"),
            (End::Outbound, &cable.pod, "[::1]:4140"),
            (End::Application, &cable.pod, "[::]:8080"),
            (End::Application, &cable.pod, "[::]:9999"),
            (End::Peer, &cable.peer, "[::]:80"),
            (End::Peer, &cable.peer, "[::]:3306"),
            (End::Peer, &cable.peer, "[::]:6010"),
        ];
        let listeners = listeners.map(|(end, namespace, addr)| {
            (end, TcpListener::from_std(namespace.listen(addr)).expect("a runtime"))
        });
        Ends(listeners.into())
    }

    /// Who gets the next connection, and where it was going.
    async fn next(&self) -> (End, Option<SocketAddr>) {
        let accepts = self.0.iter().map(|(end, listener)| {
            Box::pin(async move {
                let (stream, _) = listener.accept().await.expect("a connection");
                (*end, original_dst(&stream))
            })
        });
        wait::within(SOON, "a connection", futures_util::future::select_all(accepts)).await.0
    }
}

fn addr(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Both families, both directions, everything that is spared.
async fn is_redirected(cable: &Cable) {
    let ends = Ends::of(cable);
    for (pod, peer, service, other, itself) in
        [(POD, PEER, "10.96.0.10", OTHER, "127.0.0.1"), (POD6, PEER6, "fd00:96::10", OTHER6, "::1")]
    {
        for (what, from, uid, to, end) in [
            ("to a Service", &cable.pod, ROOT, addr(service, 80), End::Outbound),
            ("to a pod", &cable.pod, ROOT, addr(peer, 80), End::Outbound),
            ("to the application", &cable.peer, ROOT, addr(pod, 8080), End::Inbound),
            ("to nobody", &cable.peer, ROOT, addr(pod, 1), End::Inbound),
            ("to a peer's proxy", &cable.peer, ROOT, addr(pod, 4143), End::Inbound),
            ("the proxy's own", &cable.pod, PROXY, addr(peer, 80), End::Peer),
            ("to a spared port of the pod", &cable.peer, ROOT, addr(pod, 9999), End::Application),
            ("to a spared port", &cable.pod, ROOT, addr(peer, 3306), End::Peer),
            ("to the last of spared ports", &cable.pod, ROOT, addr(peer, 6010), End::Peer),
            ("to a spared network", &cable.pod, ROOT, addr(other, 80), End::Peer),
            ("from the pod to itself", &cable.pod, ROOT, addr(itself, 8080), End::Application),
            ("by its own address", &cable.pod, ROOT, addr(pod, 8080), End::Application),
        ] {
            let what = format!("{what}: {to}");
            let connected = from.connect(uid, None, to);
            let _connection = connected.unwrap_or_else(|error| panic!("{what}: {error}"));
            let (got, original) = ends.next().await;
            assert_eq!(got, end, "{what}");
            if matches!(end, End::Inbound | End::Outbound) {
                assert_eq!(original, Some(to), "{what}");
            }
        }
        let from = cable.peer.connect(ROOT, Some(other.parse().unwrap()), addr(pod, 8080));
        let _connection = from.unwrap_or_else(|error| panic!("from a spared network: {error}"));
        assert_eq!(ends.next().await.0, End::Application, "from a spared network, {other}");
    }
}

#[test]
fn nftables_redirect_with_net_admin_alone_and_twice_is_once() {
    run(async || {
        let cable = Cable::new();
        let only = ["setpriv", "--bounding-set=-all,+net_admin"];
        succeeds(&init(&cable, &only, &["--firewall=nftables"]));
        let once = rules(&cable);
        succeeds(&init(&cable, &only, &["--firewall", "nftables"]));
        assert_eq!(rules(&cable), once);
        is_redirected(&cable).await;
    });
}

#[test]
fn iptables_redirect_where_they_must_and_twice_is_once() {
    run(async || {
        let cable = Cable::new();
        succeeds(&init(&cable, &[], &["--firewall=iptables"]));
        let once = rules(&cable);
        succeeds(&init(&cable, &[], &["--firewall=iptables"]));
        assert_eq!(rules(&cable), once);
        is_redirected(&cable).await;
    });
}

/// A Pod whose port is open to anyone, not started, and who says so.
async fn open_pod() -> (ControlPlane, Pod, Files) {
    let control_plane = ControlPlane::start().await;
    let pod = server_pod();
    let anyone = message::server(vec![message::authorization("anyone", Client::Anyone)]);
    control_plane.inbound(&pod.workload(), PORT).set(anyone);
    let files = Files::new(&control_plane.ca.pem());
    (control_plane, pod, files)
}

/// The whole way with the real proxy: what a stranger sends to the pod reaches the application by it, and so does what the
/// application sends to the stranger; each by IPv4 and by IPv6.
#[test]
fn a_redirected_pod_is_served_by_its_proxy() {
    run(async || {
        let cable = Cable::here();
        // Told apart by its group, because the files that it reads are ours.
        succeeds(&init(&cable, &[], &["--proxy-uid=65533", "--proxy-gid=2102"]));
        let (control_plane, pod, files) = open_pod().await;
        let proxy = pair::proxy(&pod, &files).redirected(2102).ready().await;
        let application = Origin::start("application", "[::]:8080".parse().unwrap()).await;
        let request = |path| {
            let mut request = client::to(path);
            request.headers_mut().insert("host", "any.example".parse().unwrap());
            request
        };
        for (pod, peer) in [(POD, PEER), (POD6, PEER6)] {
            let (to_pod, to_peer) = (addr(pod, PORT), addr(peer, 80));
            let socket = TcpStream::from_std(cable.peer.connect(ROOT, None, to_pod).unwrap()).unwrap();
            Conn::http1_over(socket).await.unwrap().send(request("/in")).await.unwrap().is(200);
            assert_eq!(application.last().uri.path(), "/in", "{pod}");

            control_plane.outbound(&to_peer.to_string()).refuse(Code::NotFound);
            let stranger = TcpListener::from_std(cable.peer.listen(&to_peer.to_string())).unwrap();
            let stranger = Origin::on("stranger", stranger);
            let reply = client::send(to_peer, request("/out")).await.unwrap().is(200);
            assert_eq!(reply.text(), "stranger");
            assert_eq!(stranger.last().uri.path(), "/out", "{peer}");
        }
        for direction in ["inbound", "outbound"] {
            let label = format!("direction=\"{direction}\"");
            assert_eq!(proxy.metric("request_total", &[&label]).await, 2.0, "{direction}");
        }
    });
}

/// Of a Pod without IPv6, a loopback address of it is nobody's: the proxy listens for what there is.
#[test]
fn a_pod_without_ipv6_is_served_by_its_proxy() {
    run(async || {
        let cable = Cable::here();
        cable.pod.within(|| {
            fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").expect("a network of our own")
        });
        succeeds(&init(&cable, &[], &["--proxy-uid=65533", "--proxy-gid=2102"]));
        let (_control_plane, pod, files) = open_pod().await;
        let _proxy = pair::proxy(&pod, &files).redirected(2102).ready().await;
        let application = Origin::start("application", SocketAddr::from(([0; 4], PORT))).await;
        let socket = cable.peer.connect(ROOT, None, addr(POD, PORT)).unwrap();
        let mut request = client::to("/in");
        request.headers_mut().insert("host", "any.example".parse().unwrap());
        let socket = TcpStream::from_std(socket).unwrap();
        Conn::http1_over(socket).await.unwrap().send(request).await.unwrap().is(200);
        assert_eq!(application.last().uri.path(), "/in");
    });
}

#[test]
fn ipv6_is_left_alone_when_told_so() {
    run(async || {
        let cable = Cable::new();
        succeeds(&init(&cable, &[], &["--ipv6=false"]));
        let ends = Ends::of(&cable);
        for (ip, end) in [(POD, End::Inbound), (POD6, End::Application)] {
            let _connection = cable.peer.connect(ROOT, None, addr(ip, 8080)).unwrap();
            assert_eq!(ends.next().await.0, end, "{ip}");
        }
    });
}

#[test]
fn without_net_admin_it_says_so() {
    run(async || {
        let cable = Cable::new();
        let output = init(&cable, &["setpriv", "--bounding-set=-net_admin"], &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.contains("NET_ADMIN")), (Some(1), true), "{said}");
        assert!(!rules(&cable).contains("4143"), "something was redirected");
    });
}
