//! `mesh-proxy init` and `mesh-proxy start`: connections of a pod and to it, in real network namespaces, with the kernel's own rules.

use mesh_tests::{
    binaries,
    cable::{Cable, OTHER, OTHER6, PEER, PEER6, POD, POD6, original_dst},
    client::{self, Conn},
    control_plane::{
        ControlPlane,
        message::{self, Client},
    },
    grpc::Code,
    kernel::{self, Missing},
    origin::Origin,
    pair::{self, Files, PORT, server_pod},
    pod::{Pod, Proxy},
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
const LEGACY: [&str; 2] = ["iptables-legacy", "ip6tables-legacy"];
const SETTINGS: [&str; 3] = [
    "--inbound-ports-to-ignore=4190,4191,9999",
    "--outbound-ports-to-ignore=3306,6000-6010",
    "--subnets-to-ignore=10.9.0.0/16,fd00:9::/32",
];

/// The redirection that the stories are about, in a pod, with no right but the one that `mesh-init` has.
fn init(cable: &Cable, arguments: &[&str]) -> Output {
    init_on(cable, &[], "-all,+net_admin", arguments)
}

/// On a kernel without something, with other capabilities.
fn init_on(cable: &Cable, missing: &[Missing], capabilities: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set={capabilities}")).arg(binaries::path("mesh-proxy")).arg("init");
    kernel::without(missing, command.args(SETTINGS).args(arguments));
    cable.pod.within(|| command.output().expect("a program that starts"))
}

fn succeeds(output: &Output) {
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// What a program that knows the kernel's rules says, in the pod.
fn says(cable: &Cable, program: &str, arguments: &[&str]) -> String {
    let output = cable.pod.within(|| Command::new(program).args(arguments).output());
    let output = output.expect("nft and iptables are installed");
    succeeds(&output);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every rule of the pod, as the kernel has them, without counters.
fn rules(cable: &Cable) -> String {
    legacy_rules(cable) + &says(cable, "nft", &["-s", "list", "ruleset"])
}

fn legacy_rules(cable: &Cable) -> String {
    // The legacy tables are listed without the time of listing.
    LEGACY.map(|program| says(cable, program, &["-t", "nat", "-S"])).concat()
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

/// By one of the firewalls, with the right to change it and no other.
async fn redirects_and_twice_is_once(firewall: &str) {
    let cable = Cable::new();
    let arguments = ["--firewall", firewall];
    succeeds(&init(&cable, &arguments));
    let once = rules(&cable);
    succeeds(&init(&cable, &arguments));
    assert_eq!(rules(&cable), once);
    is_redirected(&cable).await;
}

#[test]
fn nftables_redirect_with_net_admin_alone_and_twice_is_once() {
    run(async || redirects_and_twice_is_once("nftables").await);
}

#[test]
fn iptables_redirect_with_net_admin_alone_and_twice_is_once() {
    run(async || redirects_and_twice_is_once("iptables").await);
}

#[test]
fn where_the_kernel_has_no_nftables_it_is_iptables() {
    run(async || {
        let cable = Cable::new();
        let output = init_on(&cable, &[Missing::Nftables], "-all,+net_admin", &[]);
        succeeds(&output);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.matches("by iptables").count(), 2, "{said}");
        assert_eq!(says(&cable, "nft", &["list", "ruleset"]).matches("mesh_proxy_init").count(), 0);
        is_redirected(&cable).await;
    });
}

#[test]
fn what_the_kernel_lacks_is_named() {
    run(async || {
        for (missing, firewall, causes) in [
            (&[Missing::Iptables][..], "iptables", &["ip_tables"][..]),
            (&[Missing::Nat], "iptables", &["table nat", "iptable_nat"]),
            (&[Missing::Extensions], "iptables", &["match tcp", "xt_tcpudp"]),
            (&[Missing::Nftables], "nftables", &["netfilter"]),
            (
                &[Missing::Nftables, Missing::Iptables],
                "auto",
                &["by nftables", "netfilter", "nor by iptables", "ip_tables"],
            ),
        ] {
            let cable = Cable::new();
            let output = init_on(&cable, missing, "-all,+net_admin", &["--firewall", firewall]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(causes.iter().all(|cause| said.contains(cause)), "{causes:?}: {said}");
            assert!(!rules(&cable).contains("4143"), "something was redirected: {said}");
        }
    });
}

/// Jumps lead by offsets to where their chains are, so each has to be told anew when something is put in between.
#[test]
fn iptables_of_others_stay_as_they_are() {
    run(async || {
        let cable = Cable::new();
        let others = |added: &[&str]| {
            for program in LEGACY {
                for rule in added {
                    let rule: Vec<_> = rule.split(' ').collect();
                    says(&cable, program, &[&["-t", "nat"], &rule[..]].concat());
                }
            }
        };
        let but_ours = || {
            let rules = legacy_rules(&cable);
            let rules = rules.lines().filter(|rule| !rule.contains("MESH_PROXY_INIT"));
            rules.map(str::to_owned).collect::<Vec<_>>()
        };
        others(&[
            "-N DNS",
            "-A DNS -p udp -m udp --dport 53 -j REDIRECT --to-ports 5353",
            "-N AWAY",
            "-A AWAY -p udp -j DNS",
            "-A PREROUTING -p udp -j DNS",
            "-A OUTPUT -p udp -g AWAY",
            // These only count: what they see goes on at the next rule, which is then ours.
            "-A PREROUTING -p tcp",
            "-A OUTPUT -p tcp",
        ]);
        let before = but_ours();
        succeeds(&init(&cable, &["--firewall=iptables", "--inbound-ports-to-ignore=1-20,30,40"]));
        assert_eq!(but_ours(), before);
        let once = legacy_rules(&cable);

        others(&[
            "-N BEFORE",
            "-A BEFORE -p tcp -m tcp --dport 7 -j RETURN",
            "-I PREROUTING -p tcp -j BEFORE",
            "-A POSTROUTING -p tcp -j BEFORE",
        ]);
        let before = but_ours();
        succeeds(&init(&cable, &["--firewall=iptables"]));
        assert_eq!(but_ours(), before);
        assert_ne!(legacy_rules(&cable), once, "the new settings count");
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
async fn is_served(cable: &Cable, control_plane: &ControlPlane, proxy: &Proxy) {
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
}

#[test]
fn a_redirected_pod_is_served_by_its_proxy() {
    run(async || {
        let cable = Cable::here();
        // Told apart by its group, because the files that it reads are ours.
        succeeds(&init(&cable, &["--proxy-uid=65533", "--proxy-gid=2102"]));
        let (control_plane, pod, files) = open_pod().await;
        let proxy = pair::proxy(&pod, &files).redirected(2102).ready().await;
        is_served(&cable, &control_plane, &proxy).await;
    });
}

#[test]
fn a_proxy_that_redirects_by_itself_serves_as_another_user_and_without_a_capability() {
    run(async || {
        let cable = Cable::here();
        let (control_plane, pod, files) = open_pod().await;
        let files = files.open();
        let proxy = pair::proxy(&pod, &files).redirecting(PROXY, "+net_admin,+setuid").ready().await;
        let status = |name| proxy.process.status(name);
        assert_eq!(status("Uid:"), [PROXY.to_string().as_str(); 4].join("\t"));
        for set in ["CapEff:", "CapPrm:", "CapAmb:"] {
            assert_eq!(status(set), "0000000000000000", "{set}");
        }
        assert_eq!(status("NoNewPrivs:"), "1");
        assert!(proxy.metric("process_open_fds", &[]).await > 0.0, "its /proc is closed to it");
        is_served(&cable, &control_plane, &proxy).await;
    });
}

#[test]
fn a_proxy_that_cannot_give_up_root_does_not_serve() {
    run(async || {
        let _cable = Cable::here();
        let (_control_plane, pod, files) = open_pod().await;
        for (uid, capabilities, why) in
            [(PROXY, "+net_admin", "SETUID"), (ROOT, "+net_admin,+setuid", "stay root")]
        {
            let mut proxy = pair::proxy(&pod, &files).redirecting(uid, capabilities).spawn();
            let status = proxy.process.exit(SOON).await;
            let said = proxy.process.log();
            assert_eq!((status.code(), said.contains(why)), (Some(1), true), "{said}");
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
        succeeds(&init(&cable, &["--proxy-uid=65533", "--proxy-gid=2102"]));
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
        for firewall in ["nftables", "iptables"] {
            let cable = Cable::new();
            succeeds(&init(&cable, &["--ipv6=false", "--firewall", firewall]));
            let ends = Ends::of(&cable);
            for (ip, end) in [(POD, End::Inbound), (POD6, End::Application)] {
                let _connection = cable.peer.connect(ROOT, None, addr(ip, 8080)).unwrap();
                assert_eq!(ends.next().await.0, end, "{firewall}: {ip}");
            }
        }
    });
}

#[test]
fn without_net_admin_it_says_so() {
    run(async || {
        for firewall in ["nftables", "iptables"] {
            let cable = Cable::new();
            let output = init_on(&cable, &[], "-net_admin", &["--firewall", firewall]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), said.contains("NET_ADMIN")), (Some(1), true), "{said}");
            assert!(!rules(&cable).contains("4143"), "something was redirected");
        }
    });
}
