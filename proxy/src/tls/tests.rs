//! Handshakes between our own configurations, and certificates that must not pass.

use super::{
    NoIdentity,
    configs::Material,
    identity, peer_identity, refusal,
    testing::{Authority, Leaf},
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, ServerConfig, ServerConnection,
    client::ResolvesClientCert,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    io::{Read as _, Write as _},
    sync::Arc,
    time::{Duration, SystemTime},
};

const WEB: &str = "web.demo.serviceaccount.identity.mesh.cluster.local";
const CLIENT: &str = "client.demo.serviceaccount.identity.mesh.cluster.local";

/// What the server knows of the client after a handshake in memory, or why there was none.
fn handshake(
    client: ClientConfig,
    server: ServerConfig,
    name: &'static str,
) -> Result<Option<Arc<str>>, String> {
    let mut client = ClientConnection::new(Arc::new(client), name.try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server).map_err(|error| format!("server: {error}"))?;
        pass(&mut server, &mut client).map_err(|error| format!("client: {error}"))?;
    }
    assert_eq!(peer_identity(&client).as_deref(), Some(name));
    server.writer().write_all(b"ready").unwrap();
    pass(&mut server, &mut client).map_err(|error| format!("client: {error}"))?;
    let mut text = [0; 5];
    client.reader().read_exact(&mut text).unwrap();
    Ok(peer_identity(&server))
}

/// All that one side has to say now.
fn pass<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), rustls::Error> {
    let mut bytes = vec![];
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    feed(to, &bytes)
}

fn feed<S>(to: &mut ConnectionCommon<S>, mut bytes: &[u8]) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).map_err(|error| rustls::Error::General(error.to_string()))?;
        to.process_new_packets()?;
    }
    Ok(())
}

fn material(ca: &Authority, name: &str) -> Material {
    let (key, chain) = ca.issue(Leaf::named(name));
    Material::new(name, key, chain, ca.roots()).unwrap()
}

/// A client with any certificate, good or bad, that believes `ca`.
fn client_with(ca: &Authority, issuer: &Authority, leaf: Leaf) -> ClientConfig {
    let (key, chain) = issuer.issue(leaf);
    let mut config = material(ca, CLIENT).client(&[]).unwrap();
    config.client_auth_cert_resolver = shows(key, chain);
    config
}

fn shows(key: PrivateKeyDer<'static>, chain: Vec<CertificateDer<'static>>) -> Arc<dyn ResolvesClientCert> {
    let crypto = rustls::crypto::aws_lc_rs::default_provider();
    let certified = rustls::sign::CertifiedKey::from_der(chain, key, &crypto).unwrap();
    Arc::new(rustls::sign::SingleCertAndKey::from(certified))
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let ca = Authority::default();
    let client = material(&ca, CLIENT).client(&[mesh_api::names::TRANSPORT_ALPN]).unwrap();
    let peer = handshake(client, material(&ca, WEB).server().unwrap(), WEB).unwrap();
    assert_eq!(peer.as_deref(), Some(CLIENT));
}

#[test]
fn a_client_without_a_certificate_is_nobody() {
    let ca = Authority::default();
    let client = super::configs::anonymous_client(&ca.roots()).unwrap();
    assert_eq!(handshake(client, material(&ca, WEB).server().unwrap(), WEB).unwrap(), None);
}

#[test]
fn a_server_of_another_name_or_authority_is_refused() {
    let (ca, other) = (Authority::default(), Authority::default());
    let client = || material(&ca, CLIENT).client(&[]).unwrap();
    let wrong_name = handshake(client(), material(&ca, CLIENT).server().unwrap(), WEB).unwrap_err();
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    let wrong_ca = handshake(client(), material(&other, WEB).server().unwrap(), WEB).unwrap_err();
    assert!(wrong_ca.contains("invalid peer certificate"), "{wrong_ca}");
}

#[test]
fn a_wildcard_is_not_an_identity() {
    let ca = Authority::default();
    let (key, chain) = ca.issue(Leaf::named("*.demo.serviceaccount.identity.mesh.cluster.local"));
    assert!(Material::new(WEB, key, chain, ca.roots()).is_err());
}

