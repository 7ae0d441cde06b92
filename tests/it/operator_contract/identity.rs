//! `Identity.Certify`: who gets a certificate, and who never does.

use mesh_tests::{
    mesh::Operator,
    pki::{self, request},
    scripted_proxy::ScriptedProxy,
    story::run,
    world::World,
};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{fs, time::SystemTime};
use tonic::Code;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const WEB: &str = "web.demo.serviceaccount.identity.mesh.cluster.local";

fn world() -> World {
    World::new("demo").pod("web", "v1", &[80]).pod("db", "v1", &[5432])
}

async fn operator(flags: &[&str]) -> (Operator, ScriptedProxy, Vec<u8>) {
    let operator = Operator::start(&world(), flags).await;
    let proxy = ScriptedProxy::of("web-v1").await;
    let token = fs::read(operator.token("demo", "web")).expect("the operator wrote a token for web");
    (operator, proxy, token)
}

#[test]
fn a_certificate_has_the_one_name_asked_for_and_chains_to_the_anchors_file() {
    run(async || {
        let (operator, proxy, token) = operator(&[]).await;
        let (_key, csr) = request(&[WEB]);
        let response = proxy.certify(WEB, &token, &csr).await.unwrap();
        let (_, leaf) = X509Certificate::from_der(&response.leaf_certificate).expect("DER");
        let names = leaf.subject_alternative_name().unwrap().expect("a SAN").value.general_names.clone();
        assert_eq!(names, [GeneralName::DNSName(WEB)]);
        let valid_until = response.valid_until.expect("valid_until is required");
        assert_eq!(valid_until.seconds, leaf.validity().not_after.timestamp());
        let left_s = valid_until.seconds - unix_s();
        assert!((86_000..=86_400 + 60).contains(&left_s), "valid for {left_s} s more");
        assert!(!leaf.is_ca());

        let anchors = fs::read(operator.state().join("trust-anchors.pem")).unwrap();
        let anchors: Vec<_> = CertificateDer::pem_slice_iter(&anchors).map(|der| der.unwrap()).collect();
        let mut roots = rustls::RootCertStore::empty();
        for anchor in anchors {
            roots.add(anchor).unwrap();
        }
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            roots.into(),
            rustls::crypto::aws_lc_rs::default_provider().into(),
        )
        .build()
        .unwrap();
        let chain: Vec<CertificateDer<'_>> =
            response.intermediate_certificates.iter().map(|der| CertificateDer::from(der.clone())).collect();
        verifier
            .verify_client_cert(
                &CertificateDer::from(response.leaf_certificate.clone()),
                &chain,
                UnixTime::now(),
            )
            .expect("the leaf chains to the anchors");
    });
}

fn unix_s() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn the_lifetime_of_a_leaf_is_as_configured() {
    run(async || {
        let (_operator, proxy, token) = operator(&["--leaf-lifetime", "10m"]).await;
        let (_key, csr) = request(&[WEB]);
        let response = proxy.certify(WEB, &token, &csr).await.unwrap();
        let left_s = response.valid_until.unwrap().seconds - unix_s();
        assert!((500..=660).contains(&left_s), "{left_s} s");
    });
}

#[test]
fn nobody_gets_a_certificate_for_a_name_that_is_not_its_own() {
    run(async || {
        let (operator, proxy, token) = operator(&[]).await;
        let other_token = fs::read(operator.token("demo", "db")).unwrap();
        let db = "db.demo.serviceaccount.identity.mesh.cluster.local";
        let (_key, for_web) = request(&[WEB]);
        let (_key, for_db) = request(&[db]);
        let (_key, for_both) = request(&[WEB, db]);
        let (_key, for_any) = request(&["*.demo.serviceaccount.identity.mesh.cluster.local"]);
        let unknown = "web.demo.serviceaccount.identity.mesh.other.local";
        let (_key, for_unknown) = request(&[unknown]);
        for (what, name, token, csr) in [
            ("the wrong token", WEB, &other_token[..], &for_web),
            ("an empty token", WEB, b"", &for_web),
            ("an invented token", WEB, b"invented", &for_web),
            ("a token with something after it", WEB, &[&token[..], b"x"].concat(), &for_web),
            ("my token for another's name", db, &token, &for_db),
            ("a request for another's name", WEB, &token, &for_db),
            ("a request for two names", WEB, &token, &for_both),
            ("a wildcard", WEB, &token, &for_any),
            ("another trust domain", unknown, &token, &for_unknown),
            ("no name", "", &token, &for_web),
            ("a path for a name", "../../ca", &token, &for_web),
        ] {
            let status = proxy.certify(name, token, csr).await.expect_err(what);
            assert!(
                matches!(
                    status.code(),
                    Code::FailedPrecondition
                        | Code::InvalidArgument
                        | Code::Unauthenticated
                        | Code::PermissionDenied
                ),
                "{what}: {status}"
            );
        }
        proxy.certify(WEB, &token, &for_web).await.expect("and the right one gets it");
    });
}

