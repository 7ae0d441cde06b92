use super::{keys::ISSUER_LIFE, *};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CustomExtension, DnType};
use rustls_pki_types::UnixTime;
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

const NAME: &str = "web.shop.serviceaccount.identity.mesh.cluster.local";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn open(dir: &Path, leaf: Duration) -> Authority {
    Authority::open(dir, "cluster.local", leaf, SystemTime::now()).unwrap()
}

/// A request as a proxy makes it, changed in one way.
fn request_by(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    request_by(&KeyPair::generate().unwrap(), change)
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

#[test]
fn a_leaf_has_one_name_its_own_serial_and_a_chain_to_the_anchor() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path(), DAY);
    let now = SystemTime::now();
    let csr = Csr::read(&request(|_| {})).unwrap();
    let leaf = authority.sign(&csr, now).unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&leaf.der).unwrap();
    let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(format!("{names:?}"), format!("[DNSName({NAME:?})]"));
    assert!(!cert.is_ca() && cert.subject().iter().next().is_none());
    let ends = cert.validity().not_after.timestamp();
    let said = leaf.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(ends, i64::try_from(said.as_secs()).unwrap());
    assert_eq!(cert.validity().not_before.timestamp() + 20, ends - 86_400, "clocks may differ");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.trust_anchors_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let chain: Vec<CertificateDer<'_>> = leaf.intermediates.iter().map(|der| der.clone().into()).collect();
    verifier.verify_client_cert(&leaf.der.clone().into(), &chain, UnixTime::now()).unwrap();

    let serials: BTreeSet<Vec<u8>> = (0..50)
        .map(|_| authority.sign(&csr, now).unwrap().der)
        .map(|der| x509_parser::parse_x509_certificate(&der).unwrap().1.raw_serial().to_vec())
        .collect();
    assert_eq!(serials.len(), 50);
    assert!(serials.iter().filter(|serial| serial.len() == 16).count() > 45, "128 bits, less leading zeros");
}

#[test]
fn a_leaf_never_outlives_its_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path(), 10 * ISSUER_LIFE);
    let csr = Csr::read(&request(|_| {})).unwrap();
    let leaf = authority.sign(&csr, SystemTime::now()).unwrap();
    assert_eq!(leaf.not_after, authority.issuer_ends());
    let late = authority.issuer_ends() + Duration::from_secs(1);
    assert!(matches!(authority.sign(&csr, late), Err(SignError::IssuerExpired)));
}

#[test]
fn keys_are_kept_and_nobody_else_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), DAY);
    let again = open(dir.path(), DAY);
    assert_eq!(first.trust_anchors_pem(), again.trust_anchors_pem());
    assert_eq!(first.chain, again.chain);
    assert_eq!(fs::read_to_string(dir.path().join("trust-anchors.pem")).unwrap(), first.anchors_pem);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("ca")), 0o700);
    for entry in fs::read_dir(dir.path().join("ca")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert!(!format!("{first:?}").contains("key"), "{first:?}");
}

#[test]
fn an_old_issuer_is_replaced_and_a_broken_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), DAY);
    let soon_over = SystemTime::now() + ISSUER_LIFE - Duration::from_secs(24 * 3600);
    let later = Authority::open(dir.path(), "cluster.local", DAY, soon_over).unwrap();
    assert_eq!(first.anchors_pem, later.anchors_pem);
    assert!(later.issuer_ends() > first.issuer_ends());
    let refused = |wanted: &str| {
        let error = Authority::open(dir.path(), "cluster.local", DAY, SystemTime::now()).unwrap_err();
        assert!(format!("{error:#}").contains(wanted), "{error:#}");
    };
    fs::copy(dir.path().join("ca/issuer.key"), dir.path().join("ca/root.key")).unwrap();
    refused("ca/root.key is not the key of");
    fs::write(dir.path().join("ca/root.key"), "rubbish").unwrap();
    refused("ca/root.key holds no private key");
    fs::write(dir.path().join("ca/root.pem"), "rubbish").unwrap();
    fs::remove_file(dir.path().join("ca/root.key")).unwrap();
    open(dir.path(), DAY);
}

#[test]
fn an_issuer_of_a_lost_root_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), DAY);
    fs::remove_file(dir.path().join("ca/root.pem")).unwrap();
    let second = open(dir.path(), DAY);
    assert_ne!(first.anchors_pem, second.anchors_pem);
    assert_ne!(first.chain, second.chain);
}