#[test]
fn client_certificates_that_prove_nothing_are_refused() {
    let (ca, other) = (Authority::default(), Authority::default());
    let server = || material(&ca, WEB).server().unwrap();
    let now = SystemTime::now();
    let minute = Duration::from_secs(60);
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let cases: Vec<(&str, &Authority, Leaf)> = vec![
        ("other authority", &other, Leaf::named(CLIENT)),
        ("expired", &ca, Leaf { not_after: now - minute, ..Leaf::named(CLIENT) }),
        ("not yet valid", &ca, Leaf { not_before: now + minute, ..Leaf::named(CLIENT) }),
        (
            "server only",
            &ca,
            Leaf { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Leaf::named(CLIENT) },
        ),
        ("common name only", &ca, Leaf { names: vec![], common_name: Some(CLIENT), ..Leaf::named(CLIENT) }),
        ("two names", &ca, Leaf { names: vec![dns(CLIENT), dns(WEB)], ..Leaf::named(CLIENT) }),
        ("wildcard", &ca, Leaf::named("*.demo.serviceaccount.identity.mesh.cluster.local")),
        ("upper case", &ca, Leaf::named("Client.demo.serviceaccount.identity.mesh.cluster.local")),
        (
            "an address",
            &ca,
            Leaf { names: vec![SanType::IpAddress([10, 0, 0, 1].into())], ..Leaf::named(CLIENT) },
        ),
        (
            "a URI",
            &ca,
            Leaf {
                names: vec![SanType::URI("spiffe://mesh/web".try_into().unwrap())],
                ..Leaf::named(CLIENT)
            },
        ),
        ("a name with NUL", &ca, Leaf::named(&format!("{CLIENT}\0.evil.example"))),
        (
            "a certificate of 64 KB",
            &ca,
            Leaf { common_name: Some("x".repeat(65_000).leak()), ..Leaf::named(CLIENT) },
        ),
        (
            "an authority itself",
            &ca,
            Leaf { is_ca: IsCa::Ca(BasicConstraints::Unconstrained), ..Leaf::named(CLIENT) },
        ),
    ];
    for (case, issuer, leaf) in cases {
        refused(case, client_with(&ca, issuer, leaf), server());
    }
    let mut config = material(&ca, CLIENT).client(&[]).unwrap();
    let (key, chain) = Leaf::named(CLIENT).self_signed();
    config.client_auth_cert_resolver = shows(key, chain);
    refused("self-signed", config, server());
}

/// By the server, and cheaply: whoever has no certificate of ours must not be able to keep us busy.
fn refused(case: &str, client: ClientConfig, server: ServerConfig) {
    let before = cpu_time();
    let answer = handshake(client, server, WEB);
    let spent = cpu_time() - before;
    assert!(answer.as_ref().is_err_and(|error| error.starts_with("server: ")), "{case}: {answer:?}");
    assert!(spent <= Duration::from_millis(50), "{case} took {spent:?} of processor time");
}

/// What this thread has used of the processor.
fn cpu_time() -> Duration {
    // The kernel brings its count up to date when a thread gives way.
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Catalogue S-02: however many authorities come with it, all of the right name or each signed by the next.
#[test]
fn a_heap_of_intermediates_does_not_help() {
    let (ca, other) = (Authority::default(), Authority::default());
    let config = |key, chain| {
        let mut config = material(&ca, CLIENT).client(&[]).unwrap();
        config.client_auth_cert_resolver = shows(key, chain);
        config
    };
    let (key, mut same_name) = other.issue(Leaf::named(CLIENT));
    same_name.extend((0..200).map(|_| Authority::default().certificate()));
    refused("200 of the same name", config(key, same_name), material(&ca, WEB).server().unwrap());
    let (key, deep) = other.issue_below(100, Leaf::named(CLIENT));
    refused("100 deep", config(key, deep), material(&ca, WEB).server().unwrap());
}

/// What a peer's certificate was refused for is counted.
#[test]
fn a_refusal_has_a_label() {
    use rustls::CertificateError as Why;
    let other = |error| Why::Other(rustls::OtherError(Arc::new(error)));
    for (why, label) in [
        (rustls::Error::InvalidCertificate(Why::Expired), "tls_validity"),
        (rustls::Error::InvalidCertificate(Why::NotValidYet), "tls_validity"),
        (rustls::Error::InvalidCertificate(Why::UnknownIssuer), "tls_issuer"),
        (rustls::Error::InvalidCertificate(other(NoIdentity::ManyNames)), "tls_identity"),
        (rustls::Error::InvalidCertificate(Why::BadEncoding), "tls_certificate"),
        (rustls::Error::DecryptError, "tls"),
    ] {
        assert_eq!(refusal(&std::io::Error::other(why.clone())), label, "{why}");
    }
    assert_eq!(refusal(&std::io::ErrorKind::ConnectionReset.into()), "tls");
}

#[test]
fn an_unknown_application_protocol_is_refused() {
    let ca = Authority::default();
    let long = [b'x'; 255];
    let many: Vec<&[u8]> = vec![&long; 200];
    for alpn in [&[&b"http/1.1"[..]][..], &[b"H2"], &[b"\xff\0"], &many] {
        let client = material(&ca, CLIENT).client(alpn).unwrap();
        let answer = handshake(client, material(&ca, WEB).server().unwrap(), WEB);
        assert!(answer.is_err(), "{} names", alpn.len());
    }
}

/// Catalogue S-01.
#[test]
fn nothing_older_than_tls_1_3_is_spoken() {
    let ca = Authority::default();
    let mut hello = vec![];
    let client = material(&ca, CLIENT).client(&[]).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), WEB.try_into().unwrap()).unwrap();
    client.write_tls(&mut hello).unwrap();
    // The extension `supported_versions` with TLS 1.3 in it.
    let versions = hello.windows(7).position(|w| w == [0, 43, 0, 3, 2, 3, 4]).unwrap();
    for (minor, spoken) in [(1, false), (2, false), (3, false), (4, true)] {
        hello[versions + 6] = minor;
        let server = material(&ca, WEB).server().unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let read = server.read_tls(&mut hello.as_slice()).unwrap();
        assert_eq!(read, hello.len());
        assert_eq!(server.process_new_packets().is_ok(), spoken, "version 3.{minor}");
    }
}