#[test]
fn requests_that_no_proxy_makes_are_refused_and_do_no_harm() {
    run(async || {
        let (_operator, proxy, token) = operator(&[]).await;
        let (_key, good) = request(&[WEB]);
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        let pem =
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", "AAAA");
        for (what, csr) in [
            ("nothing", vec![]),
            ("a mebibyte of zeroes", vec![0; 1 << 20]),
            ("half a request", good[..good.len() / 2].to_vec()),
            ("PEM", pem.into_bytes()),
            ("a broken signature", forged),
            (
                "an address",
                with(|params| params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()))),
            ),
            (
                "a mail address",
                with(|params| {
                    params.subject_alt_names.push(SanType::Rfc822Name("a@b.c".try_into().unwrap()))
                }),
            ),
            (
                "a URI",
                with(|params| {
                    params.subject_alt_names.push(SanType::URI("spiffe://x/y".try_into().unwrap()))
                }),
            ),
            ("no name at all", with(|params| params.subject_alt_names.clear())),
            (
                "another common name",
                with(|params| params.distinguished_name.push(DnType::CommonName, "root")),
            ),
        ] {
            let status = proxy.certify(WEB, &token, &csr).await.expect_err(what);
            assert!(
                matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition),
                "{what}: {status}"
            );
        }
        proxy.certify(WEB, &token, &good).await.expect("a good request still works");
    });
}

#[test]
fn a_flood_for_one_name_is_held_off_and_nobody_else_is() {
    run(async || {
        let (operator, proxy, token) = operator(&[]).await;
        let (_key, csr) = request(&[WEB]);
        let mut refused = None;
        // A burst of 100 is what a rollout may need.
        for number in 0..1_000 {
            if let Err(status) = proxy.certify(WEB, &token, &csr).await {
                refused = Some((number, status));
                break;
            }
        }
        let (number, status) = refused.expect("a refusal");
        assert!(number >= 100 && status.code() == Code::ResourceExhausted, "number {number}: {status}");
        let db = "db.demo.serviceaccount.identity.mesh.cluster.local";
        let (_key, csr) = request(&[db]);
        let token = fs::read(operator.token("demo", "db")).unwrap();
        proxy.certify(db, &token, &csr).await.expect("another's certificate");
    });
}

/// A request for `WEB` by a key of its own, changed in one way.
fn with(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(vec![WEB.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn the_root_survives_a_restart_and_its_key_is_nobody_elses() {
    run(async || {
        use std::os::unix::fs::PermissionsExt;
        let (mut operator, proxy, token) = operator(&[]).await;
        let before = fs::read(operator.state().join("trust-anchors.pem")).unwrap();
        drop(proxy);
        operator.restart().await;
        assert_eq!(fs::read(operator.state().join("trust-anchors.pem")).unwrap(), before);
        assert_eq!(
            fs::read(operator.token("demo", "web")).unwrap(),
            token,
            "a running proxy's token stays good"
        );
        let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(operator.state().join("ca")), 0o700);
        for entry in fs::read_dir(operator.state().join("ca")).unwrap() {
            assert_eq!(mode(entry.unwrap().path()), 0o600);
        }
        assert_eq!(mode(operator.token("demo", "web")), 0o600);
        let (_key, csr) = pki::request(&[WEB]);
        let proxy = ScriptedProxy::of("web-v1").await;
        proxy.certify(WEB, &token, &csr).await.unwrap();
    });
}