/// Row C-01 of what attackers send: none of these is ever signed.
#[test]
fn requests_that_no_proxy_makes_are_refused() {
    let good = request(|_| {});
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let extension = |oid: &[u64], content: &[u8]| {
        request(|params| {
            params.custom_extensions.push(CustomExtension::from_oid_content(oid, content.to_vec()))
        })
    };
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", "AAAA");
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("a mebibyte", vec![0x30; 1 << 20]),
        ("truncated", good[..good.len() - 10].to_vec()),
        ("something after it", [&good[..], b"x"].concat()),
        ("PEM", pem.into_bytes()),
        ("a wrong signature", changed(good.len() - 4)),
        ("another key than the signer's", changed(60)),
        ("P-384", request_by(&p384, |_| {})),
        ("Ed25519", request_by(&ed25519, |_| {})),
        ("no name", request(|params| params.subject_alt_names.clear())),
        ("two names", request(|params| params.subject_alt_names.push(dns("b")))),
        ("a wildcard", request(|params| params.subject_alt_names = vec![dns("*.shop")])),
        ("a trailing dot", request(|params| params.subject_alt_names = vec![dns("a.b.")])),
        ("upper case", request(|params| params.subject_alt_names = vec![dns("A.b")])),
        ("a NUL", request(|params| params.subject_alt_names = vec![dns("a\0.b")])),
        ("a space", request(|params| params.subject_alt_names = vec![dns("a b")])),
        ("an empty label", request(|params| params.subject_alt_names = vec![dns("a..b")])),
        ("a long label", request(|params| params.subject_alt_names = vec![dns(&"a".repeat(64))])),
        (
            "an address",
            request(|params| params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()))),
        ),
        (
            "a URI",
            request(|params| params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()))),
        ),
        (
            "a mail address",
            request(|params| params.subject_alt_names.push(SanType::Rfc822Name("a@b".try_into().unwrap()))),
        ),
        ("another subject", request(|params| params.distinguished_name.push(DnType::CommonName, "root"))),
        (
            "an organization",
            request(|params| params.distinguished_name.push(DnType::OrganizationName, "root")),
        ),
        ("CA:TRUE", extension(&[2, 5, 29, 19], &[0x30, 0x03, 0x01, 0x01, 0xff])),
        ("key usage", extension(&[2, 5, 29, 15], &[0x03, 0x02, 0x02, 0x04])),
        ("extended key usage", extension(&[2, 5, 29, 37], &[0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x25, 0x00])),
        ("an unknown extension", extension(&[1, 2, 3, 4], &[0x05, 0x00])),
        (
            "200 extensions",
            request(|params| {
                params.custom_extensions = (0..200)
                    .map(|number| CustomExtension::from_oid_content(&[1, 2, 3, number], vec![5, 0]))
                    .collect();
            }),
        ),
    ];
    for (what, der) in rows {
        assert!(Csr::read(&der).is_err(), "{what}");
    }
    assert_eq!(Csr::read(&good).unwrap().name, NAME);
    let named = request(|params| params.distinguished_name.push(DnType::CommonName, NAME));
    assert_eq!(Csr::read(&named).unwrap().name, NAME);
}

#[test]
fn a_flipped_byte_never_changes_what_is_signed() {
    let good = request(|_| {});
    let wanted = Csr::read(&good).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        // Some bytes say nothing, such as the count of unused bits of a signature.
        if let Ok(read) = Csr::read(&bytes) {
            assert_eq!((&read.name, &read.public_key), (&wanted.name, &wanted.public_key), "byte {at}");
        }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// As Go and OpenSSL write a key of P-256: RFC 5915, with the curve.
fn sec1(key: &KeyPair) -> String {
    let pkcs8 = key.serialize_der();
    let head = [0x02, 1, 1, 0x04, 32];
    let at = pkcs8.windows(5).position(|window| window == head).unwrap() + head.len();
    let curve = [0xa0, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 0xa1, 68, 0x03, 66, 0];
    let der = [&[0x30, 0x77][..], &head, &pkcs8[at..at + 32], &curve, key.public_key_raw()].concat();
    pem("EC PRIVATE KEY", &der)
}

/// Keys of somebody else's, whose issuer has this one.
fn foreign(key: &KeyPair, key_pem: String) -> Keys {
    let own = Keys::generate("cluster.local", SystemTime::now()).unwrap();
    let root_der = CertificateDer::from_pem_slice(own.anchors_pem.as_bytes()).unwrap();
    let root_key = KeyPair::from_pem(own.root_key_pem.as_deref().unwrap()).unwrap();
    let root = Issuer::from_ca_cert_der(&root_der, root_key).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer_pem = params.signed_by(key, &root).unwrap().pem();
    Keys { root_key_pem: None, issuer_pem, issuer_key_pem: key_pem, ..own }
}

/// cert-manager writes PKCS #1 and SEC 1 unless it is told otherwise, and OpenSSL the curve before the key.
#[test]
fn an_issuers_key_may_be_written_in_any_of_the_usual_ways() {
    let key = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    let (p256, p384, rsa) =
        (KeyPair::generate().unwrap(), key(&rcgen::PKCS_ECDSA_P384_SHA384), key(&rcgen::PKCS_RSA_SHA256));
    // After the head of PKCS #8, which for 2048 bits has this length.
    let pkcs1 = pem("RSA PRIVATE KEY", &rsa.serialize_der()[26..]);
    let parameters = pem("EC PARAMETERS", &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    for (what, key, written) in [
        ("ECDSA, PKCS #8", &p256, p256.serialize_pem()),
        ("ECDSA, SEC 1", &p256, sec1(&p256)),
        ("ECDSA, SEC 1 after its curve", &p256, format!("{parameters}{}", sec1(&p256))),
        ("ECDSA of 384 bits, PKCS #8", &p384, p384.serialize_pem()),
        ("RSA, PKCS #8", &rsa, rsa.serialize_pem()),
        ("RSA, PKCS #1", &rsa, pkcs1),
    ] {
        let taken = Authority::new(&foreign(key, written), DAY, SystemTime::now());
        assert!(taken.is_ok(), "{what}: {:#}", taken.unwrap_err());
    }
}

#[test]
fn an_issuers_key_that_cannot_be_read_is_told_how_to_be_written() {
    let key = KeyPair::generate().unwrap();
    for written in [
        String::new(),
        "no key".into(),
        pem("ENCRYPTED PRIVATE KEY", &[0x30, 0]),
        pem("PRIVATE KEY", &[0x30, 0]),
        pem("OPENSSH PRIVATE KEY", b"openssh-key-v1"),
    ] {
        let refused = Authority::new(&foreign(&key, written.clone()), DAY, SystemTime::now()).unwrap_err();
        assert!(
            format!("{refused:#}").contains("cert-manager: privateKey: {algorithm: ECDSA, encoding: PKCS8}"),
            "{written}: {refused:#}"
        );
    }
}