/// Catalogue S-04: how a ClientHello is cut into records changes nothing but the work.
#[test]
fn a_hello_in_records_of_one_byte_is_a_hello() {
    let ca = Authority::default();
    let client = material(&ca, CLIENT).client(&[]).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), WEB.try_into().unwrap()).unwrap();
    let mut hello = vec![];
    client.write_tls(&mut hello).unwrap();
    let in_bytes: Vec<u8> = hello[5..].iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect();
    assert_eq!(crate::detect::sni(&in_bytes), crate::detect::Sni::Name(WEB.into()));
    let mut server = ServerConnection::new(Arc::new(material(&ca, WEB).server().unwrap())).unwrap();
    feed(&mut server, &in_bytes).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut server, &mut client).unwrap();
        pass(&mut client, &mut server).unwrap();
    }
    assert_eq!(peer_identity(&server).as_deref(), Some(CLIENT));
}

/// Catalogue S-04: a record is 16 KiB, and 2 KiB more at most where it is encrypted (RFC 8446 §5, and TLS 1.2 before it).
#[test]
fn a_record_that_is_too_long_is_refused() {
    for (length, spoken) in [(16_384, true), (18_433, false)] {
        let [high, low] = u16::to_be_bytes(length);
        let mut record = vec![0x16, 3, 1, high, low, 1, 0, 0xff, 0xff];
        record.resize(5 + usize::from(length), 0);
        let server = material(&Authority::default(), WEB).server().unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        assert_eq!(feed(&mut server, &record).is_ok(), spoken, "{length} bytes");
    }
}

/// Catalogue S-04: keys are updated as often as there is something to say under them; for its own sake it is refused, and cheaply.
#[test]
fn updates_of_keys_are_followed_and_a_flood_of_them_is_refused() {
    let ca = Authority::default();
    let client = material(&ca, CLIENT).client(&[]).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), WEB.try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(material(&ca, WEB).server().unwrap())).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server).unwrap();
        pass(&mut server, &mut client).unwrap();
    }
    for number in 0..20_u8 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(&[number]).unwrap();
        pass(&mut client, &mut server).unwrap();
        pass(&mut server, &mut client).unwrap();
        let mut byte = [0];
        server.reader().read_exact(&mut byte).unwrap();
        assert_eq!(byte, [number]);
    }
    let mut updates = vec![];
    for _ in 0..10_000 {
        client.refresh_traffic_keys().unwrap();
        client.write_tls(&mut updates).unwrap();
    }
    let before = cpu_time();
    let answer = feed(&mut server, &updates);
    let spent = cpu_time() - before;
    assert!(matches!(answer, Err(rustls::Error::PeerMisbehaved(_))), "{answer:?}");
    assert!(spent <= Duration::from_millis(50), "{spent:?}");
}

/// Catalogue S-06: a client that would resume a session gets no ticket to do it with, so that every connection proves anew who it is.
#[test]
fn nothing_is_resumed() {
    let ca = Authority::default();
    let mut config = material(&ca, CLIENT).client(&[]).unwrap();
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let (config, server) = (Arc::new(config), Arc::new(material(&ca, WEB).server().unwrap()));
    for connection in 1..=3 {
        let mut client = ClientConnection::new(config.clone(), WEB.try_into().unwrap()).unwrap();
        assert!(client.early_data().is_none(), "connection {connection}");
        let mut server = ServerConnection::new(server.clone()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            pass(&mut client, &mut server).unwrap();
            pass(&mut server, &mut client).unwrap();
        }
        // A ticket would come with what the server says next.
        server.writer().write_all(b"ready").unwrap();
        pass(&mut server, &mut client).unwrap();
        let full =
            |kind| matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
        assert!(full(client.handshake_kind()) && full(server.handshake_kind()), "connection {connection}");
        assert_eq!(client.tls13_tickets_received(), 0);
        assert_eq!(peer_identity(&server).as_deref(), Some(CLIENT));
    }
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    let ca = Authority::default();
    let (_, chain) = ca.issue(Leaf::named(WEB));
    let (other_key, _) = ca.issue(Leaf::named(WEB));
    assert!(Material::new(WEB, other_key, chain, ca.roots()).is_err());
}

proptest::proptest! {
    #[test]
    fn garbage_is_no_identity(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        proptest::prop_assert!(identity(&bytes.into()).is_err());
    }
}
