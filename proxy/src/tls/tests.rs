//! Handshakes between our own configurations, and certificates that must not pass.

use super::{
    configs::Material,
    identity, peer_identity,
    testing::{Authority, Leaf},
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection,
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
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).map_err(|error| rustls::Error::General(error.to_string()))?;
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
        let answer = handshake(client_with(&ca, issuer, leaf), server(), WEB);
        assert!(answer.as_ref().is_err_and(|error| error.starts_with("server: ")), "{case}: {answer:?}");
    }
}

/// Catalogue S-02: however many authorities of the right name come with it.
#[test]
fn a_heap_of_intermediates_does_not_help() {
    let (ca, other) = (Authority::default(), Authority::default());
    let (key, mut chain) = other.issue(Leaf::named(CLIENT));
    chain.extend((0..100).map(|_| Authority::default().certificate()));
    let mut config = material(&ca, CLIENT).client(&[]).unwrap();
    config.client_auth_cert_resolver = shows(key, chain);
    let answer = handshake(config, material(&ca, WEB).server().unwrap(), WEB);
    assert!(answer.as_ref().is_err_and(|error| error.starts_with("server: ")), "{answer:?}");
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
